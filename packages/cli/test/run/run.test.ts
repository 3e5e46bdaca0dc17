/** C programs under `iommukit run`: what they check themselves, they check against the kernel's rules, with the kernel's own descriptors. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createPlatform, type Platform } from "@iommukit/core";
import { smmuv3 } from "@iommukit/iommu-smmuv3";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, edu } from "@iommukit/pci-device";
import { vfioType1 } from "@iommukit/vfio-type1";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { main } from "../../src/program.js";
import { checkedExecutable } from "../../src/run/executable.js";
import { runSession, type SessionResult } from "../../src/run/session.js";

const compiler = process.env.CC ?? "cc";
const possible = process.platform === "linux" && spawnSync(compiler, ["--version"]).status === 0;
if (!possible) console.warn(`no Linux or no C compiler (${compiler}): programs under iommukit run are not tested`);
const PROGRAM = new URL("program.c", import.meta.url).pathname;
const EXAMPLE = new URL("../../../../examples/07-c-program/sort-list.c", import.meta.url).pathname;
const CLI = new URL("../../bin/iommukit.js", import.meta.url).pathname;
const HEADERS = new URL("../../../host-linux/shim/include", import.meta.url).pathname;

const PYTHON = spawnSync("python3", ["--version"]).status === 0;
if (!PYTHON) console.warn("no python3: a Python program is not run");

// Each starts a platform, a broker and a program or two, on machines that have other things to do.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

let folder = "";
let program = "";
let bound = "";
let example = "";

function compile(name: string, ...options: string[]): string {
  const path = join(folder, name);
  const { status, stderr } = spawnSync(compiler, ["-O1", "-o", path, ...options], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return path;
}

beforeAll(() => {
  if (!possible) return;
  folder = mkdtempSync(join(tmpdir(), "iommukit-run-"));
  program = compile("program", PROGRAM, "-lpthread");
  bound = compile("bound", "-I", HEADERS, new URL("bound.c", import.meta.url).pathname);
  example = compile("sort-list", "-I", HEADERS, EXAMPLE);
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  process.exitCode = undefined;
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** @param bytesPerMicrosecond a slow accelerator is still at it when its program does something else */
function machine(iommu = vtd(), bytesPerMicrosecond = 16_384): Promise<Platform> {
  return createPlatform({
    iommus: [iommu],
    devices: [edu({ bdf: "0000:00:05.0" }), accelerator({ bdf: "0000:6a:01.0", bytesPerMicrosecond })],
    services: [vfioType1()],
  });
}

async function run(path: string, ...args: string[]): Promise<SessionResult> {
  return runSession({ machine: { platform: await machine() }, program: checkedExecutable(path), args });
}

function captured(stream: NodeJS.WriteStream): () => string {
  let text = "";
  vi.spyOn(stream, "write").mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  return () => text;
}

const CLEAN = { status: 0, loaded: true, leaks: [], errors: [] };

/** Several programs on one machine. */
function shell(script: string): Promise<SessionResult> {
  return run("sh", "-c", script.replaceAll("PROGRAM", program).replaceAll("EXAMPLE", example));
}

