/** Timers in the order in which they fire. */
export interface Timer {
  cancel(): void;
}

/** A timer that has not fired. */
export class PendingTimer implements Timer {
  state: "set" | "cancelled" | "gone" = "set";

  constructor(
    private readonly heap: TimerHeap,
    readonly at: number,
    readonly order: number,
    readonly callback: () => void,
  ) {}

  cancel(): void {
    if (this.state !== "set") return;
    this.state = "cancelled";
    this.heap.cancelled();
  }
}

/** Cancelled timers that may wait in the heap for their time before they are looked for. */
const CANCELLED = 64;

/** Binary heap of timers; equal times fire in the order in which they were set. */
export class TimerHeap {
  #heap: PendingTimer[] = [];
  #cancelled = 0;
  #order = 0;

  add(at: number, callback: () => void): Timer {
    const timer = new PendingTimer(this, at, this.#order++, callback);
    const heap = this.#heap;
    let i = heap.push(timer) - 1;
    for (let parent = (i - 1) >> 1; i > 0 && before(timer, heap[parent]); parent = (i - 1) >> 1) {
      heap[i] = heap[parent];
      i = parent;
    }
    heap[i] = timer;
    return timer;
  }

  /** One more of them is. */
  cancelled(): void {
    if (++this.#cancelled > CANCELLED && this.#cancelled > this.#heap.length / 2) this.#purge();
  }

  /** A sorted array is a heap. */
  #purge(): void {
    this.#heap = this.#heap.filter(({ state }) => state === "set").sort((a, b) => (before(a, b) ? -1 : 1));
    this.#cancelled = 0;
  }

  get next(): number | undefined {
    while (this.#heap[0]?.state === "cancelled") {
      this.#removeFirst();
      this.#cancelled--;
    }
    return this.#heap[0]?.at;
  }

  take(): PendingTimer | undefined {
    for (;;) {
      const first = this.#removeFirst();
      if (first === undefined) return undefined;
      const { state } = first;
      first.state = "gone";
      if (state === "set") return first;
      this.#cancelled--;
    }
  }

  #removeFirst(): PendingTimer | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || first === last) return first;
    let i = 0;
    for (let child = 1; child < heap.length; child = 2 * i + 1) {
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++;
      if (!before(heap[child], last)) break;
      heap[i] = heap[child];
      i = child;
    }
    heap[i] = last;
    return first;
  }
}

function before(a: PendingTimer, b: PendingTimer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
