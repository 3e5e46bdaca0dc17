/**
 * `oracle vtd`: random tables and requests, answered by the model and by QEMU's intel-iommu. Modes: `legacy`, `ss` (scalable
 * mode, second stage), `fs` (scalable mode, first stage), and `driver`, where our driver drives QEMU's unit. Compared: the fault record, where the data went, and the paging
 * entries afterwards. QEMU's deviations are applied to what is expected of it, never to the model.
 */
import { Random } from "@iommukit/core";
import { CAP, CONTEXT_CACHE_INVALIDATE, ECAP, IOTLB_INVALIDATE, PASID_CACHE_INVALIDATE } from "@iommukit/iommu-vtd";
import type { Report } from "../../report.js";
import { UsageError } from "../../tool.js";
import type { OracleRequest } from "../request.js";
import { DMAR, PATTERN, QemuBoard, RAM_SIZE, type VtdMode } from "./board.js";
import { PASIDS, QUEUE, ROOT, randomCase, type VtdCase } from "./cases.js";
import { runVtdDriver, runVtdEdu } from "./driver.js";
import { Model, type Outcome } from "./model.js";
import { expectedOfQemu, withWidth } from "./quirks.js";

const MODES: readonly VtdMode[] = ["legacy", "ss", "fs"];
/** Cases in flight before their answers are looked at. */
const WINDOW = 16;
const GCMD = 0x18;
const RTADDR = 0x20;
const CCMD = 0x28;
const IQT = 0x88;
const IQA = 0x90;
const IOTLB = 0xf8;
const QUEUE_BYTES = 4096;
/** Four descriptors of 32 bytes a case. */
const STEP = 128;

interface Pending {
  readonly number: number;
  readonly given: VtdCase;
  readonly model: Outcome;
  /** The model's paging entries after the request. */
  readonly entries: readonly bigint[];
  readonly record: ReturnType<QemuBoard["takeFault"]>;
  /** Where the data is looked for. */
  readonly checked: number;
  readonly data: ReturnType<QemuBoard["qtest"]["later"]>;
  readonly qemuEntries: readonly ReturnType<QemuBoard["qtest"]["later"]>[];
}

class Session {
  readonly #board: QemuBoard;
  readonly #model: Model;
  #tail = 0;
  #written: number[] = [];
  #pending: Pending[] = [];

  constructor(
    private readonly mode: VtdMode,
    private readonly report: Report,
  ) {
    this.#board = new QemuBoard(mode);
    const { qtest } = this.#board;
    // QEMU writes accessed bits back although it does not report that its walks are snooped.
    const coherent = mode === "fs" ? 1n << 48n : 0n;
    this.#model = new Model(qtest.readq(DMAR + CAP.offset), qtest.readq(DMAR + ECAP.offset) | coherent);
    this.#bringUp();
  }

  close(): void {
    this.#board.qtest.close();
  }