describe.runIf(possible)("a program under iommukit run", () => {
  it.each([
    ["finds devices, groups and nodes under their usual paths", "files"],
    ["cannot open a group that is open", "steal"],
    ["may let go of container, group, device and mapped BAR in every order", "orders"],
    ["keeps its open files through dup, fork and exec, and close-on-exec is heeded", "inherit"],
    ["makes requests from several threads at once", "threads"],
    ["polls its eventfds for interrupts", "interrupts"],
    ["is served when it has become a daemon", "daemon"],
    ["finds the same by directory descriptors, openat2, fstat, glob and vectored reads", "calls"],
    ["may take over the numbers of its open files, and of the library's connections", "duplicates"],
    ["starts children with posix_spawn and vfork", "spawned"],
  ])("%s", async (_does, what) => {
    expect(await run(program, what)).toEqual(CLEAN);
  });

  it.runIf(process.arch === "x64")("reads and writes registers through a mapped BAR in every width", async () => {
    expect(await run(program, "registers")).toEqual(CLEAN);
  });

  it.runIf(process.arch === "x64")("copies and compares a BAR like memory", async () => {
    expect(await run(program, "vectors")).toEqual(CLEAN);
  });

  it.runIf(process.arch === "x64")("touches registers with every signal blocked", async () => {
    expect(await run(program, "blocked")).toEqual(CLEAN);
  });

  it("pays for untouched memory that it maps for reading, on kernels from 6.2 on", async () => {
    for (const [profile, kilobytes] of [
      ["linux-6.1", 0],
      ["linux-6.12", 64],
    ] as const) {
      const services = [vfioType1({ profile })];
      const platform = await createPlatform({ iommus: [vtd()], devices: [edu({ bdf: "0000:00:05.0" })], services });
      const args = ["untouched", String(kilobytes)];
      expect(await runSession({ machine: { platform }, program: program, args })).toEqual(CLEAN);
    }
  });

  it.runIf(process.arch === "x64")("moves memory that a device may reach", async () => {
    expect(await run(program, "moved")).toEqual(CLEAN);
  });

  it.runIf(process.arch === "x64")("maps a BAR for another DMA", async () => {
    expect(await run(program, "peer")).toEqual(CLEAN);
  });

  it.runIf(process.arch === "x64")("may be instrumented with AddressSanitizer", async () => {
    const instrumented = compile("instrumented", "-fsanitize=address", PROGRAM, "-lpthread");
    for (const what of ["calls", "registers", "spawned"]) expect(await run(instrumented, what)).toEqual(CLEAN);
  });

  it("ends of its own faults, also with a BAR mapped", async () => {
    expect(await run(program, "segfault")).toEqual({ ...CLEAN, status: 139 });
  });

  it("may be killed in the middle of a DMA: everything is given back, and the next one opens the device", async () => {
    expect(await shell("PROGRAM killed; [ $? = 137 ] && PROGRAM orders > /dev/null")).toEqual(CLEAN);
  });

  it("shares the machine with others, each with its own devices", async () => {
    const both = "PROGRAM threads > /dev/null & first=$!; EXAMPLE > /dev/null || exit 1; wait $first";
    expect(await shell(both)).toEqual(CLEAN);
  });

  it.each([
    ["smmuv3", () => smmuv3()],
    ["vtd", () => vtd()],
  ] as const)("binds its address space, and the device sorts its list behind %s", async (_name, iommu) => {
    const platform = await machine(iommu());
    const answered: string[] = [];
    platform.trace.on("pri:answered", ({ code }) => answered.push(code));
    platform.trace.on("stall:resolved", ({ action }) => answered.push(action));
    const script = `'${example}' > '${folder}/out'`;
    const result = await runSession({ machine: { platform }, program: checkedExecutable("sh"), args: ["-c", script] });
    expect(result).toEqual(CLEAN);
    expect(readFileSync(join(folder, "out"), "utf8")).toMatch(/^the device visited 1000 nodes\n1000 nodes, sorted/);
    expect(answered.length).toBeGreaterThan(0);
  });

  describe.each([
    ["smmuv3", () => smmuv3()],
    ["vtd", () => vtd()],
  ] as const)("that is bound behind %s, under a DMA of the device's,", (_name, iommu) => {
    it.each([
      ["unmaps what the device is about to reach", "unmap", 0],
      ["replaces and protects what the device has reached", "replace", 0],
      ["forks, and the device stays with the parent", "child", 0],
      ["binds another process by its pid", "foreign", 0],
      ["is killed, and everything is given back", "kill", 137],
    ])("%s", async (_does, what, status) => {
      const slow = await machine(iommu(), 1);
      const result = await runSession({ machine: { platform: slow }, program: checkedExecutable(bound), args: [what] });
      expect(result).toEqual({ ...CLEAN, status });
    });
  });

  it.runIf(PYTHON)("is in Python, whose modules make the calls", async () => {
    expect(await run("python3", new URL("program.py", import.meta.url).pathname)).toEqual(CLEAN);
  });

  it("is ls, find, cat, stat or a shell's pattern", async () => {
    const script = `set -e
      ls -l /dev/vfio /sys/kernel/iommu_groups /sys/bus/pci/devices
      find /dev/vfio /sys/kernel/iommu_groups/0 -name '0000:*' -o -name 1
      stat -c '%F %t:%T' /dev/vfio/vfio
      cat /sys/bus/pci/devices/0000:00:05.0/vendor /sys/kernel/iommu_groups/*/type
      cd /sys/bus/pci/devices/0000:6a:01.0 && readlink iommu_group && cat device
      [ ! -e /dev/iommu ] && echo /dev/vfio/*`;
    const out = join(folder, "listing");
    expect(await shell(`(${script}) > ${out} 2>&1`)).toEqual(CLEAN);
    expect(readFileSync(out, "utf8")).toMatch(
      new RegExp(
        [
          "crw-rw-rw-.* 10, 196 .* vfio\n",
          "0000:00:05.0 -> ../../../devices/pci0000:00/0000:00:05.0\n",
          "/dev/vfio/1\n",
          "/sys/kernel/iommu_groups/0/devices/0000:00:05.0\n",
          "character special file a:c4\n",
          "0x1234\nDMA\nDMA\n",
          "kernel/iommu_groups/1\n0x5a01\n",
          "/dev/vfio/0 /dev/vfio/1 /dev/vfio/vfio\n$",
        ].join("[^]*"),
      ),
    );
  });

  it("finds its sleeps over at once with --skip-sleeps, and the machine's time gone by", async () => {
    const platform = await machine();
    const before = platform.scheduler.now;
    const script = `'${program}' stray > /dev/null`;
    const options = { machine: { platform }, program: checkedExecutable("sh"), args: ["-c", script], skipSleeps: true };
    const started = process.hrtime.bigint();
    expect(await runSession(options)).toEqual(CLEAN);
    // edu's DMA begins 100 ms after the command; the program polls for its end.
    expect(platform.scheduler.now - before).toBeGreaterThan(100_000_000);
    expect(platform.kernel.log.join("\n")).toMatch(/fault addr 0x900000/);
    expect(Number(process.hrtime.bigint() - started)).toBeGreaterThan(0);
  });

  it("gets its exit status through, and 128 and the signal's number", async () => {
    expect((await run("sh", "-c", "exit 7")).status).toBe(7);
    expect((await run("sh", "-c", "kill -TERM $$")).status).toBe(143);
  });
});

