// Rounds: each client's jobs are spread over rounds, so that fetching in order of rounds is taking turns.
import type { Priority } from "../contract/resources.ts";
import type { Sql } from "./database.ts";
import type { Job, Queue } from "./jobs.ts";

type Line = { readonly client: string; readonly priority: Priority; readonly jobs: Job[] };

/**
 * Gives each job its round: the next one of its client, never before the current one. Each of a client's priorities
 * has turns of its own, so that an urgent job does not stand behind a flood of the same client. The rows stay locked
 * until the transaction ends; they are taken in one order, so that two of them cannot block each other.
 */
export async function takeRounds(sql: Sql, queue: Queue, jobs: readonly Job[]): Promise<ReadonlyMap<Job, number>> {
  const lines = new Map<string, Line>();
  for (const job of jobs) {
    const key = `${job.client} ${job.priority}`;
    const line = lines.get(key) ?? { client: job.client, priority: job.priority, jobs: [] };
    lines.set(key, line);
    line.jobs.push(job);
  }
  const sorted = [...lines].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, line]) => line);
  const { rows } = await sql.executeSql(
    `insert into jobs.rounds as known (queue, client, priority, last)
     select $1, line.client, line.priority, now.round + line.jobs - 1
     from unnest($2::text[], $3::text[], $4::int[]) with ordinality as line (client, priority, jobs, place)
     cross join (select coalesce(max(round), 1) as round from jobs.current_rounds where queue = $1) as now
     order by line.place
     on conflict (queue, client, priority) do update
       set last = greatest(excluded.last, known.last + excluded.last + 1 - (
         select coalesce(max(round), 1) from jobs.current_rounds where queue = $1))
     returning client, priority, last`,
    [
      queue,
      sorted.map((line) => line.client),
      sorted.map((line) => line.priority),
      sorted.map((line) => line.jobs.length),
    ],
  );
  const rounds = new Map<Job, number>();
  for (const row of rows) {
    const line = lines.get(`${String(row.client)} ${String(row.priority)}`);
    line?.jobs.forEach((job, index) => {
      rounds.set(job, Number(row.last) - line.jobs.length + 1 + index);
    });
  }
  return rounds;
}

/** Takes note that jobs of this round have been taken: new ones do not go before it. */
export async function reachRound(sql: Sql, queue: Queue, round: number): Promise<void> {
  await sql.executeSql(
    `insert into jobs.current_rounds as known (queue, round) values ($1, $2)
     on conflict (queue) do update set round = excluded.round where known.round < excluded.round`,
    [queue, round],
  );
}

/** Forgets clients whose turn would be the current round anyway. */
export async function forgetRounds(sql: Sql): Promise<void> {
  await sql.executeSql(
    `delete from jobs.rounds using jobs.current_rounds
     where rounds.queue = current_rounds.queue and rounds.last < current_rounds.round`,
  );
}
