/** The first line of a vfio-transcript/1: which kernel was asked, and the machine that it ran on. */
export interface TranscriptDevice {
  readonly bdf: string;
  /** -1: the device is in no group. */
  readonly group: number;
  readonly driver: string;
  readonly vendor: string;
  readonly device: string;
}

export interface TranscriptHeader {
  readonly op: "header";
  readonly format: string;
  /** uname: release, version and machine. */
  readonly kernel: string;
  readonly version: string;
  readonly machine: string;
  readonly config: string;
  readonly devices: Readonly<Record<string, TranscriptDevice>>;
  /** Not in the line itself: what sysfs says of the groups' default domains. See `withDomainType`. */
  readonly domainType?: string;
}

/**
 * The names of some configurations leave open whether the machine is strict; the sysfs lines below the header describe it.
 * @param records of the same transcript
 */
export function withDomainType(header: TranscriptHeader, records: readonly unknown[]): TranscriptHeader {
  const sysfs = (records as readonly ({ readonly op?: unknown; readonly type?: unknown } | null)[]).find(
    (record) => record?.op === "sysfs" && typeof record.type === "string",
  );
  return { ...header, domainType: sysfs?.type as string | undefined };
}

export function isHeader(record: unknown): record is TranscriptHeader {
  const header = record as Partial<TranscriptHeader> | null;
  return (
    header?.op === "header" &&
    header.format === "vfio-transcript/1" &&
    [header.kernel, header.version, header.machine, header.config].every((text) => typeof text === "string") &&
    typeof header.devices === "object" &&
    header.devices !== null &&
    Object.values<Partial<TranscriptDevice> | null>(header.devices).every(isDevice)
  );
}

function isDevice(device: Partial<TranscriptDevice> | null): boolean {
  return [device?.bdf, device?.driver, device?.vendor, device?.device].every((text) => typeof text === "string");
}
