/** The first dword of every capability: id and link (PCI 3.0 6.7, PCIe 7.6.3). Spread into each capability's table. */
import { type FieldOptions, type FieldSpec, uint } from "../../bits/field.js";

/** Read-only, and read-only over resets. */
export const RO: FieldOptions = { access: "ro" };

/** Read-only, and kept over resets. */
export const ROS: FieldOptions = { access: "ro", sticky: true };
/** Write one to clear, and the same over resets. */
export const RW1C: FieldOptions = { access: "w1c" };

/** Cleared by writing one, and kept over resets. */
export const RW1CS: FieldOptions = { access: "w1c", sticky: true };

/** Writable, and kept over resets. */
export const RWS: FieldOptions = { sticky: true };

/** Id and next pointer of a capability below 0x100. */
export const CAPABILITY_HEAD = {
  CapabilityID: uint(7, 0, "which capability it is", RO),
  NextCapabilityPointer: uint(15, 8, "byte offset of the next capability; 0 ends the list", RO),
} satisfies Record<string, FieldSpec>;

/** Id, version and next offset of an extended capability. */
export const EXTENDED_CAPABILITY_HEAD = {
  CapabilityID: uint(15, 0, "which extended capability it is", RO),
  CapabilityVersion: uint(19, 16, "version of its structure", RO),
  NextCapabilityOffset: uint(31, 20, "byte offset of the next extended capability; 0 ends the list", RO),
} satisfies Record<string, FieldSpec>;
