/**
 * A driver for the accelerator that knows nothing but its BARs: for programs over VFIO, where a BAR access is a read or
 * write of the device's descriptor, and for tests that hold the function itself.
 */
import { IommuError, NO_PASID } from "@iommukit/core";
import { COMPLETION_RECORD, DESCRIPTOR } from "./descriptor.js";
import { CMD, CMDSTS, type Command, INTCAUSE, PORTAL_SIZE, Portal, SWERROR, WQCFG } from "./registers.js";

/** BAR accesses as the program's environment offers them. False (or a rejection) when the device did not take one. */
export interface BarAccess {
  readBar(bar: number, offset: number, into: Uint8Array): boolean | Promise<boolean>;
  writeBar(bar: number, offset: number, bytes: Uint8Array): boolean | Promise<boolean>;
}

/** How `enableQueue` sets a queue up. */
export interface WorkQueueConfig {
  readonly size?: number;
  readonly threshold?: number;
  readonly mode?: "shared" | "dedicated";
  readonly blockOnFault?: boolean;
  /** A dedicated queue's PASID; "submitter" for a shared queue whose users bring theirs; absent: no PASID. */
  readonly pasid?: number | "submitter";
  readonly privileged?: boolean;
  readonly priority?: number;
  /** Completion records are written without PASID: to memory that was mapped with MAP_DMA. */
  readonly untaggedCompletion?: boolean;
}

/** Fields of a descriptor for `encodeDescriptor`; those that are not named are 0. */
export type DescriptorFields = Parameters<typeof DESCRIPTOR.encode>[0];

/** 64 bytes. Flags are what the fields say: nothing is set implicitly. */
export function encodeDescriptor(fields: DescriptorFields): Uint8Array {
  return new Uint8Array(DESCRIPTOR.encode(fields).buffer);
}

/** The fields of a completion record of 32 bytes. */
export function decodeCompletion(bytes: Uint8Array) {
  const words = new Int32Array(COMPLETION_RECORD.words);
  new Uint8Array(words.buffer).set(bytes.subarray(0, COMPLETION_RECORD.bytes));
  return COMPLETION_RECORD.decode(words);
}

/** `new AcceleratorClient(vfioDevice)`, or of the function itself. */
export class AcceleratorClient {
  constructor(private readonly device: BarAccess) {}

  async read32(offset: number): Promise<number> {
    const bytes = new Uint8Array(4);
    if (!(await this.device.readBar(0, offset, bytes)))
      throw new IommuError("EIO", `the accelerator does not answer at 0x${offset.toString(16)}`);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  async write32(offset: number, value: number): Promise<void> {
    const bytes = new Uint8Array(Uint32Array.of(value).buffer);
    if (!(await this.device.writeBar(0, offset, bytes)))
      throw new IommuError("EIO", `the accelerator does not answer at 0x${offset.toString(16)}`);
  }

  /** Starts a command; `commandStatus` tells when it is done. */
  async startCommand(command: keyof typeof Command, operand = 0, interrupt = false): Promise<void> {
    await this.write32(CMD.offset, CMD.encode({ Command: command, Operand: operand, RequestInterrupt: interrupt })[0]);
  }

  async commandStatus() {
    return CMDSTS.decode(Int32Array.of(await this.read32(CMDSTS.offset)));
  }

  /** Carries out a command that does not have to wait. @throws IommuError EIO with the device's error code */
  async command(command: keyof typeof Command, operand = 0): Promise<void> {
    await this.startCommand(command, operand);
    const { Active, ErrorCode } = await this.commandStatus();
    if (Active || ErrorCode !== "NONE")
      throw new IommuError("EIO", `${command} ${operand}: ${Active ? "still active" : ErrorCode}`);
  }

  /** Enables the device. */
  enable(): Promise<void> {
    return this.command("ENABLE_DEVICE");
  }

  /** Configures and enables a queue. */
  async enableQueue(queue: number, config: WorkQueueConfig): Promise<void> {
    const {
      size = 16,
      threshold = 0,
      mode = "dedicated",
      blockOnFault = true,
      pasid = NO_PASID,
      privileged = false,
      priority = 0,
      untaggedCompletion = false,
    } = config;
    const register = WQCFG[queue];
    if (!register) throw new IommuError("EINVAL", `there is no queue ${queue}; 0 to ${WQCFG.length - 1}`);
    const words = register.encode({
      Size: size,
      Threshold: threshold,
      Mode: mode,
      BlockOnFaultEnable: blockOnFault,
      PASIDEnable: pasid !== NO_PASID,
      PrivilegedEnable: privileged,
      PASID: typeof pasid === "number" && pasid !== NO_PASID ? pasid : 0,
      Priority: priority,
      UntaggedCompletion: untaggedCompletion,
    });
    await this.write32(register.offset, words[0]);
    await this.write32(register.offset + 4, words[1]);
    await this.command("ENABLE_WQ", queue);
  }

  /** Writes a descriptor to the queue's portal. @returns false when a shared queue wants it to be tried again */
  async submit(queue: number, descriptor: Uint8Array): Promise<boolean> {
    const portal = queue * PORTAL_SIZE;
    if (!(await this.device.writeBar(2, portal + Portal.DESCRIPTOR, descriptor)))
      throw new IommuError("EIO", `queue ${queue} has no portal`);
    return (await this.portalStatus(queue)) === 0;
  }

  async portalStatus(queue: number): Promise<number> {
    const status = new Uint8Array(4);
    await this.device.readBar(2, queue * PORTAL_SIZE + Portal.STATUS, status);
    return status[0];
  }

  /** Has the device fetch a descriptor from `address` of the address space `pasid`. */
  async ring(queue: number, pasid: number, address: bigint): Promise<void> {
    const portal = queue * PORTAL_SIZE;
    const tag = pasid === NO_PASID ? 0 : (pasid | 0x8000_0000) >>> 0;
    await this.device.writeBar(2, portal + Portal.PASID, new Uint8Array(Uint32Array.of(tag).buffer));
    await this.device.writeBar(2, portal + Portal.DOORBELL, new Uint8Array(BigUint64Array.of(address).buffer));
  }

  /** The recorded software error, taken off; undefined when there is none. */
  async takeSoftwareError() {
    const words = Int32Array.of(await this.read32(SWERROR.offset), await this.read32(SWERROR.offset + 4));
    if (!SWERROR.Valid.decode(words)) return undefined;
    await this.write32(SWERROR.offset, 3);
    await this.write32(INTCAUSE.offset, 1);
    return SWERROR.decode(words);
  }
}
