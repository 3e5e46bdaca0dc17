/** The machine that programs run on: a module of the user's, a transcript's, or one with everything in it. */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";
import { createPlatform, type Device, isErrno, type Platform } from "@iommukit/core";
import { vtd } from "@iommukit/iommu-vtd";
import { accelerator, edu } from "@iommukit/pci-device";
import { CONTAINER_PATH, vfioType1 } from "@iommukit/vfio-type1";
import { UsageError } from "../errors.js";
import { UnknownMachine } from "./configurations.js";
import { isHeader, withDomainType } from "./transcript-header.js";
import { transcriptMachine } from "./transcript-platform.js";

export interface MachineRequest {
  /** Known bugs to switch on, for the platform's `variants`. */
  readonly variants: readonly string[];
}

/** A module's default export: makes the platform, which has VFIO as a service. */
export type MachineFactory = (request: MachineRequest) => Platform | Promise<Platform>;

export interface LoadedMachine {
  readonly platform: Platform;
  /** Functions that sysfs shows beside the platform's devices. */
  readonly bystanders?: readonly Device[];
  /** What uname says there, where that is known. */
  readonly kernel?: { readonly release: string; readonly version: string; readonly machine: string };
}

/**
 * @param path a module, a transcript (plain or gzipped), or nothing for VT-d with an accelerator and an edu device
 * @throws UsageError
 */
export async function loadMachine(
  path: string | undefined,
  request: MachineRequest = { variants: [] },
): Promise<LoadedMachine> {
  if (path === undefined) return { platform: await defaultMachine(request) };
  return /\.[cm]?[jt]s$/.test(path) ? { platform: await fromModule(path, request) } : fromTranscript(path, request);
}

function defaultMachine({ variants }: MachineRequest): Promise<Platform> {
  return createPlatform({
    variants,
    iommus: [vtd()],
    devices: [edu({ bdf: "0000:00:05.0" }), accelerator({ bdf: "0000:6a:01.0" })],
    services: [vfioType1()],
  });
}

/** Another one may be bundled in a module of the user's: what counts is that it can do what one can. */
function isPlatform(value: unknown): value is Platform {
  const platform = value as Partial<Platform> | undefined;
  return typeof platform?.run === "function" && platform.devices instanceof Map;
}

async function fromModule(path: string, request: MachineRequest): Promise<Platform> {
  if (!existsSync(path)) throw new UsageError(`there is no file ${path}`);
  const { default: factory } = await imported(path);
  if (typeof factory !== "function")
    throw new UsageError(`${path} has no default export that is a function; it has to return a platform`);
  const platform: unknown = await attempt(path, () => factory(request));
  if (!isPlatform(platform)) throw new UsageError(`the default export of ${path} returned no platform`);
  if (!platform.kernel.nodes.has(CONTAINER_PATH))
    throw new UsageError(`the platform of ${path} has no VFIO: add vfioType1() to its services`);
  return platform;
}

async function imported(path: string): Promise<{ readonly default?: MachineFactory }> {
  const url = pathToFileURL(resolve(path)).href;
  return attempt(path, async () => (await import(url)) as { default?: MachineFactory });
}

/** @throws UsageError what code of the user's threw, and where */
async function attempt<T>(path: string, body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if ((error as NodeJS.ErrnoException | null)?.code === "ERR_UNKNOWN_FILE_EXTENSION")
      throw new UsageError(
        `Node ${process.version} does not load TypeScript: compile ${path}, or use Node 22.18 or newer`,
      );
    const { message = String(error), stack = "" } = (error ?? {}) as Partial<Error>;
    const [place] = /file:\/\/[^\s)]+/.exec(stack) ?? [];
    throw new UsageError(`${path}: ${message}${place === undefined ? "" : ` (${place})`}`, { cause: error });
  }
}

async function fromTranscript(path: string, { variants }: MachineRequest): Promise<LoadedMachine> {
  const [header, ...records] = firstLines(path);
  if (!isHeader(header)) throw new UsageError(`${path} is neither a module (.js, .ts) nor a vfio-transcript/1`);
  const { kernel, version, machine } = header;
  try {
    return {
      ...(await transcriptMachine(withDomainType(header, records), variants)),
      kernel: { release: kernel, version, machine },
    };
  } catch (error) {
    if (error instanceof UnknownMachine || isErrno(error)) throw new UsageError(`${path}: ${error.message}`);
    throw error;
  }
}

const SYSFS_LINES = 16;

/** The header and the lines on the machine's groups below it, one for each device at most. */
function firstLines(path: string): unknown[] {
  try {
    const bytes = readFileSync(path);
    const text = (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString("utf8");
    return text
      .split("\n", SYSFS_LINES + 1)
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as unknown);
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}
