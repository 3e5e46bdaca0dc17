import { Access, TranslationStatus } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { DATA, Machine, machine, RAM } from "./machine.js";

const read = (m: Machine, register: { offset: number }) => m.chip.read32(register.offset);

describe("CR0", () => {
  it("acknowledges an update in CR0ACK, and only fields that the chip has (6.3.9, G4)", () => {
    const m = new Machine("qemu-11-virt");
    m.chip.write32(s.CR0.offset, 0xffff_ffff);
    expect([read(m, s.CR0), read(m, s.CR0ACK)]).toEqual([0xd, 0xd]);
    const full = new Machine("everything");
    full.chip.write32(s.CR0.offset, 0xffff_ffff);
    expect(read(full, s.CR0ACK)).toBe(0x1df);
  });

  it("guards what its enables use (6.3.24, 6.3.26)", () => {
    const m = machine();
    const before = [s.STRTAB_BASE_CFG, s.CMDQ_BASE, s.EVENTQ_BASE, s.PRIQ_BASE, s.CR2, s.CR1].map((one) =>
      read(m, one),
    );
    for (const one of [s.STRTAB_BASE_CFG, s.CMDQ_BASE, s.EVENTQ_BASE, s.PRIQ_BASE, s.CR2, s.CR1])
      m.chip.write32(one.offset, 0x15);
    expect(
      [s.STRTAB_BASE_CFG, s.CMDQ_BASE, s.EVENTQ_BASE, s.PRIQ_BASE, s.CR2, s.CR1].map((one) => read(m, one)),
    ).toEqual(before);
    m.chip.write32(s.CR0.offset, 0);
    m.chip.write32(s.STRTAB_BASE_CFG.offset, 0x15);
    expect(read(m, s.STRTAB_BASE_CFG)).toBe(0x15);
  });

  it("keeps queue indexes to the queue's size and wrap bit (6.3.27)", () => {
    const m = new Machine();
    m.set(s.CMDQ_BASE, { ADDR: RAM, LOG2SIZE: 3 });
    m.chip.write32(s.CMDQ_PROD.offset, 0xffff_ffff);
    expect(read(m, s.CMDQ_PROD)).toBe(0xf);
  });
});

describe("identification", () => {
  it("cannot be written", () => {
    const m = new Machine();
    m.chip.write32(s.IDR0.offset, 0);
    expect(read(m, s.IDR0)).toBe(s.PRESETS.everything.idr0 >>> 0);
  });
});

describe("GBPA", () => {
  it("changes only with UPDATE, which reads as zero again (6.3.14.1, G5)", () => {
    const m = new Machine();
    m.set(s.GBPA, { ABORT: true });
    expect(read(m, s.GBPA)).toBe(0);
    m.set(s.GBPA, { ABORT: true, UPDATE: true });
    expect(read(m, s.GBPA)).toBe(s.GBPA.ABORT.lowMask);
  });

  it("does so as well when 64 bits are written over it and STATUSR (6.2)", () => {
    const m = new Machine();
    const { ABORT, UPDATE } = s.GBPA;
    const write = (gbpa: number) => m.chip.write64(s.STATUSR.offset, BigInt(gbpa >>> 0) << 32n);
    write(ABORT.lowMask);
    expect(read(m, s.GBPA)).toBe(0);
    write(ABORT.lowMask | UPDATE.lowMask);
    expect(read(m, s.GBPA)).toBe(ABORT.lowMask);
  });

  it("lets everything pass or aborts it while SMMUEN = 0, without an event (3.4)", () => {
    const m = new Machine();
    expect(m.translate(BigInt(DATA), Access.WRITE, 3, 7)).toBe(TranslationStatus.OK);
    expect(m.pa).toBe(DATA);
    expect(m.translate(1n << 52n)).toBe(TranslationStatus.FAULT);
    m.set(s.GBPA, { ABORT: true, UPDATE: true });
    expect(m.translate(BigInt(DATA))).toBe(TranslationStatus.FAULT);
  });
});

describe("AGBPA", () => {
  it("is RES0: there are no further attributes (6.3.15)", () => {
    const m = new Machine();
    m.chip.write32(s.AGBPA.offset, 0xffff_ffff);
    expect(read(m, s.AGBPA)).toBe(0);
  });
});

describe("IRQ_CTRL", () => {
  it("is acknowledged, and guards the messages' addresses (6.3.16, G5)", () => {
    const m = new Machine();
    m.set(s.EVENTQ_IRQ_CFG0, { ADDR: 0x1000 });
    m.set(s.IRQ_CTRL, { EVENTQ_IRQEN: true, GERROR_IRQEN: true });
    expect(read(m, s.IRQ_CTRLACK)).toBe(5);
    m.set(s.EVENTQ_IRQ_CFG0, { ADDR: 0x2000 });
    expect(read(m, s.EVENTQ_IRQ_CFG0)).toBe(0x1000);
  });

  it("has no message registers without IDR0.MSI", () => {
    const m = new Machine("qemu-11-virt");
    m.set(s.EVENTQ_IRQ_CFG0, { ADDR: 0x1000 });
    expect(read(m, s.EVENTQ_IRQ_CFG0)).toBe(0);
  });
});

describe("reset", () => {
  it("forgets registers, caches and stalled transactions", () => {
    const m = machine();
    m.stage1(0, {}, { S: true });
    expect(m.translate(0x1000n)).toBe(TranslationStatus.STALLED);
    m.chip.reset();
    expect([read(m, s.CR0), read(m, s.EVENTQ_PROD), read(m, s.CMDQ_PROD)]).toEqual([0, 0, 0]);
    expect(m.translate(0x1000n)).toBe(TranslationStatus.OK);
  });
});