  #write32(offset: number, value: number): void {
    this.#board.qtest.writel(DMAR + offset, value);
    this.#model.chip.write32(offset, value >>> 0);
  }

  #write64(offset: number, value: bigint): void {
    this.#board.qtest.writeq(DMAR + offset, value);
    this.#model.chip.write64(offset, value);
  }

  #store(pa: number, value: bigint): void {
    this.#board.qtest.writeq(pa, value);
    this.#model.store(pa, value);
  }

  #bringUp(): void {
    const scalable = this.mode !== "legacy";
    this.#write64(RTADDR, BigInt(ROOT) | (scalable ? 0x400n : 0n));
    this.#write32(GCMD, 0x4000_0000);
    if (scalable) this.#fillQueue();
    this.#write32(GCMD, scalable ? 0x8400_0000 : 0x8000_0000);
  }

  /** The queue holds the same four descriptors over and over: a case moves the tail. */
  #fillQueue(): void {
    const flush = [
      CONTEXT_CACHE_INVALIDATE.encode({ TYPE: "contextCache", G: "global" }),
      PASID_CACHE_INVALIDATE.encode({ TYPE: "pasidCache", G: "global" }),
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" }),
      IOTLB_INVALIDATE.encode({ TYPE: "iotlb", G: "global" }),
    ];
    for (let at = 0; at < QUEUE_BYTES; at += 32) {
      const words = flush[(at / 32) % flush.length];
      this.#store(QUEUE + at, BigInt(words[0] >>> 0) | (BigInt(words[1] >>> 0) << 32n));
    }
    this.#write64(IQA, BigInt(QUEUE) | 0x800n);
    this.#write32(GCMD, 0x0400_0000);
  }

  #invalidate(): void {
    if (this.mode === "legacy") {
      this.#write64(CCMD, 0xa000_0000_0000_0000n);
      this.#write64(IOTLB, 0x9000_0000_0000_0000n);
      return;
    }
    this.#tail = (this.#tail + STEP) % QUEUE_BYTES;
    this.#write64(IQT, BigInt(this.#tail));
  }

  run(number: number, given: VtdCase): void {
    const { qtest } = this.#board;
    const now = new Set(given.stores.map(({ pa }) => pa));
    for (const pa of this.#written) if (!now.has(pa)) this.#store(pa, 0n);
    for (const { pa, value } of given.stores) {
      this.#board.qtest.writeq(pa, this.mode === "fs" && pa === PASIDS ? withWidth(value) : value);
      this.#model.store(pa, value);
    }
    this.#written = [...now];
    this.#invalidate();
    const model = this.#model.request(given.iova, given.write);
    this.#board.dma(given.iova, given.write);
    const record = this.#board.takeFault(this.#model.frcd);
    // A disturbed leaf may lead to another word of RAM than was meant.
    const checked = model.pa >= 0 && model.pa < RAM_SIZE ? model.pa : given.target;
    const data = qtest.later(`readl ${checked}`);
    qtest.writel(checked, 0);
    const qemuEntries = given.path.map(({ pa }) => qtest.later(`readq ${pa}`));
    this.#pending.push({
      number,
      given,
      model,
      entries: given.path.map(({ pa }) => this.#model.memory.load64(pa)),
      record,
      checked,
      data,
      qemuEntries,
    });
    if (this.#pending.length >= WINDOW) this.settle();
  }

  /** Looks at the answers of the cases in flight. */
  settle(): void {
    this.#board.qtest.flush();
    for (const pending of this.#pending) this.#judge(pending);
    this.#pending = [];
  }

  #judge({ number, given, model, entries, record, checked, data, qemuEntries }: Pending): void {
    const expected = expectedOfQemu(this.mode, given, { outcome: model, entries });
    const [lo, hi] = [record[0].big, record[1].big];
    const recorded = hi >> 63n === 1n;
    const differences: string[] = [];
    const wanted = expected.outcome.record;
    if (recorded !== (wanted[1] !== 0n) || (recorded && (lo !== wanted[0] || hi !== wanted[1]))) {
      differences.push(`record ${show(wanted)} expected, QEMU has ${recorded ? show([lo, hi]) : "none"}`);
    }
    const word = given.write && expected.outcome.pa === checked ? PATTERN : 0;
    if (data.value !== word)
      differences.push(`0x${data.value.toString(16)} at 0x${checked.toString(16)}, expected 0x${word.toString(16)}`);
    for (const [index, reply] of qemuEntries.entries()) {
      if (reply.big !== expected.entries[index]) {
        differences.push(
          `level ${given.path[index].level} entry 0x${expected.entries[index].toString(16)} expected, QEMU has 0x${reply.big.toString(16)}`,
        );
      }
    }
    if (differences.length === 0) this.report.pass();
    else
      this.report.fail(
        `vtd ${this.mode} case ${number}: ${given.write ? "write" : "read"} of 0x${given.iova.toString(16)}, model ${model.reason === 0 ? "ok" : `0x${model.reason.toString(16)}`}: ${differences.join("; ")}\n    ${given.stores.map(({ pa, value }) => `${pa.toString(16)}=${value.toString(16)}`).join(" ")}`,
      );
  }
}

function show([lo, hi]: readonly [bigint, bigint]): string {
  return `0x${hi.toString(16)}:0x${lo.toString(16)}`;
}

/** @throws UsageError for a mode that does not exist, or without a QEMU */
export async function run(request: OracleRequest, report: Report): Promise<void> {
  const { mode, cases, seed } = request;
  if (mode === "driver") return runVtdDriver(request, report);
  if (mode === "edu") return runVtdEdu(request, report);
  const modes = mode === undefined ? MODES : MODES.filter((each) => each === mode);
  const known = [...MODES, "driver", "edu"].join(", ");
  if (modes.length === 0) throw new UsageError(`vtd has no mode ${JSON.stringify(mode)} (modes: ${known})`);
  for (const [index, each] of modes.entries()) {
    const share = Math.floor((cases + index) / modes.length);
    const session = new Session(each, report);
    const random = new Random(seed * 0x1_0001 + index);
    try {
      for (let number = 0; number < share; number++) session.run(number, randomCase(random, each));
      session.settle();
    } finally {
      session.close();
    }
  }
}
