// What members did with the messages of a room, as its state keeps it: reactions, and replies in threads.
import { z } from "zod";
import { type Subject, SubjectSchema } from "../contract/ids.ts";
import { NAMED_USERS } from "../contract/messages.ts";
import type { ReactionData, Reply } from "./message-events.ts";
import { PersistentMap } from "./persistent-map.ts";

/** One emoji on a message, and who reacted with it, first ones first. */
type Reaction = { readonly emoji: string; readonly by: readonly Subject[] };
/** In the order in which the emoji came. */
type Reactions = readonly Reaction[];

/** The replies of a thread that are not deleted: their seqs upwards, and how many are whose, first ones first. */
type Thread = {
  readonly seqs: readonly number[];
  readonly by: readonly { readonly sender: Subject; readonly count: number }[];
};

/**
 * By the seq of a message's posting. A message that once had a reaction or reply keeps its entry. Each subject is one
 * string in memory, however often it occurs: `subjects` holds it.
 */
export type Responses = {
  readonly reactions: PersistentMap<number, Reactions>;
  readonly threads: PersistentMap<number, Thread>;
  readonly subjects: PersistentMap<Subject, Subject>;
  /** All reactions and replies together. */
  readonly size: number;
};

export const NO_RESPONSES: Responses = {
  reactions: PersistentMap.empty(),
  threads: PersistentMap.empty(),
  subjects: PersistentMap.empty(),
  size: 0,
};

const NO_REACTIONS: Reactions = [];
const NO_THREAD: Thread = { seqs: [], by: [] };

/** The reactions to a message now. */
export const reactionsTo = ({ reactions }: Responses, messageSeq: number): Reactions =>
  reactions.get(messageSeq) ?? NO_REACTIONS;

/** The thread under a message now. */
export const threadUnder = ({ threads }: Responses, messageSeq: number): Thread => threads.get(messageSeq) ?? NO_THREAD;

export const hasReacted = (responses: Responses, { messageSeq, emoji, subject }: Omit<ReactionData, "id" | "user">) =>
  reactionsTo(responses, messageSeq).some((one) => one.emoji === emoji && one.by.includes(subject));

/** Everybody whom the message names because of what they did with it. */
export const respondersTo = (responses: Responses, messageSeq: number): readonly Subject[] => [
  ...reactionsTo(responses, messageSeq).flatMap(({ by }) => by.slice(0, NAMED_USERS)),
  ...threadUnder(responses, messageSeq)
    .by.slice(0, NAMED_USERS)
    .map(({ sender }) => sender),
];

/** Whether anybody ever did anything with the message. */
export const hasResponses = ({ reactions, threads }: Responses, messageSeq: number): boolean =>
  reactions.has(messageSeq) || threads.has(messageSeq);

function known(responses: Responses, subject: Subject): Responses & { readonly subject: Subject } {
  const there = responses.subjects.get(subject);
  if (there !== undefined) return { ...responses, subject: there };
  return { ...responses, subjects: responses.subjects.set(subject, subject), subject };
}

export function withReaction(responses: Responses, data: ReactionData): Responses {
  if (hasReacted(responses, data)) return responses;
  const { subject, ...all } = known(responses, data.subject);
  const before = reactionsTo(all, data.messageSeq);
  const isNew = before.every(({ emoji }) => emoji !== data.emoji);
  const after = isNew
    ? [...before, { emoji: data.emoji, by: [subject] }]
    : before.map((one) => (one.emoji === data.emoji ? { ...one, by: [...one.by, subject] } : one));
  return { ...all, reactions: all.reactions.set(data.messageSeq, after), size: all.size + 1 };
}

export function withoutReaction(responses: Responses, data: ReactionData): Responses {
  if (!hasReacted(responses, data)) return responses;
  const after = reactionsTo(responses, data.messageSeq)
    .map((one) => (one.emoji === data.emoji ? { ...one, by: one.by.filter((by) => by !== data.subject) } : one))
    .filter(({ by }) => by.length > 0);
  return { ...responses, reactions: responses.reactions.set(data.messageSeq, after), size: responses.size - 1 };
}

