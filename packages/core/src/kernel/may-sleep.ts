/**
 * What mostly goes on at once but may have to wait. The paths that DMA mappings take by the thousand answer with undefined
 * when nothing had to be waited for: a promise costs more than most of what they do.
 */

/** Await it at once: undefined when there was nothing to wait for. */
export type MaySleep = Promise<void> | undefined;

/** Goes on with `next`, at once when there is nothing to wait for. */
export function after(wait: MaySleep, next: () => MaySleep): MaySleep {
  return wait === undefined ? next() : wait.then(next);
}
