// Points at which the process kills itself when it is told to, so that tests see what a crash leaves behind just there.
import { writeSync } from "node:fs";

/**
 * All points, each placed once in the code. A name says between which two steps it stands: what came before the slash
 * has been done, what comes after has not.
 */
export const FAILPOINTS = [
  // The first start.
  "cluster-made/in-place", // the embedded database is built | renamed to where it is looked for
  "cluster-in-place/postmaster", // the database's files are there | its server starts
  "postmaster/role-made", // the database's server runs | the role that we work as is made
  "role-made/database-made", // the role is there | its database is made
  "own-key-written/in-place", // development mode's wrapping key is on the disk | it has its name
  "keys-opened/log-opened", // the table of data keys is there | the log is
  "log-opened/read-models-opened", // the log has its first event | the read models' schema is there
  "group-opened/tables-built", // the group of read models is registered | its tables are built
  "job-tables/reactors-placed", // the schema `jobs` is made | the reactors' checkpoint is set to the log's tip
  "reactors-placed/lead", // the reactors' checkpoint is set | somebody runs them
  "lease/lead", // a lease is taken | the work under it begins

  // Appending.
  "key-durable/append", // a new data key is in its table | the event that it seals is appended
  "decide/append", // a batch is decided and encoded | it is handed to the log
  "flush-sent/commit-known", // a flush of the Postgres log is on its way | its outcome is known
  "commit-known/subscribers-notified", // a flush is committed | this process notifies subscriptions and callers
  "append-sent/answered", // an append is on its way to EventStoreDB | its outcome is known
  "append/answer", // an append is known to be in the log | whoever waits for it is answered
  "snapshot-due/written", // a stream has become long enough | its snapshot is written
  "snapshot-written/next-command", // a snapshot is written | the stream goes on

  // Requests and sockets.
  "reply-made/sent", // a request has had its effect | its answer is sent
  "holder-known/claimed", // it is known who holds a claim | it is claimed for a room
  "external-id-claimed/pair-claimed", // a direct room has its external id | it has its pair of people
  "claimed/room-made", // a room's names are claimed | the room is made
  "dedupe-taken/requested", // a notification holds its deduplication key | it is in the log
  "taken-part/users-ensured", // a membership or a message is in the log | its user exists
  "growing-closed/ended", // a growing message takes no more text | its whole content is in the log
  "redriven/next-redriven", // one delivery of a notification starts again | the next one does
  "frames-made/published", // events of a room became frames | its subscribers get them
  "notification-framed/sent", // a live notification became a frame | its user gets it
  "open-notifications-read/sent", // a user's open notifications are read | they are sent
  "frame-carried-out/ok-sent", // a read marker or acknowledgement is in the log | its sender is answered

  // Read models.
  "rows-folded/rows-committed", // a batch is folded | its rows and the checkpoint are written
  "rows-committed/waiters-notified", // rows and checkpoint are committed | waiters on this node are notified
  "waiters-notified/nodes-notified", // waiters on this node are notified | other nodes are
  "shadow-rows/page-commit", // a page of a build is written | it is committed
  "shadow-rows/indexes", // a build holds most rows | its indexes are made
  "built/swap", // a build has caught up | it takes its place
  "swap/commit", // the tables are swapped | that is committed
  "swap-committed/done", // the swap is committed | its caller is answered

  // Reactors and the sweep.
  "jobs-due/checkpoint-moved", // the jobs that events lead to are known | the reactors' checkpoint is moved
  "checkpoint-moved/enqueued", // the checkpoint is moved | the jobs are enqueued, in the same transaction
  "enqueued/commit", // the jobs are enqueued | that is committed with the checkpoint
  "jobs-committed/workers-notified", // jobs and checkpoint are committed | the workers are woken
  "sweep-found/enqueued", // the sweep found what has no job | it enqueues it
  "sweep-enqueued/next-page", // a page of it is enqueued | the next one is looked for

  // Jobs.
  "later-taken/enqueued", // jobs that are due are taken | they go into their queue
  "later-enqueued/deleted", // they are in their queue | they leave the one for later, in the same transaction
  "jobs-fetched/round-noted", // a worker's jobs have come | their round is noted, in the same transaction
  "round-noted/taken", // their round is noted | they are the worker's
  "page-redriven/next-page", // a page of a redrive has started again | the next one is selected
  "job-taken/handled", // a job is in a worker's hands | it is worked on
  "job-handled/settled", // a job is done | the queue knows
  "put-back-deleted/inserted", // a job that comes again left its queue | it is in one again, in the same transaction
  "drained/handed-back", // a stopping worker emptied its lists | what waited is handed back

  // Notifications and deliveries.
  "released/job-done", // a scheduled notification is released | its job ends
  "scheduled-posted/recorded", // the room has decided about a message for later | its own stream says so
  "gate-decided/requested", // a throttle or a collapse key has decided about a delivery | it is requested
  "page-requested/next-page", // a page of deliveries is requested | the next one is
  "all-requested/routed", // all deliveries are requested | the notification says so
  "routed/job-done", // the notification says so | its job ends
  "page-stopped/next-page", // a page of deliveries is stopped | the next one is
  "attempt-started/send", // an attempt is open in the log | something leaves
  "send/outcome", // it has left and was answered | the outcome is recorded
  "outcome/job-done", // the outcome and what follows from it are in the log | the job ends, the next one is made
  "fell-back/mail-job", // a delivery fell back | the job of its mail is made
  "mail-requested/job-done", // the mail is requested | its job ends
  "expired/job-done", // a delivery expired | its job ends

  // Webhook endpoints.
  "events-pushed/requested", // events were handed to the endpoints that go with the fan-out | their deliveries are requested
  "events-requested/checkpoint-moved", // deliveries to endpoints are requested | the fan-out's checkpoint is past their events

  // Moving a log.
  "events-exported/keys-exported", // the events are in an export's file | their keys are
  "keys-imported/events-appended", // the keys of an export are here | its events are
  "append-imported/next-append", // some of an export's events are in the log | the next ones are
] as const;
export type FailpointName = (typeof FAILPOINTS)[number];

type Armed = { readonly name: FailpointName; readonly hit: number };

/** Reads `<name>` or `<name>:<which hit>`; undefined for what is neither. */
function parse(text: string): Armed | undefined {
  const [, wanted, hit = "1"] = /^([^:]*)(?::([1-9]\d{0,8}))?$/.exec(text) ?? [];
  const name = FAILPOINTS.find((one) => one === wanted);
  return name === undefined ? undefined : { name, hit: Number(hit) };
}

// Read here and not from the configuration, which checks it, so that it is a constant for whoever passes a point.
const armed = parse(process.env.CHATAPI_FAILPOINT ?? "");
let hits = 0;

/** Kills the process when this is the point, and the hit of it, that CHATAPI_FAILPOINT names. Else does nothing. */
export function failpoint(name: FailpointName): void {
  if (armed === undefined) return;
  if (armed.name !== name) return;
  hits += 1;
  if (hits !== armed.hit) return;
  writeSync(2, `failpoint ${name}\n`);
  process.kill(process.pid, "SIGKILL");
  // The signal may take a moment; nothing may run in it.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
