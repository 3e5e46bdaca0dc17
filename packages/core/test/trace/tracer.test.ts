import { describe, expect, it } from "vitest";
import { type TraceRecord, Tracer, traceLine } from "../../src/index.js";

const LOOKUP = { unit: "smmuv3", cache: "TLB", rid: 8, pasid: 1, address: 0x1000n };

describe("Tracer", () => {
  it("gives named listeners their events, and subscribers every event as a record", () => {
    let now = 5;
    const trace = new Tracer(() => now);
    const hits: unknown[] = [];
    const records: TraceRecord[] = [];
    const off = trace.on("tlb:hit", (event) => hits.push({ ...event }));
    const stop = trace.subscribe((record) => records.push(record));
    trace.emit("tlb:hit", { ...LOOKUP });
    now = 7;
    trace.emit("tlb:missed", { ...LOOKUP });
    off();
    trace.emit("tlb:hit", { ...LOOKUP });
    stop();
    trace.emit("tlb:hit", { ...LOOKUP });
    expect(hits).toEqual([LOOKUP]);
    expect(records).toEqual([
      { time: 5, name: "tlb:hit", ...LOOKUP },
      { time: 7, name: "tlb:missed", ...LOOKUP },
      { time: 7, name: "tlb:hit", ...LOOKUP },
    ]);
    expect(trace.enabled).toBe(false);
  });

  it("knows who wants what, and says when that turns", () => {
    const trace = new Tracer(() => 0);
    const turns: string[] = [];
    const hits = trace.interest(["tlb:hit"], () => turns.push(`hits ${hits.wanted}`));
    const reads = trace.interest(["table:read", "table:updated"], () => turns.push(`reads ${reads.wanted}`));
    const first = trace.on("tlb:hit", () => {});
    const second = trace.on("tlb:hit", () => {});
    expect([hits.wanted, reads.wanted, trace.enabled]).toEqual([true, false, true]);
    first();
    second();
    const read = trace.on("table:updated", () => {});
    const all = trace.subscribe(() => {});
    read();
    expect([hits.wanted, reads.wanted]).toEqual([true, true]);
    // An interest that comes later knows as well.
    expect(trace.interest(["log:printed"]).wanted).toBe(true);
    all();
    expect(turns).toEqual(["hits true", "hits false", "reads true", "hits true", "hits false", "reads false"]);
  });

  it("emits through a channel as it does by name", () => {
    const trace = new Tracer(() => 3);
    const hits = trace.channel("tlb:hit");
    const heard: unknown[] = [];
    hits.emit({ ...LOOKUP });
    const first = trace.on("tlb:hit", ({ rid }) => heard.push(rid));
    const second = trace.on("tlb:missed", ({ rid }) => heard.push(-rid));
    hits.emit({ ...LOOKUP });
    first();
    expect(hits.wanted).toBe(false);
    hits.emit({ ...LOOKUP });
    second();
    trace.subscribe(({ time, name }) => heard.push([time, name]));
    hits.emit({ ...LOOKUP });
    expect(heard).toEqual([LOOKUP.rid, [3, "tlb:hit"]]);
    expect([hits.wanted, trace.channel("tlb:hit").wanted]).toEqual([true, true]);
  });

  it("tells who watches of each event that is emitted, and whether an event is wanted", () => {
    const trace = new Tracer(() => 3);
    const hits = trace.channel("tlb:hit");
    const seen: string[] = [];
    trace.onEmit = (name) => seen.push(name);
    trace.emit("tlb:missed", { ...LOOKUP });
    expect([seen, trace.wants("tlb:hit"), trace.wants("tlb:missed")]).toEqual([[], false, false]);
    const stop = trace.on("tlb:hit", () => {});
    hits.emit({ ...LOOKUP });
    trace.emit("tlb:missed", { ...LOOKUP });
    expect([seen, trace.wants("tlb:hit"), trace.wants("tlb:missed")]).toEqual([["tlb:hit", "tlb:missed"], true, false]);
    stop();
    trace.subscribe(() => {});
    expect(trace.wants("tlb:missed")).toBe(true);
  });

  it("prints a record with its time and name first, addresses in hex", () => {
    const trace = new Tracer(() => 3);
    const lines: string[] = [];
    trace.subscribe((record) => lines.push(traceLine(record)));
    trace.emit("tlb:filled", { ...LOOKUP, pa: 0x1_0000_2000, size: 4096 });
    trace.emit("table:updated", { unit: "vtd", table: "FS L1", address: 0x1_0000_3008, value: 0x63n });
    trace.emit("command:consumed", { unit: "vtd", command: "inv_wait_dsc", words: [0x25, -1] });
    expect(lines).toEqual([
      '{"time":3,"name":"tlb:filled","unit":"smmuv3","cache":"TLB","rid":8,"pasid":1,"address":"0x1000","pa":"0x100002000","size":4096}',
      '{"time":3,"name":"table:updated","unit":"vtd","table":"FS L1","address":"0x100003008","value":"0x63"}',
      '{"time":3,"name":"command:consumed","unit":"vtd","command":"inv_wait_dsc","words":["0x00000025","0xffffffff"]}',
    ]);
  });
});
