import { describe, expect, it } from "vitest";
import * as s from "../../src/index.js";
import { Machine, machine } from "./machine.js";

const get = <V>(m: Machine, register: { offset: number; decode(words: Int32Array): V }): V =>
  register.decode(Int32Array.of(m.chip.read32(register.offset)));

const DOORBELL = 0x800_0040;
const NOWHERE = 0xff00_0000;

describe("CR1 (6.3.11)", () => {
  const queues = { QUEUE_IC: "writeBack", QUEUE_OC: "writeThrough", QUEUE_SH: "inner" } as const;
  const tables = { TABLE_IC: "writeThrough", TABLE_OC: "writeBack", TABLE_SH: "outer" } as const;

  it("holds the queues' attributes while no queue is enabled, and the tables' while SMMUEN is 0", () => {
    const m = new Machine();
    m.set(s.CR1, { ...queues, ...tables });
    expect(get(m, s.CR1)).toEqual({ ...queues, ...tables });
    m.set(s.CR0, { CMDQEN: true });
    m.set(s.CR1, {});
    expect(get(m, s.CR1)).toEqual({ ...queues, TABLE_IC: "nonCacheable", TABLE_OC: "nonCacheable", TABLE_SH: "none" });
    m.set(s.CR0, { SMMUEN: true });
    m.set(s.CR1, { ...tables });
    expect(get(m, s.CR1)).toMatchObject({ QUEUE_IC: "nonCacheable", TABLE_IC: "nonCacheable", TABLE_SH: "none" });
  });
});

describe("acknowledgements", () => {
  it("CR0ACK follows CR0.VMW (6.3.10)", () => {
    const m = new Machine();
    m.set(s.CR0, { VMW: "ignore3" });
    expect(get(m, s.CR0ACK)).toMatchObject({ VMW: 3, SMMUEN: false });
  });

  it("IRQ_CTRLACK follows IRQ_CTRL (6.3.17)", () => {
    const all = { GERROR_IRQEN: true, PRIQ_IRQEN: true, EVENTQ_IRQEN: true };
    const m = new Machine();
    m.set(s.IRQ_CTRL, all);
    expect(get(m, s.IRQ_CTRLACK)).toEqual(all);
    const withoutPri = new Machine("qemu-11-virt");
    withoutPri.set(s.IRQ_CTRL, all);
    expect(get(withoutPri, s.IRQ_CTRLACK)).toEqual({ ...all, PRIQ_IRQEN: false });
  });

  it("GERRORN holds the errors that the chip can have (6.3.20)", () => {
    const m = new Machine();
    m.chip.write32(s.GERRORN.offset, 0xffff_ffff);
    expect(get(m, s.GERRORN)).toEqual({
      CMDQ_ERR: true,
      EVENTQ_ABT_ERR: true,
      PRIQ_ABT_ERR: true,
      MSI_CMDQ_ABT_ERR: true,
      MSI_EVENTQ_ABT_ERR: true,
      MSI_PRIQ_ABT_ERR: true,
      MSI_GERROR_ABT_ERR: true,
      SFM_ERR: true,
    });
    expect(get(m, s.GERROR)).toMatchObject({ CMDQ_ERR: false, SFM_ERR: false });
    const plain = new Machine("qemu-11-virt");
    plain.chip.write32(s.GERRORN.offset, 0xffff_ffff);
    expect(get(plain, s.GERRORN)).toMatchObject({ CMDQ_ERR: true, PRIQ_ABT_ERR: false, MSI_CMDQ_ABT_ERR: false });
  });
});