/** A reply that was posted at `seq`, or is restored. */
export function withReply(responses: Responses, reply: Reply, seq: number): Responses {
  const { subject: sender, ...all } = known(responses, reply.sender);
  const { seqs, by } = threadUnder(all, reply.to);
  const at = seqs.findLastIndex((one) => one < seq) + 1;
  if (seqs[at] === seq) return responses;
  const thread = {
    seqs: seqs.toSpliced(at, 0, seq),
    by: by.some((one) => one.sender === sender)
      ? by.map((one) => (one.sender === sender ? { sender, count: one.count + 1 } : one))
      : [...by, { sender, count: 1 }],
  };
  return { ...all, threads: all.threads.set(reply.to, thread), size: all.size + 1 };
}

/** A reply that was deleted. */
export function withoutReply(responses: Responses, { to, sender }: Reply, seq: number): Responses {
  const { seqs, by } = threadUnder(responses, to);
  if (!seqs.includes(seq)) return responses;
  const thread = {
    seqs: seqs.filter((one) => one !== seq),
    by: by
      .map((one) => (one.sender === sender ? { sender, count: one.count - 1 } : one))
      .filter(({ count }) => count > 0),
  };
  return { ...responses, threads: responses.threads.set(to, thread), size: responses.size - 1 };
}

/** Roughly what they weigh in memory, in kilobytes. */
export const weighResponses = ({ reactions, threads, subjects, size }: Responses): number =>
  (reactions.size + threads.size) / 4 + subjects.size / 8 + size / 64;

/** As snapshots keep them: each subject once, elsewhere its index. Raise the version of the room's snapshot with it. */
export const ResponsesSnapshot = z.object({
  subjects: z.array(SubjectSchema),
  reactions: z.array(z.tuple([z.number(), z.array(z.tuple([z.string(), z.array(z.number())]))])),
  /** By the seq of the posting: the seqs of the replies, and the senders with how many are theirs. */
  threads: z.array(z.tuple([z.number(), z.array(z.number()), z.array(z.tuple([z.number(), z.number()]))])),
});
type ResponsesJson = z.infer<typeof ResponsesSnapshot>;

export function responsesToJson({ reactions, threads }: Responses): ResponsesJson {
  const indices = new Map<Subject, number>();
  const indexOf = (subject: Subject): number => {
    const index = indices.get(subject) ?? indices.size;
    indices.set(subject, index);
    return index;
  };
  return {
    reactions: Array.from(reactions.entries(), ([seq, all]): ResponsesJson["reactions"][number] => [
      seq,
      all.map(({ emoji, by }) => [emoji, by.map(indexOf)]),
    ]),
    threads: Array.from(threads.entries(), ([seq, { seqs, by }]): ResponsesJson["threads"][number] => [
      seq,
      [...seqs],
      by.map(({ sender, count }) => [indexOf(sender), count]),
    ]),
    subjects: [...indices.keys()],
  };
}

export function responsesFromJson({ subjects, reactions, threads }: ResponsesJson): Responses {
  const subjectAt = (index: number): readonly Subject[] => subjects.slice(index, index + 1);
  const sendersOf = (by: readonly [number, number][]) =>
    by.flatMap(([index, count]) => subjectAt(index).map((sender) => ({ sender, count })));
  const reacted = reactions.flatMap(([, all]) => all.flatMap(([, by]) => by)).length;
  return {
    reactions: PersistentMap.of(
      reactions.map(([seq, all]) => [seq, all.map(([emoji, by]) => ({ emoji, by: by.flatMap(subjectAt) }))]),
    ),
    threads: PersistentMap.of(threads.map(([seq, seqs, by]) => [seq, { seqs, by: sendersOf(by) }])),
    subjects: PersistentMap.of(subjects.map((subject) => [subject, subject])),
    size: reacted + threads.reduce((sum, [, seqs]) => sum + seqs.length, 0),
  };
}