describe.runIf(possible)("an ordinary user", () => {
  const root = process.getuid?.() === 0;
  if (!root) console.warn("not root: that another, ordinary user can run programs is shown by all other tests");

  it.runIf(root)("runs programs without privileges", () => {
    spawnSync("chmod", ["755", folder]);
    const user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "env", "HOME=/nonexistent"];
    const { status, stdout } = spawnSync("setpriv", [...user, process.execPath, CLI, "run", "--", example], {
      encoding: "utf8",
    });
    expect([status, stdout]).toEqual([0, expect.stringContaining("1000 nodes, sorted")]);
  });
});

describe.runIf(possible)("a device of the user's own", () => {
  it("is a module, and a C program drives it", () => {
    const adder = compile("adder", new URL("adder.c", import.meta.url).pathname);
    const module = new URL("../../../../examples/dist/06-own-device.js", import.meta.url).pathname;
    const words = [CLI, "run", "--machine", module, "--expect-clean", "--", adder];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: "utf8" });
    expect([status, stdout, stderr]).toEqual([0, "sum 100, status 0\n", ""]);
  });
});

describe.runIf(possible)("the README's session", () => {
  it("prints what stands there", () => {
    const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
    const session = /```console\n(\$ cc [\s\S]*?)```/.exec(readme)?.[1].replaceAll("/tmp/", `${folder}/`) ?? "";
    const commands = [...session.matchAll(/^\$ (.*)$/gm)].map(([, command]) => command);
    const script = `iommukit() { '${process.execPath}' '${CLI}' "$@"; }\n${commands.join("\n")}`;
    const cwd = new URL("../../../..", import.meta.url).pathname;
    const { stdout } = spawnSync("sh", ["-c", script], { cwd, encoding: "utf8" });
    expect(commands).toHaveLength(3);
    expect(stdout).toBe(session.replaceAll(/^\$ .*\n/gm, ""));
  });
});

