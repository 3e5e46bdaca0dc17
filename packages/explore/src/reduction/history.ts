/**
 * What a run has done so far, without the order of steps that have nothing to do with each other (Mazurkiewicz, 1977). A step lasts
 * from one possible choice to the next. Its hash is made of its actor's step before, of what it visibly did, and of the last step that
 * wrote whatever it touched: so who reads before and who after a store is told apart by the readers. The sum over all steps is then the
 * same for two runs when the same steps have happened, and all steps that touch the same, one of them writing, in the same order
 * (happens-before hashing: Musuvathi, Qadeer, MSR-TR-2007-12).
 *
 * Steps touch words of memory, chips by their registers and ports, locks, threads that they start and wake, timers, and the parts of
 * the machine that the trace tells of. Data structures of software are not seen. So two runs count as the same when every actor has done
 * the same as far as anybody can see. For hardware and for software that shares data under locks that is exact. A bug may be missed when
 * two steps exchange data without a lock, nothing tells of it in either, and what comes of it shows only behind the next choice.
 *
 * Things that come into being during a run have other addresses and numbers in another run: they are named by who touched them
 * first.
 */
import type { HardwareUnit, Thread } from "@iommukit/core";
import type { Actor } from "../schedule/actor.js";
import { Hash, hashOf } from "./hash.js";
import { Spot } from "./spot.js";
import { PAGE_WORDS, WatchedPage } from "./watched-page.js";

/** State of memory that the order of stores decides: which of them a fetch may miss. */
export interface Doubts {
  /** Folds in what the one who runs, and those that stand still, may miss. */
  fold(into: Hash, actors: ReadonlyMap<Actor, Hash>): void;
}

/** Of one run. */
export class History {
  /** What is there before the run, by name. */
  readonly #spots = new Map<number, Spot>();
  /** The order in which timers are set: those of one moment go off in it. */
  readonly #timers = this.spot("timers");
  readonly #pages = new Map<number, WatchedPage>();
  readonly #threads = new Map<Thread, Spot>();
  readonly #units = new Map<HardwareUnit, Spot>();
  /** The last step of each, and of time. */
  readonly #actors = new Map<Actor, Hash>();
  readonly #time = new Hash();
  /** The sum of all steps. */
  readonly #all = new Hash();
  /** The step that is being taken: whose, its hash so far, what it has written, how much it has made. */
  #actor: Actor | "time" | undefined;
  readonly #now = new Hash();
  readonly #written: Spot[] = [];
  #step = 0;
  #births = 0;
  readonly #state = new Hash();

  constructor(private readonly doubts: Doubts) {}

  /** Something that has a name, together with all that differ from it by a number. */
  spot(name: string): Spot {
    const hash = hashOf(name);
    let spot = this.#spots.get(hash);
    if (spot === undefined) {
      spot = new Spot(hash);
      this.#spots.set(hash, spot);
    }
    return spot;
  }

  /** Whatever the unit does touches the chip that it is part of. */
  belongs(unit: HardwareUnit, chip: Spot): void {
    this.#units.set(unit, chip);
  }

  /** @param waiting threads that are there already */
  begin(waiting: readonly Thread[]): void {
    for (const spot of this.#spots.values()) spot.forget();
    this.#pages.clear();
    this.#threads.clear();
    this.#actors.clear();
    this.#written.length = 0;
    this.#actor = undefined;
    this.#step = 0;
    this.#births = 0;
    this.#all.set(0, 0);
    this.#time.set(0, 0);
    this.#now.set(0, 0);
    for (const thread of waiting) this.#named(thread, hashOf(thread.name));
  }

  /** Nothing more belongs to the run. */
  stop(): void {
    this.#actor = undefined;
  }

  /** Of everything that has happened: equal for runs that differ in the order of independent steps. */
  get whole(): number {
    return this.#all.value;
  }

  /** A thread is started, a unit gets work. */
  born(actor: Actor): void {
    this.#named(actor, 0);
  }

  #named(actor: Actor, name: number): Hash {
    const hash = new Hash();
    hash.copy(this.#now);
    hash.mix(name, ++this.#births);
    this.#actors.set(actor, hash);
    return hash;
  }

  #hashOf(actor: Actor): Hash {
    return this.#actors.get(actor) ?? this.#named(actor, hashOf(actor.name));
  }

  /** A step begins. */
  open(actor: Actor): void {
    this.#begin(actor, this.#hashOf(actor));
    const own = "unit" in actor ? this.#units.get(actor.unit) : this.#spotOf(actor);
    if (own) this.touch(own, true);
  }

  #begin(actor: Actor | "time", before: Hash): void {
    this.#actor = actor;
    this.#step++;
    this.#births = 0;
    this.#now.copy(before);
  }

