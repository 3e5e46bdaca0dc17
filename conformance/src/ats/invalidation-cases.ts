/**
 * Situations of ATS invalidations (PCIe 10.3): which one a case's words mean, and what must hold in it on any chip. The peer's
 * registers are not compared. A VT-d fence is taken from its queue when it begins to wait, an SMMUv3 one when it is done: that
 * a fence holds is seen from the request behind it, which is not sent.
 */
import { type InvalidationQueue, invalidationQueue, OTHER_RID, RID } from "./invalidation-queues.js";

type Situation = (queue: InvalidationQueue) => string | Promise<string>;

/** ITags of one function. */
const ITAGS = 32;
/** A completion count of 0 stands for it. */
const MOST_COMPLETIONS = 8;

const tags = (queue: InvalidationQueue) => queue.sent.map(({ itag }) => itag).join();

function requests(queue: InvalidationQueue): string {
  queue.invalidate();
  if (queue.sent.length !== 1 || queue.sent[0].rid !== RID) return `${queue.sent.length} messages for one request`;
  queue.invalidate();
  return tags(queue) === "0,1" ? "" : `ITags ${tags(queue)}`;
}

function fences(queue: InvalidationQueue): string {
  queue.invalidate();
  queue.invalidate();
  queue.fence();
  queue.invalidate();
  const passed = () => queue.sent.length > 2;
  if (passed()) return "the fence does not wait";
  queue.complete(OTHER_RID, [0, 1], 1);
  if (passed()) return "completions of another function end the fence";
  for (let n = 0; n < 3; n++) queue.complete(RID, [1], 3);
  for (let n = 1; n < MOST_COMPLETIONS; n++) queue.complete(RID, [0], 0);
  if (passed()) return "the fence ends before the last completion";
  queue.complete(RID, [0], 0);
  return tags(queue) === "0,1,0" ? "" : `behind the fence: ITags ${tags(queue)}`;
}

async function timesOut(queue: InvalidationQueue): Promise<string> {
  queue.invalidate();
  queue.fence();
  if (queue.timedOut) return "a time-out at once";
  await queue.expire();
  if (!queue.timedOut) return "no time-out";
  const { taken } = queue;
  queue.invalidate();
  return queue.taken === taken && queue.sent.length === 1 ? "" : "the queue goes on after a time-out";
}

function runsOut(queue: InvalidationQueue): string {
  for (let n = 0; n < ITAGS + 2; n++) queue.invalidate();
  if (queue.sent.length !== ITAGS) return `${queue.sent.length} requests in flight`;
  queue.complete(RID, [7, 9], 2);
  if (queue.sent.length !== ITAGS) return "one of two completions frees an ITag";
  queue.complete(RID, [7, 9], 2);
  return tags(queue).endsWith(",31,7,9") ? "" : `ITags ${tags(queue)}`;
}

/** The first that the case's words fit. */
const SITUATIONS: readonly (readonly [RegExp, Situation | undefined])[] = [
  [/cqen|queue (is )?(turned |switched )?(off|disabled)|(disabl|turn)\w* .*queue/i, undefined],
  [/time[sd]?[- ]?out|expir/i, timesOut],
  [/out of|exhaust|no (free )?itag|(all|no more|free) itags/i, runsOut],
  [/fence|completion|\bCC\b|pending|wait/i, fences],
  [/./, requests],
];

/** Whether a case is about invalidations, and not about a completion that nobody waits for. */
export function aboutInvalidations(words: string): boolean {
  return /\binval|\bitag|fence|\binv_/i.test(words) && !/spurious|completion.*(unknown|unexpected)/i.test(words);
}

/** @returns what is wrong, "" when nothing is, undefined for what only the peer's registers have */
export async function playInvalidations(
  words: string,
  backend: string,
  make = invalidationQueue,
): Promise<string | undefined> {
  const situation = SITUATIONS.find(([pattern]) => pattern.test(words))?.[1];
  return situation?.(make(backend));
}
