/** vfio-transcript/1: what a kernel was asked and what it answered, one record a line. */
export type Fields = Readonly<Record<string, unknown>>;

export interface TranscriptStep {
  readonly op: string;
  readonly scenario?: string;
  readonly step?: number;
  /** A number, or "fd" for a new descriptor that is called `ret_fd` from now on. */
  readonly ret?: number | "fd";
  readonly errno?: string;
  readonly ret_fd?: string;
  readonly fd?: string;
  readonly req?: string;
  readonly nr?: string;
  readonly in?: Fields;
  readonly out?: Fields;
  readonly VmLck_kB?: number;
  readonly [key: string]: unknown;
}

/** `0x…` strings, and plain numbers. */
export function toBig(value: unknown): bigint {
  return BigInt(value as string | number);
}

export function hexOf(value: bigint): string {
  return `0x${value.toString(16)}`;
}

export function hexBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

export function fromHex(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "hex"));
}
