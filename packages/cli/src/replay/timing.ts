/** What a replay takes on this machine: time, CPU time of all threads, because others may use the machine as well, and the most memory. */

export class Timing {
  readonly #cpu = process.cpuUsage();
  readonly #start = performance.now();

  /** "63631 events in 0.310 s, 205261 events/s; CPU 0.702 s, 90643 events/s; 105 MB". */
  line(events: number): string {
    const rated = (seconds: number) => `${seconds.toFixed(3)} s, ${Math.round(events / seconds)} events/s`;
    const { user, system } = process.cpuUsage(this.#cpu);
    const elapsed = (performance.now() - this.#start) / 1e3;
    // maxRSS is in KiB.
    const megabytes = Math.ceil((process.resourceUsage().maxRSS * 1024) / 1e6);
    return `${events} events in ${rated(elapsed)}; CPU ${rated((user + system) / 1e6)}; ${megabytes} MB`;
  }
}
