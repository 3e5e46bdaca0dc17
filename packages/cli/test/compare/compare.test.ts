import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LiveProcesses } from "@iommukit/host-linux";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Comparison } from "../../src/compare/compare.js";
import { main } from "../../src/program.js";

const linux = process.platform === "linux";
let out = "";
let err = "";
let folder = "";

beforeEach(() => {
  out = err = "";
  folder = mkdtempSync(join(tmpdir(), "iommukit-cli-"));
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += String(text);
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    err += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  rmSync(folder, { recursive: true });
});

async function json(...words: string[]): Promise<Comparison> {
  expect(await main(["compare", "--json", ...words])).toBe(0);
  return JSON.parse(out) as Comparison;
}

describe("iommukit compare", () => {
  it("verifies a simulated process behind both backends, and kills it under DMA", async () => {
    const { process: subject, backends } = await json("--simulated", "--mib", "2");
    expect(subject.kind).toBe("simulated");
    expect(backends.map(({ name }) => name)).toEqual(["smmuv3", "vtd"]);
    for (const backend of backends) {
      expect(backend).toMatchObject({ verified: true, leaks: [], faultsRecorded: 0 });
      expect(backend.checks).toHaveLength(7);
      expect(backend.pageRequests).toBeGreaterThan(512);
      expect(backend.pagesFaultedIn).toBeLessThanOrEqual(backend.pageRequests);
      expect(backend.exit).toMatchObject({ faultsRecorded: 0, pasidFreed: true });
      expect(backend.exit?.descriptors.SUCCESS).toBeUndefined();
    }
    const [arm, intel] = backends;
    expect(arm.pagesFaultedIn).toBe(intel.pagesFaultedIn);
    expect(arm.commands.CMD_PRI_RESP).toBe(arm.pageRequestGroups);
  }, 60_000);

  it("gives the same trace for the same seed, byte for byte, and another for another", async () => {
    const trace = async (name: string, seed: number) => {
      const file = join(folder, name);
      expect(await main(["compare", "--simulated", "--mib", "1", "--seed", `${seed}`, "--trace", file])).toBe(0);
      return readFileSync(file);
    };
    const first = await trace("a", 7);
    expect(first.equals(await trace("b", 7))).toBe(true);
    expect(first.equals(await trace("c", 8))).toBe(false);
    const lines = first.toString().trimEnd().split("\n");
    expect(JSON.parse(lines[0])).toMatchObject({ backend: "smmuv3" });
    expect(lines.every((line) => typeof JSON.parse(line).name === "string")).toBe(true);
  }, 60_000);

  it.runIf(linux)(
    "works on a child process of its own: ELF file, arguments and buffer agree with the world outside",
    async () => {
      const { process: subject, backends, workload } = await json("--mib", "2");
      expect(subject.kind).toBe("child");
      expect(workload.checks).toContain(`/proc/${subject.pid}/cmdline: CRC32 of memory equals that of the text`);
      for (const backend of backends) expect(backend).toMatchObject({ verified: true, leaks: [], faultsRecorded: 0 });
    },
    60_000,
  );

  it.runIf(linux)(
    "works on a process of the user's and leaves it alone",
    async () => {
      const child = spawn("sleep", ["1000"], { stdio: "ignore" });
      await once(child, "spawn");
      const { process: subject, backends } = await json("--mib", "1", "--pid", `${child.pid}`);
      expect(subject).toMatchObject({ kind: "live", pid: child.pid });
      for (const backend of backends) expect(backend).toMatchObject({ verified: true, leaks: [] });
      for (const { exit } of backends) expect(exit).toBeUndefined();
      expect(child.kill(0)).toBe(true);
      child.kill("SIGKILL");
    },
    60_000,
  );

  it.runIf(linux)(
    "says in one line that the user's process ended meanwhile",
    async () => {
      const child = spawn("sleep", ["1000"], { stdio: "ignore" });
      await once(child, "spawn");
      const bind = vi.spyOn(LiveProcesses.prototype, "install");
      bind.mockImplementationOnce(async function (this: LiveProcesses, platform) {
        child.kill("SIGKILL");
        await once(child, "exit");
        await LiveProcesses.prototype.install.call(this, platform);
      });
      expect(await main(["compare", "--mib", "1", "--pid", `${child.pid}`])).toBe(2);
      expect([out, err]).toEqual(["", `iommukit: process ${child.pid} ended meanwhile\n`]);
    },
    60_000,
  );

  it("prints a Markdown table with a column for each backend", async () => {
    expect(await main(["compare", "--simulated", "--mib", "1", "--format", "md", "--backend", "vtd"])).toBe(0);
    expect(out).toContain("| | vtd |\n| --- | ---: |\n| verified | yes (7 of 7 checks) |");
  }, 60_000);

  it.each([
    [["--pid", "0"], "a whole number from 1 to 4194304 is wanted"],
    [["--backend", "smmuv3,amd"], "NAME or NAME:PRESET with a name of smmuv3, vtd is wanted"],
    [["--backend", "vtd:amd"], "vtd has the presets qemu-11-q35"],
    [["--format", "xml"], "Allowed choices are text, md, json, ndjson, svg"],
    [["--workload", "sleep"], "Allowed choices are copy, chase"],
    [["--workload", "copy", "--pid", "1"], "cannot be used with option '--pid <n>'"],
    [["--workload", "copy", "--backend", "smmuv3:qemu-11-virt"], "share no bit of PASID"],
    [["--workload", "copy", "--backend", "vtd:qemu-11-q35"], "ECAP.PASID = 0"],
    [["--workload", "copy", "--sweep", "granule=16k"], "copy shares the CPU's tables, which have 4 KiB pages"],
    [["--workload", "ring", "--sweep", "granule=16k"], "VT-d's tables have 4 KiB pages only"],
    [["--workload", "ring", "--sweep", "page=2m"], "ring has no page requests, and no process pages"],
    [["--sweep", "tlb=64,100"], "--sweep tlb: 100: powers of two from 4 to 65536 are wanted"],
    [["--sweep", "page=1g"], "--sweep page: 1g: 4k and 2m are wanted"],
    [["--sweep", "tbl=64"], "a name of tlb, walk, atc"],
    [["--sweep", "atc=64,64"], "each value at most once"],
    [["--sweep", "atc=64", "--sweep", "atc=4"], "--sweep atc is given twice"],
    [["--pid", "1", "--simulated"], "--pid and --simulated exclude each other"],
    [["--simulated", "--trace", "/nowhere/t.ndjson"], "cannot write /nowhere/t.ndjson"],
    [["--bogus"], "unknown option '--bogus'"],
  ])("answers %j with one line and exit status 2", async (words, message) => {
    expect(await main(["compare", ...words])).toBe(2);
    expect(err).toContain(message);
    expect(err.trimEnd().split("\n")).toHaveLength(1);
    expect(out).toBe("");
  });

  it.runIf(linux)("says that a process does not exist or has no address space", async () => {
    expect(await main(["compare", "--pid", "4194304"])).toBe(2);
    expect(err).toBe("iommukit: ESRCH: no process has pid 4194304\n");
  });
});
