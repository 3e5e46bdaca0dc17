/** The process that a comparison binds: what the device reads in it, what it may write, and how the process confirms it. */
import type { Platform, ServicePlugin } from "@iommukit/core";

export interface Range {
  readonly address: bigint;
  /** Bytes. */
  readonly length: number;
}

/** Memory of the process with the bytes that must be there, known from elsewhere: the file on disk, /proc/PID/cmdline. */
export interface KnownRange extends Range {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** The process as one platform sees it. */
export interface Subject {
  readonly pid: number;
  readonly file: KnownRange;
  readonly args: KnownRange;
  /** Memory that the device may write; undefined in a process that is not ours. */
  readonly buffer: Range | undefined;
  /** What the process itself finds in its buffer. Call it outside of the platform. */
  confirm(): Promise<Uint8Array>;
  /** Inside of the platform: notices what the process did meanwhile. @returns false when it is gone */
  refresh(): Promise<boolean>;
}

export interface SubjectSource {
  readonly kind: "child" | "live" | "simulated";
  /** For people: "child process 4711 (node)". */
  readonly description: string;
  /** What a platform needs to find the process by pid. */
  services(): readonly ServicePlugin[];
  /** The process on the n-th platform. */
  on(platform: Platform, index: number): Promise<Subject>;
  /** Whether the comparison may end the process. */
  readonly mayKill: boolean;
  /** Ends the process, as abruptly as can be. */
  kill(): Promise<void>;
  /** Gives back what is left. */
  release(): Promise<void>;
}