describe.runIf(possible)("iommukit run", () => {
  it("says that a recording cannot be written, and the program does not feel it", async () => {
    const complaints = captured(process.stderr);
    const written = join(folder, "seen");
    const script = `exec 9<>/dev/vfio/vfio && ls /dev/vfio > ${written}`;
    expect(await main(["run", "--record", "/dev/full", "--", "sh", "-c", script])).toBe(2);
    expect(complaints()).toBe("iommukit: cannot write /dev/full: ENOSPC: no space left on device, write\n");
    expect(readFileSync(written, "utf8")).toContain("vfio");
  });

  it("records system calls, accesses and DMA as NDJSON", async () => {
    const record = join(folder, "record");
    const script = `'${example}' > /dev/null`;
    expect(await main(["run", "--record", record, "--expect-clean", "--", "sh", "-c", script])).toBe(0);
    const names = readFileSync(record, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { name: string }).name);
    expect([...new Set(names)]).toEqual(
      expect.arrayContaining(["file:opened", "ioctl:returned", "file:accessed", "bar:accessed", "dma:completed"]),
    );
  });

  it("fails with --expect-clean when a DMA was refused, and shows the fault", async () => {
    const script = `'${program}' stray > /dev/null`;
    const complaints = captured(process.stderr);
    expect(await main(["run", "--", "sh", "-c", script])).toBe(0);
    expect(await main(["run", "--expect-clean", "--", "sh", "-c", script])).toBe(1);
    expect(complaints()).toMatch(/iommukit: .*0000:00:05\.0.*0x900000/);
  });

  it.each([
    ["unmap-race", 0],
    ["ats-timeout", 0],
    ["L-1,unmap-race", 0],
    ["enomem", 1],
  ])("injects %s under a program, which ends with %i", async (names, status) => {
    const script = `'${example}' > /dev/null 2>&1`;
    expect(await main(["run", "--inject", names, "--", "sh", "-c", script])).toBe(status);
  });

  it("fails with --expect-clean when a driver breaks a rule under the program", async () => {
    const script = `'${bound}' replace > /dev/null`;
    const complaints = captured(process.stderr);
    expect(await main(["run", "--expect-clean", "--", "sh", "-c", script])).toBe(0);
    expect(complaints()).toBe("");
    // S-18: a PASID is free before hardware has forgotten it.
    expect(await main(["run", "--inject", "S-18", "--expect-clean", "--", "sh", "-c", script])).toBe(1);
    expect(complaints()).toMatch(/iommukit: I-3: PASID 1 is free, and the ATC of 0000:6a:01\.0 has \d+ entries of it/);
  });

  it("fails with --expect-clean when the machine holds something in the end", () => {
    const leaky = join(folder, "leaky.mjs");
    const example = new URL("../../../../examples/dist/06-own-device.js", import.meta.url).href;
    const service = '{ name: "leaky", install: async () => {}, leaks: () => ["2 pages of nobody"] }';
    writeFileSync(
      leaky,
      `import machine from "${example}";
       export default async (request) => {
         const platform = await machine(request);
         await platform.run(() => platform.addService(${service}));
         return platform;
       };`,
    );
    const words = [CLI, "run", "--machine", leaky, "--expect-clean", "--", "ls", "/dev/vfio"];
    const { status, stderr } = spawnSync(process.execPath, words, { encoding: "utf8" });
    expect([status, stderr]).toEqual([1, "iommukit: left behind: 2 pages of nobody\n"]);
  });

  it("fails with --expect-clean when the kernel complained", async () => {
    const complaints = captured(process.stderr);
    const options = ["--expect-clean", "--inject", "ats-timeout"];
    expect(await main(["run", ...options, "--", "sh", "-c", `'${example}' > /dev/null`])).toBe(1);
    expect(complaints()).toMatch(/iommukit: kernel: DMAR: .*Time-out/i);
  });

  it("refuses an injection that it does not know, a machine that is none, and a missing program", async () => {
    const complaints = captured(process.stderr);
    expect(await main(["run", "--inject", "gremlins", "--", "true"])).toBe(2);
    expect(await main(["run", "--machine", "/dev/null", "--", "true"])).toBe(2);
    expect(await main(["run", "--", "no-such-program"])).toBe(2);
    const text = join(folder, "text");
    writeFileSync(text, "no program\n");
    expect(await main(["run", "--", text])).toBe(2);
    expect(complaints()).toMatch(/cannot run .*text: spawn .* EACCES/);
    expect(await main(["run", "--record", join(folder, "no", "such"), "--", "true"])).toBe(2);
    expect(complaints()).toMatch(/cannot write .*no\/such: ENOENT/);
    expect(complaints()).toMatch(
      /no "gremlins"; there are unmap-race, .*\/dev\/null is neither a module .*no-such-program/s,
    );
    expect(await main(["run", "--machine", "no-such.js", "--", "true"])).toBe(2);
    const none = join(folder, "none.mjs");
    writeFileSync(none, "export default 1;\n");
    expect(await main(["run", "--machine", none, "--", "true"])).toBe(2);
    const one = join(folder, "one.mjs");
    writeFileSync(one, "export default () => 1;\n");
    expect(await main(["run", "--machine", one, "--", "true"])).toBe(2);
    expect(complaints()).toMatch(
      /there is no file no-such\.js.*none\.mjs has no default export.*one\.mjs returned no platform/s,
    );
  });

  it("says what is missing without a C compiler", async () => {
    const complaints = captured(process.stderr);
    vi.stubEnv("CC", "no-such-compiler");
    expect(await main(["run", "--", "true"])).toBe(2);
    expect(complaints()).toMatch(/no C compiler "no-such-compiler".*install gcc or clang/);
  });

  it("refuses what does not load the library, and says why", () => {
    writeFileSync(join(folder, "main.c"), "int main(void) { return 0; }\n");
    const still = compile("static", "-static", join(folder, "main.c"));
    expect(() => checkedExecutable(still)).toThrow(/is statically linked: .* seccomp user notification/);
    expect(() => checkedExecutable("no-such-program")).toThrow("there is no program no-such-program");
    const script = join(folder, "script");
    writeFileSync(script, `#!${still} -x\n`);
    expect(() => checkedExecutable(script)).toThrow(/script runs .*static, which is statically linked/);
    const narrow = join(folder, "narrow");
    const header = Buffer.from(readFileSync(program).subarray(0, 2000));
    header[4] = 1;
    writeFileSync(narrow, header);
    expect(() => checkedExecutable(narrow)).toThrow(/is a 32-bit program/);
    const musl = join(folder, "musl");
    const loader = /\/lib[\w/]*\/ld-linux[\w.-]*/;
    const other = readFileSync(program, "latin1").replace(loader, (path) =>
      "/lib/ld-musl.so".padEnd(path.length, "\0"),
    );
    writeFileSync(musl, Buffer.from(other, "latin1"));
    expect(() => checkedExecutable(musl)).toThrow(/is linked against musl/);
    const go = join(folder, "go");
    writeFileSync(go, Buffer.concat([readFileSync(program).subarray(0, 2000), Buffer.from('\xff Go build ID: "x"')]));
    expect(() => checkedExecutable(go)).toThrow(/is a Go program/);
  });
});
