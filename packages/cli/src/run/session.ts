/** A program on a platform: the bridge, the directory tree that it finds, the program itself, and what is left afterwards. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { Bridge, buildShim, layOutTree, ShimError } from "@iommukit/host-linux";
import { UsageError } from "../errors.js";
import type { LoadedMachine } from "../machines/load-machine.js";
import { addModuleParameters } from "./module-parameters.js";

/** Where pages of programs are: above any RAM of ours, below the 2^39 that the narrowest IOMMU can address. */
const FRAMES = { base: 0x20_0000_0000, size: 0x20_0000_0000 };
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface SessionOptions {
  readonly machine: LoadedMachine;
  /** Path of the program, and its arguments. */
  readonly program: string;
  readonly args: readonly string[];
  /** The program's sleeps take no time: the machine's clock goes on by as much. */
  readonly skipSleeps?: boolean;
}

export interface SessionResult {
  /** As a shell has it: 128 and the signal's number, when one ended the program. */
  readonly status: number;
  /** The program loaded the library. */
  readonly loaded: boolean;
  /** What the platform still held when the program had gone, one line each. */
  readonly leaks: readonly string[];
  /** Bugs of the platform's that the program ran into. */
  readonly errors: readonly unknown[];
}

/** @throws UsageError without a C compiler, and when the program cannot be started */
export async function runSession({
  machine,
  program,
  args,
  skipSleeps = false,
}: SessionOptions): Promise<SessionResult> {
  const { platform, kernel, bystanders } = machine;
  const shim = shimOrAdvice();
  const directory = mkdtempSync(join(tmpdir(), "iommukit-"));
  const key = randomBytes(16).toString("hex");
  try {
    // A program that gives up root still finds its devices: the name of the directory is no secret, the key is.
    chmodSync(directory, 0o755);
    addModuleParameters(platform);
    const bridge = await Bridge.start(platform, { directory, key, broker: shim.broker, frames: FRAMES, kernel });
    mkdirSync(join(directory, "root"));
    layOutTree(platform, join(directory, "root"), bystanders);
    const variables = {
      LD_PRELOAD: [shim.library, process.env.LD_PRELOAD].filter(Boolean).join(":"),
      IOMMUKIT_RUN: directory,
      IOMMUKIT_KEY: key,
      IOMMUKIT_SKIP_SLEEPS: skipSleeps ? "1" : undefined,
      // AddressSanitizer wants to be the first library; it works as the second.
      ASAN_OPTIONS: ["verify_asan_link_order=0", process.env.ASAN_OPTIONS].filter(Boolean).join(":"),
    };
    let status: number;
    try {
      status = await runChild(program, args, variables);
    } finally {
      await bridge.close();
    }
    const leaks = await platform.close();
    return { status, loaded: existsSync(join(directory, "loaded")), leaks, errors: bridge.errors };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function shimOrAdvice(): ReturnType<typeof buildShim> {
  try {
    return buildShim();
  } catch (error) {
    if (error instanceof ShimError) throw new UsageError(error.message);
    throw error;
  }
}

/** The program's end is the end of the run; signals to us are for it. */
function runChild(program: string, args: readonly string[], variables: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: "inherit", env: { ...process.env, ...variables } });
    const forward = (signal: NodeJS.Signals) => child.kill(signal);
    for (const signal of SIGNALS) process.on(signal, forward);
    const stopForwarding = () => {
      for (const signal of SIGNALS) process.off(signal, forward);
    };
    child.once("error", (error) => {
      stopForwarding();
      reject(new UsageError(`cannot run ${program}: ${error.message}`));
    });
    child.once("exit", (code, signal) => {
      stopForwarding();
      resolve(code ?? 128 + (signal ? constants.signals[signal] : 0));
    });
  });
}