  #spotOf(thread: Thread): Spot {
    let spot = this.#threads.get(thread);
    if (spot === undefined) {
      spot = new Spot();
      spot.written.copy(this.#hashOf(thread));
      this.#threads.set(thread, spot);
    }
    return spot;
  }

  /** The thread that runs wakes another. */
  woken(thread: Thread): void {
    this.touch(this.#spotOf(thread), true);
  }

  /** The step is over. */
  close(): void {
    const actor = this.#actor;
    if (actor === undefined) return;
    this.#actor = undefined;
    const now = this.#now;
    this.#all.add(now);
    for (const [place, spot] of this.#written.entries()) {
      spot.written.copy(now);
      spot.written.mix(place, place);
    }
    this.#written.length = 0;
    (actor === "time" ? this.#time : this.#hashOf(actor)).copy(now);
  }

  touch(spot: Spot, write: boolean): void {
    if (this.#actor === undefined) return;
    if (spot.touched !== this.#step) {
      spot.touched = this.#step;
      this.#now.take(spot.written);
    }
    if (!write || spot.wrote === this.#step) return;
    spot.wrote = this.#step;
    this.#written.push(spot);
    this.#now.mix(1, 1);
  }

  /** Bytes of memory, in words of 8. */
  memory(pa: number, bytes: number, write: boolean): void {
    if (this.#actor === undefined) return;
    const last = Math.floor((pa + bytes - 1) / 8);
    for (let word = Math.floor(pa / 8); word <= last; ) {
      const page = this.#pageOf(Math.floor(word / PAGE_WORDS));
      const end = Math.min(last, word + PAGE_WORDS - 1 - (word % PAGE_WORDS));
      if (end - word === PAGE_WORDS - 1) page.touch(this, write);
      else for (let at = word; at <= end; at++) this.touch(page.word(this, at % PAGE_WORDS), write);
      word = end + 1;
    }
  }

  #pageOf(number: number): WatchedPage {
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = new WatchedPage();
      this.#pages.set(number, page);
    }
    return page;
  }

  /** What nobody has touched yet. */
  fresh(): Spot {
    const spot = new Spot();
    spot.written.copy(this.#now);
    spot.written.mix(-1, ++this.#births);
    return spot;
  }

  /** What the time is, and so whether it has passed. */
  readClock(): void {
    this.touch(this.#timers, false);
  }

  setTimer(): void {
    this.touch(this.#timers, true);
  }

  /** What can be seen of the step: which possibility it met, what it tells, what it waits for. */
  saw(what: number | string): void {
    this.#now.mix(typeof what === "string" ? hashOf(what) : what, -2);
  }

  /** The scheduler takes an actor away, and sets a timer for its return. */
  tookAway(actor: Actor): void {
    const name = hashOf(actor.name);
    this.#timers.written.mix(name, name);
  }

  /** Nobody can go on: time passes until the next timer. */
  passTime(): void {
    this.close();
    this.#begin("time", this.#time);
    this.touch(this.#timers, true);
  }

  /** A mark that says which step stores now, and where in it. */
  get mark(): number {
    return this.#now.value;
  }

  /** Of everything that decides how the run can go on: what has happened, and who is where in the queues. */
  state(choice: number, time: number, ready: readonly Actor[], idlers: readonly Actor[]): number {
    const state = this.#state;
    state.copy(this.#all);
    state.mix(choice, ready.length);
    state.mix(Math.floor(time / 2 ** 32), time | 0);
    if (this.#actor !== undefined) state.take(this.#now);
    state.take(this.#timers.written);
    for (const actor of ready) state.take(this.#hashOf(actor));
    for (const actor of idlers) state.take(this.#hashOf(actor));
    this.doubts.fold(state, this.#actors);
    return state.value;
  }
}
