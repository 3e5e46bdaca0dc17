/** Plays a transcript against a platform: each scenario a fresh process, each line compared with what is answered here. */
import { EventFd, type IommuError, isErrno, O, OpenFile, PAGE_SIZE, type Task, user } from "@iommukit/core";
import { vfioOf } from "@iommukit/vfio-type1";
import type { Report } from "../report.js";
import { type Answer, difference, only } from "./compare.js";
import type { EduDma } from "./edu-dma.js";
import type { Machine } from "./machine.js";
import { lengthOf, mmOf, RecordedMemory, SCRATCH, SCRATCH_SIZE, vmLck } from "./recorded-memory.js";
import { argumentOf, type UserContext } from "./structs.js";
import { type Fields, hexBytes, type TranscriptStep, toBig } from "./transcript.js";

const FLAGS: Readonly<Record<string, number>> = { O_RDWR: O.RDWR, O_RDONLY: O.RDONLY, O_WRONLY: O.WRONLY };

export async function replay(
  machine: Machine,
  steps: readonly TranscriptStep[],
  report: Report,
  file: string,
): Promise<void> {
  for (const line of steps.filter((step) => !isStep(step))) report.fail(`${file}: no step: ${JSON.stringify(line)}`);
  for (const [name, lines] of byScenario(steps.filter(isStep))) {
    await machine.platform.run(async () => {
      const run = new ScenarioRun(machine);
      await run.start();
      for (const line of lines) {
        const where = `${file} ${name}${line.step === undefined ? "" : ` step ${line.step}`} ${line.req ?? line.op}`;
        await report.attempt(where, async () => {
          const difference = await run.play(line);
          if (difference === undefined) report.pass();
          else report.fail(`${where}: ${difference}`);
        });
      }
      await run.finish();
    }, name);
  }
}

/** Lines outside of the scenarios have none. */
function isStep(line: unknown): line is TranscriptStep {
  const step = line as Partial<TranscriptStep> | null;
  return typeof step?.op === "string" && ["string", "undefined"].includes(typeof step.scenario);
}

function byScenario(steps: readonly TranscriptStep[]): Map<string, TranscriptStep[]> {
  const scenarios = new Map<string, TranscriptStep[]>();
  for (const step of steps) {
    if (step.scenario === undefined) continue;
    const name = step.scenario.replace(/\/child$/, "");
    const lines = scenarios.get(name);
    if (lines) lines.push(step);
    else scenarios.set(name, [step]);
  }
  return scenarios;
}

class ScenarioRun implements UserContext {
  readonly task: Task;
  readonly scratch = SCRATCH;
  readonly #fds = new Map<string, number>();
  readonly #memory = new RecordedMemory();
  readonly #bars = new Map<string, EduDma>();
  #child: Task | undefined;

  constructor(private readonly machine: Machine) {
    this.task = machine.platform.kernel.spawn({ name: "vfiorec" });
  }

  async start(): Promise<void> {
    await mmOf(this.task).mmap({ address: SCRATCH, fixed: true, length: SCRATCH_SIZE });
  }

  async finish(): Promise<void> {
    await this.#child?.exit();
    await this.task.exit();
    this.#memory.close();
    vfioOf(this.machine.platform).params.dmaEntryLimit = 65535;
  }

  /** @returns what differs, in words; undefined when the line is answered as recorded */
  async play(line: TranscriptStep): Promise<string | undefined> {
    const task = await this.#taskFor(line);
    const answer = await this.#answer(line, task);
    const expected: Record<string, unknown> = {};
    for (const key of Object.keys(answer)) expected[key] = line[key];
    for (const key of ["ret", "errno", "out", "VmLck_kB"] as const) if (key in line) expected[key] = line[key];
    return difference(expected, answer);
  }

