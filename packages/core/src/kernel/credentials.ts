/** Credentials and resource limits of a task. */

/** Those that something here asks for. */
export type Capability = "CAP_SYS_RAWIO" | "CAP_IPC_LOCK" | "CAP_SYS_PTRACE" | "CAP_SYS_ADMIN";

/** Who a task is, for the ptrace rule and capability checks. */
export interface Credentials {
  readonly uid: number;
  readonly euid: number;
  readonly suid: number;
  readonly gid: number;
  /** As gid when absent: other after a set-group-ID program has started. */
  readonly egid?: number;
  readonly sgid?: number;
  readonly capabilities: ReadonlySet<Capability>;
}

/** Uid 0 with every capability: what tasks have unless told otherwise. */
export const ROOT: Credentials = {
  uid: 0,
  euid: 0,
  suid: 0,
  gid: 0,
  capabilities: new Set<Capability>(["CAP_SYS_RAWIO", "CAP_IPC_LOCK", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]),
};

/** An ordinary user, whose gid is the uid. */
export function user(uid: number, capabilities: Iterable<Capability> = []): Credentials {
  return { uid, euid: uid, suid: uid, gid: uid, capabilities: new Set(capabilities) };
}

/** Bytes; Infinity for unlimited. */
export interface ResourceLimits {
  memlock: number;
}