describe("queue indexes", () => {
  it.each([
    [s.CMDQ_BASE, s.CMDQ_PROD, s.CMDQ_CONS],
    [s.EVENTQ_BASE, s.EVENTQ_PROD, s.EVENTQ_CONS],
    [s.PRIQ_BASE, s.PRIQ_PROD, s.PRIQ_CONS],
  ] as const)("of a queue that becomes smaller are cut above the wrap bit (%#)", (base, prod, cons) => {
    const m = new Machine();
    m.set(base, { ADDR: 0x4000_0000, LOG2SIZE: 7 });
    for (const register of [prod, cons]) m.chip.write32(register.offset, 0x8000_00f5);
    const flag = base === s.CMDQ_BASE ? 0 : 0x8000_0000;
    expect([prod, cons].map(({ offset }) => m.chip.read32(offset))).toEqual([flag + 0xf5, flag + 0xf5]);
    m.set(base, { ADDR: 0x4000_0000, LOG2SIZE: 3 });
    expect([prod, cons].map(({ offset }) => m.chip.read32(offset))).toEqual([flag + 5, flag + 5]);
    m.set(base, { ADDR: 0x4000_0000, LOG2SIZE: 0 });
    expect([prod, cons].map(({ offset }) => m.chip.read32(offset))).toEqual([flag + 1, flag + 1]);
  });
});

describe("messages (3.18)", () => {
  it("of global errors carry GERROR_IRQ_CFG1.DATA", () => {
    const m = new Machine();
    m.set(s.GERROR_IRQ_CFG0, { ADDR: DOORBELL });
    m.set(s.GERROR_IRQ_CFG1, { DATA: 0x77 });
    m.start();
    m.submit(Int32Array.of(0xff, 0, 0, 0));
    expect(m.messages).toEqual([{ address: DOORBELL, data: 0x77 }]);
  });

  it("of page requests carry PRIQ_IRQ_CFG1.DATA, and raise MSI_PRIQ_ABT_ERR when they abort (7.5)", () => {
    const m = new Machine();
    m.set(s.PRIQ_IRQ_CFG0, { ADDR: DOORBELL });
    m.set(s.PRIQ_IRQ_CFG1, { DATA: 0x99 });
    m.start();
    m.pageRequest({ rid: 0 });
    expect([m.wires, m.messages]).toEqual([["priq"], [{ address: DOORBELL, data: 0x99 }]]);
    const lost = new Machine();
    lost.set(s.PRIQ_IRQ_CFG0, { ADDR: NOWHERE });
    lost.start();
    lost.pageRequest({ rid: 0 });
    expect(get(lost, s.GERROR)).toMatchObject({ MSI_PRIQ_ABT_ERR: true, MSI_EVENTQ_ABT_ERR: false });
  });
});

describe("output queues (3.5.1, 7.4, 8.1)", () => {
  it("count records in EVENTQ_PROD.WR until EVENTQ_CONS.RD follows; OVACKFLG acknowledges an overflow", () => {
    const m = machine();
    m.stage1();
    for (let i = 0; i < 17; i++) m.translate(0x1000n);
    expect(get(m, s.EVENTQ_PROD)).toEqual({ WR: 16, OVFLG: true });
    m.set(s.EVENTQ_CONS, { RD: 16, OVACKFLG: true });
    expect(get(m, s.EVENTQ_CONS)).toEqual({ RD: 16, OVACKFLG: true });
    m.translate(0x1000n);
    expect(get(m, s.EVENTQ_PROD)).toEqual({ WR: 17, OVFLG: true });
    for (let i = 0; i < 16; i++) m.translate(0x1000n);
    expect(get(m, s.EVENTQ_PROD)).toEqual({ WR: 0, OVFLG: false });
  });

  it("count page requests in PRIQ_PROD.WR until PRIQ_CONS.RD follows; OVACKFLG acknowledges an overflow", () => {
    const m = machine();
    for (let prgi = 0; prgi < 5; prgi++) m.pageRequest({ rid: 0, prgi, last: false });
    expect(get(m, s.PRIQ_PROD)).toEqual({ WR: 4, OVFLG: true });
    m.set(s.PRIQ_CONS, { RD: 4, OVACKFLG: true });
    m.pageRequest({ rid: 0, prgi: 9, last: false });
    expect([get(m, s.PRIQ_PROD), get(m, s.PRIQ_CONS)]).toEqual([
      { WR: 5, OVFLG: true },
      { RD: 4, OVACKFLG: true },
    ]);
  });
});
