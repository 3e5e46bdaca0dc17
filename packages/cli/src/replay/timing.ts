/** What a replay takes on this machine: time, CPU time of all threads, because others may use the machine as well, and the most memory. */

/** Laps beside those of the machines: composing them, and getting at the events of the text. */
export const START = "start";
export const TEXT = "text";

export class Timing {
  readonly #cpu = process.cpuUsage();
  readonly #start = performance.now();
  /** Milliseconds by what they went to. */
  readonly #laps = new Map<string, number>();
  #lap = this.#start;

  /** The time since the last lap, or since the start, went to this. */
  lap(what: string): void {
    const now = performance.now();
    this.#laps.set(what, (this.#laps.get(what) ?? 0) + now - this.#lap);
    this.#lap = now;
  }

  /**
   * "63631 events in 0.310 s, 205261 events/s; CPU 0.702 s, 90643 events/s; 105 MB", and where the time went, each part with
   * the rate that it alone would have: "start 0.010 s; text 0.081 s, 785568 events/s; vtd 0.160 s, 397693 events/s".
   */
  lines(events: number): readonly string[] {
    const rated = (seconds: number) => `${seconds.toFixed(3)} s, ${Math.round(events / seconds)} events/s`;
    const { user, system } = process.cpuUsage(this.#cpu);
    const elapsed = (performance.now() - this.#start) / 1e3;
    // maxRSS is in KiB.
    const megabytes = Math.ceil((process.resourceUsage().maxRSS * 1024) / 1e6);
    const parts = Array.from(this.#laps, ([what, milliseconds]) =>
      what === START ? `${what} ${(milliseconds / 1e3).toFixed(3)} s` : `${what} ${rated(milliseconds / 1e3)}`,
    );
    return [
      `${events} events in ${rated(elapsed)}; CPU ${rated((user + system) / 1e6)}; ${megabytes} MB`,
      parts.join("; "),
    ];
  }
}
