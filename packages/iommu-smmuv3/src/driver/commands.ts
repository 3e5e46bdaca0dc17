/** The commands that the driver sends, by what they are for (IHI 0070 chapter 4). */
import { hi32, lo32, NO_PASID } from "@iommukit/core";
import {
  ATC_INV_ALL,
  CFGI_ALL_RANGE,
  CMD_ATC_INV,
  CMD_CFGI_CD,
  CMD_CFGI_STE,
  CMD_CFGI_STE_RANGE,
  CMD_PREFETCH_CONFIG,
  CMD_PRI_RESP,
  CMD_RESUME,
  CMD_TLBI_EL2_ALL,
  CMD_TLBI_NH_ALL,
  CMD_TLBI_NH_ASID,
  CMD_TLBI_NH_VA,
  CMD_TLBI_NSNH_ALL,
  CMD_TLBI_S2_IPA,
  CMD_TLBI_S12_VMALL,
  OPCODE,
  type PRI_RESP_CODE,
} from "../spec/commands.js";
import type { Command } from "./command-queue.js";

export function cfgiSte(sid: number): Command {
  return CMD_CFGI_STE.encode({ Opcode: OPCODE.CFGI_STE, StreamID: sid, Leaf: true });
}

export function cfgiAll(): Command {
  return CMD_CFGI_STE_RANGE.encode({ Opcode: OPCODE.CFGI_STE_RANGE, Range: CFGI_ALL_RANGE });
}

/** @param leaf false also drops cached level 1 descriptors */
export function cfgiCd(sid: number, ssid: number, leaf: boolean): Command {
  return CMD_CFGI_CD.encode({ Opcode: OPCODE.CFGI_CD, StreamID: sid, SubstreamID: ssid, Leaf: leaf });
}

export function prefetchConfig(sid: number): Command {
  return CMD_PREFETCH_CONFIG.encode({ Opcode: OPCODE.PREFETCH_CONFIG, StreamID: sid });
}

export function tlbiEl2All(): Command {
  return CMD_TLBI_EL2_ALL.encode({ Opcode: OPCODE.TLBI_EL2_ALL });
}

/** Everything of Non-secure EL1, stage 2 included. */
export function tlbiNsnhAll(): Command {
  return CMD_TLBI_NSNH_ALL.encode({ Opcode: OPCODE.TLBI_NSNH_ALL });
}

export function tlbiAsid(asid: number): Command {
  return CMD_TLBI_NH_ASID.encode({ Opcode: OPCODE.TLBI_NH_ASID, ASID: asid });
}

/** All stage-1 entries of a VMID. */
export function tlbiVmidStageOne(vmid: number): Command {
  return CMD_TLBI_NH_ALL.encode({ Opcode: OPCODE.TLBI_NH_ALL, VMID: vmid });
}

/** All entries of a VMID, of both stages. */
export function tlbiVmid(vmid: number): Command {
  return CMD_TLBI_S12_VMALL.encode({ Opcode: OPCODE.TLBI_S12_VMALL, VMID: vmid });
}

/** Invalidations by address, which `at` completes. Unmaps send them by the thousand: they are stored field by field. */
export function tlbiVa(asid: number, leaf: boolean): Command {
  const command = byAddress(OPCODE.TLBI_NH_VA, leaf);
  CMD_TLBI_NH_VA.ASID.setPair(command, 0, 0, asid);
  return command;
}

export function tlbiIpa(vmid: number, leaf: boolean): Command {
  const command = byAddress(OPCODE.TLBI_S2_IPA, leaf);
  CMD_TLBI_S2_IPA.VMID.setPair(command, 0, 0, vmid);
  return command;
}

function byAddress(opcode: number, leaf: boolean): Command {
  const { words, Opcode, Leaf } = CMD_TLBI_NH_VA;
  const command = new Int32Array(words);
  Opcode.setPair(command, 0, 0, opcode);
  Leaf.setPair(command, 0, 0, Number(leaf));
  return command;
}

/** @param tg 0 for one address, or the granule's encoding: then (num + 1) * 2^scale granules, leaves at level `ttl` */
export function at(command: Command, address: bigint, tg = 0, ttl = 0, num = 0, scale = 0): Command {
  const { Address, TG, TTL, NUM, SCALE } = CMD_TLBI_NH_VA;
  Address.setPair(command, 0, hi32(address), lo32(address));
  if (tg === 0) return command;
  TG.setPair(command, 0, 0, tg);
  TTL.setPair(command, 0, 0, ttl);
  NUM.setPair(command, 0, 0, num);
  SCALE.setPair(command, 0, 0, scale);
  return command;
}

/**
 * Smallest naturally aligned power of two that covers the range: an Invalidate Request knows no other (S35).
 * @param size bytes; 0 for the whole address space
 */
export function atcInv(sid: number, ssid: number, start: bigint, size: bigint): Command {
  const command = CMD_ATC_INV.encode({
    Opcode: OPCODE.ATC_INV,
    StreamID: sid,
    SSV: ssid !== NO_PASID,
    SubstreamID: Math.max(ssid, 0),
  });
  const first = start >> 12n;
  const last = (start + size - 1n) >> 12n;
  const span = size === 0n ? ATC_INV_ALL : (first ^ last).toString(2).length;
  const log2 = size !== 0n && first === last ? 0 : span;
  if (log2 >= ATC_INV_ALL) return CMD_ATC_INV.assign(command, { Size: ATC_INV_ALL });
  const aligned = (first >> BigInt(log2)) << BigInt(log2);
  return CMD_ATC_INV.assign(command, { Size: log2, Address: aligned << 12n });
}

/** @param ssid NO_PASID for a response without a PASID */
export function priResp(sid: number, ssid: number, prgIndex: number, response: keyof typeof PRI_RESP_CODE): Command {
  return CMD_PRI_RESP.encode({
    Opcode: OPCODE.PRI_RESP,
    StreamID: sid,
    SSV: ssid !== NO_PASID,
    SubstreamID: Math.max(ssid, 0),
    PRGIndex: prgIndex,
    Resp: response,
  });
}

/** @param retry walk the tables again; otherwise terminate with an abort */
export function resume(sid: number, stag: number, retry: boolean): Command {
  return CMD_RESUME.encode({ Opcode: OPCODE.RESUME, StreamID: sid, STAG: stag, Ac: retry, Ab: !retry });
}