  /** Lines of `scenario/child` are the forked child's, until the parent goes on. */
  async #taskFor({ scenario }: TranscriptStep): Promise<Task> {
    if (scenario?.endsWith("/child")) {
      this.#child ??= await this.task.fork("child");
      return this.#child;
    }
    await this.#child?.exit();
    this.#child = undefined;
    return this.task;
  }

  async #answer(line: TranscriptStep, task: Task): Promise<Answer> {
    switch (line.op) {
      case "begin":
      case "note":
        return {};
      case "end":
        return { VmLck_kB: vmLck(task) };
      case "VmLck":
        return { VmLck_kB: vmLck(task) };
      case "sysfs":
        return this.machine.sysfs(line.path as string);
      case "open":
        return this.#call(line, () => task.open(this.#path(line.path as string), FLAGS[line.flags as string]));
      case "close":
        return this.#call(line, () => task.close(this.fd(line.fd as string)));
      case "ioctl":
        return this.#ioctl(line, task);
      case "read":
        return this.#call(line, () => task.pread(this.fd(line.fd as string), new Uint8Array(line.len as number), 0));
      case "write":
        return this.#call(line, () => task.pwrite(this.fd(line.fd as string), new Uint8Array(line.len as number), 0));
      case "mmap_fd":
        return this.#call(line, () => this.#mapFd(line, task));
      case "pread":
        return this.#pread(line, task);
      case "mmap":
        return this.#call(line, () => this.#memory.map(line, task, (length) => this.#bar(task, length)));
      case "munmap":
        return this.#call(line, () => this.#memory.unmap(line, task));
      case "mprotect":
        return this.#call(line, () => this.#memory.protect(line, task));
      case "mmap_fixed":
        return this.#call(line, () => this.#memory.replace(line, task));
      case "setrlimit":
        task.limits.memlock = line.RLIMIT_MEMLOCK as number;
        return { ret: 0 };
      case "setuid":
        task.credentials = user(line.uid as number);
        return { ret: 0 };
      case "mlock":
        return this.#call(line, () => this.#mlock(line, task));
      case "module_param":
        vfioOf(this.machine.platform).params.dmaEntryLimit = line.value as number;
        return { ret: 0 };
      case "fill":
        await this.#memory.fill(line, task);
        return {};
      case "peek":
        return { bytes: hexBytes(await this.#memory.peek(line, task)) };
      case "edu_init":
        return this.#call(line, () => this.#eduInit(line, task));
      case "dma":
        return this.#dma(line, task);
      case "munmap_bar":
        return this.#call(line, () => this.#bars.get(line.fd as string)?.unmap());
      default:
        throw new Error(`the transcript has an operation that the runner does not know: ${line.op}`);
    }
  }

  async #ioctl(line: TranscriptStep, task: Task): Promise<Answer> {
    const { req = "", nr = "0", fd = "" } = line;
    const { value, usesScratch, out } = argumentOf(req, line.in ?? {}, this);
    if (usesScratch) await mmOf(task).write(this.scratch, new Uint8Array(SCRATCH_SIZE));
    const answer = await this.#call(line, () => task.ioctl(this.fd(fd), Number(nr), value));
    const scratch = new Uint8Array(SCRATCH_SIZE);
    if (usesScratch) await mmOf(task).read(this.scratch, scratch);
    const all = typeof value === "bigint" ? undefined : out(value, scratch);
    const written = all && line.out ? only(Object.keys(line.out), all) : all;
    const withOut = written && (line.out || isUnexpected(line, written)) ? { ...answer, out: written } : answer;
    return "VmLck_kB" in line ? { ...withOut, VmLck_kB: vmLck(task) } : withOut;
  }

  /** A system call's result: `ret`, or -1 and the errno's name; a new descriptor gets its name. */
  async #call(line: TranscriptStep, call: () => Promise<unknown> | unknown): Promise<Answer> {
    try {
      const result = await call();
      if (line.ret !== "fd") return { ret: typeof result === "number" ? result : 0 };
      if (line.ret_fd) this.#fds.set(line.ret_fd, result as number);
      return { ret: "fd" };
    } catch (error) {
      if (!isErrno(error)) throw error;
      return { ret: -1, errno: (error as IommuError).code };
    }
  }

  #path(path: string): string {
    return path.replace(/\$group\((\w)\)/, (_, letter: string) => String(this.machine.groupOf(letter)));
  }

  fd(name: string): number {
    if (name === "eventfd") {
      return this.task.fds.install(new OpenFile(new EventFd(this.machine.platform.scheduler), O.RDWR));
    }
    if (name.startsWith("#0 ")) return this.#stdin();
    const literal = /^#(-?\d+)/.exec(name);
    return literal ? Number(literal[1]) : (this.#fds.get(name) ?? -1);
  }

  /** A descriptor of something that is not VFIO's. */
  #stdin(): number {
    return this.task.fds.install(new OpenFile({ name: "/dev/null" }, O.RDONLY));
  }

  expand(text: string): string {
    return text.replace(/\$bdf\((\w)\)/, (_, letter: string) => this.machine.bdfOf(letter));
  }

  address(place: Fields): bigint {
    return this.#memory.address(place);
  }

  #bar(task: Task, length: number) {
    return task.fds.get(this.fd("d0")).ops.mmap?.(task, 0, length, true, true);
  }

  #mapFd(line: TranscriptStep, task: Task): unknown {
    const { ops } = task.fds.get(this.fd(line.fd as string));
    return ops.mmap ? ops.mmap(task, 0, line.len as number, true, true) : this.machine.notMappable(ops.name);
  }

  async #mlock(line: TranscriptStep, task: Task): Promise<void> {
    this.machine.checkMemlock(task, lengthOf(line) / PAGE_SIZE);
    await this.#memory.lock(line, task);
  }

  async #pread(line: TranscriptStep, task: Task): Promise<Answer> {
    const bytes = new Uint8Array(line.len as number);
    const position = (line.region as number) * 2 ** 40 + (line.offset as number);
    const answer = await this.#call(line, () => task.pread(this.fd(line.fd as string), bytes, position));
    const count = Math.max(0, answer.ret as number);
    return { ...answer, out: { bytes: hexBytes(bytes.subarray(0, count)) } };
  }

  async #eduInit(line: TranscriptStep, task: Task): Promise<void> {
    this.#bars.set(line.fd as string, await this.machine.openEdu(task, this.fd(line.fd as string)));
  }

  async #dma(line: TranscriptStep, task: Task): Promise<Answer> {
    const what = line.what as string;
    const fd = what.startsWith("(device B)") ? "d1" : "d0";
    let dma = this.#bars.get(fd);
    if (!dma) {
      dma = await this.machine.openEdu(task, this.fd(fd));
      this.#bars.set(fd, dma);
    }
    await this.machine.pauseBefore(what);
    const from = this.machine.platform.kernel.log.length;
    await dma.run(line.dir as string, toBig(line.iova), toBig(line.len));
    return this.machine.faultsOf(line, this.machine.platform.kernel.log.slice(from));
  }
}

/** A structure that the recorder prints only when it has changed. */
function isUnexpected(line: TranscriptStep, written: Fields): boolean {
  return line.out === undefined && ("changed" in written || "bytes" in written);
}
