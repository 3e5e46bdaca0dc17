/** Gives each descriptor that a thread queues to what it was queued for. */
import type { Book } from "./book.js";
import type { Calls } from "./calls.js";
import { deviceOf, didOf, isGlobal } from "./descriptor.js";
import type { FtraceEvent } from "./ftrace.js";
import { announcedOwner, latestOwner } from "./owner.js";
import type { Boot, QiDescriptor, Step } from "./steps.js";
import type { Thread } from "./thread.js";

export class Submissions {
  /** Maps and scatter lists that something was queued for. */
  answered = 0;
  /** A device came to a domain, and the unit had to hear of it. */
  cachesAbsent = false;
  #boot: Boot | undefined;

  /** @param lazy of a kernel without cache_tag events: domains are invalidated by flush queues */
  constructor(
    private readonly book: Book,
    private readonly calls: Calls,
    private readonly tagged: boolean,
    private readonly lazy: boolean,
  ) {}

  /** @throws SyntaxError not of the known form */
  read(event: FtraceEvent, thread: Thread): void {
    const match = /^(\w+) \S+: (0x[0-9a-f]+) (0x[0-9a-f]+) /.exec(event.text);
    if (!match) throw new SyntaxError(`no descriptor: ${event.text}`);
    const [, kind, qw0, qw1] = match;
    const descriptor: QiDescriptor = [BigInt(qw0), BigInt(qw1)];
    if (kind === "cc_inv") this.#give(event, thread, descriptor, this.#contextOwner(event, thread, descriptor));
    else if (kind === "iotlb_inv") this.#give(event, thread, descriptor, this.#iotlbOwner(event, thread, descriptor));
    else {
      thread.settle();
      this.book.leaveOut(kind === "iec_inv" ? "invalidation of interrupt remapping entries" : `${kind}: not compared`);
    }
  }

  #give(event: FtraceEvent, thread: Thread, descriptor: QiDescriptor, owner: Step | undefined): void {
    if (!owner) {
      if (this.book.mayHaveBegunBefore(event, thread))
        this.book.leaveOut("descriptor of a call from before the file begins");
      else this.book.orphans.push({ line: event.line, descriptor });
      return;
    }
    if (owner.kind === "map" && owner.expected.length === 0) this.answered++;
    owner.expected.push(descriptor);
    thread.settled = true;
    thread.hasDetached = owner.kind === "detach" || (owner.kind === "attach" && thread.hasDetached);
    // Only devices that come and go have more queued for them than one.
    thread.current = owner.kind === "attach" || owner.kind === "detach" ? [owner] : [];
  }

  /** A context cache invalidation: of everything at boot, else of a device that comes (domain-id 0, caching mode) or goes. */
  #contextOwner(event: FtraceEvent, thread: Thread, descriptor: QiDescriptor): Step {
    if (isGlobal(descriptor)) {
      this.#boot = this.book.add({ kind: "boot", ...this.book.begun(event, thread) });
      return this.#boot;
    }
    const did = didOf(descriptor);
    const device = deviceOf(descriptor);
    if (did !== 0) return this.calls.detaching(event, thread, did, device);
    this.cachesAbsent = true;
    return this.calls.attaching(event, thread, device);
  }

  #iotlbOwner(event: FtraceEvent, thread: Thread, descriptor: QiDescriptor): Step | undefined {
    if (isGlobal(descriptor)) return this.#boot;
    if (this.tagged) return announcedOwner(thread, descriptor);
    const owner = latestOwner(thread, descriptor, this.lazy);
    if (owner !== "flush") return owner;
    const did = didOf(descriptor);
    const last = thread.current.at(-1);
    if (last?.kind === "attach") last.did ??= did;
    return this.calls.flushAll(event, thread, did);
  }
}
