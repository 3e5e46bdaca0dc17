/** Between a chip and the board: nothing, or somebody who sees what goes through. */
import { token } from "../platform/token.js";
import type { ChipPorts, IommuChip } from "./ports.js";

/** Plugins hand their chip, and the board that it sees, through it. */
export interface ChipSocket {
  /** The chip as software and devices see it. */
  chip(chip: IommuChip): IommuChip;
  /** The board as a chip sees it. */
  ports(ports: ChipPorts): ChipPorts;
}
export const ChipSocket = token<ChipSocket>("ChipSocket");

/** Nobody looks. */
export const PLAIN_SOCKET: ChipSocket = { chip: (chip) => chip, ports: (ports) => ports };
