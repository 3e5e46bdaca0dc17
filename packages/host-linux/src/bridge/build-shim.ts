/** Builds the library and the broker from shim/*.c with the system's compiler, once for each version of them. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { homedir, tmpdir, userInfo } from "node:os";
import { join } from "node:path";

/** Paths of what was built. */
export interface Shim {
  /** For LD_PRELOAD. */
  readonly library: string;
  readonly broker: string;
}

/** There is no C compiler, or it refuses. `message` says what to do. */
export class ShimError extends Error {
  override readonly name = "ShimError";
}

const SOURCES = new URL("../../shim/", import.meta.url).pathname;
const LIBRARY = ["client.c", "paths.c", "files.c", "memory.c", "mmio.c", "decode.c", "time.c"];
const FLAGS = ["-std=gnu11", "-O2", "-Wall", "-fvisibility=hidden"];

/** @throws ShimError */
export function buildShim(): Shim {
  const compiler = process.env.CC ?? "cc";
  const version = run(compiler, ["--version"]);
  const hash = createHash("sha256").update(version);
  for (const name of readdirSync(SOURCES)
    .filter((file) => /\.[ch]$/.test(file))
    .sort())
    hash.update(name).update(readFileSync(join(SOURCES, name)));
  const directory = join(cacheDirectory(), hash.digest("hex").slice(0, 16));
  const shim = { library: join(directory, "libiommukit.so"), broker: join(directory, "broker") };
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const sources = (names: readonly string[]) => names.map((name) => join(SOURCES, name));
  compile(compiler, shim.library, ["-shared", "-fPIC", ...sources(LIBRARY), "-ldl", "-lpthread"]);
  compile(compiler, shim.broker, sources(["broker.c"]));
  return shim;
}

/** Two that build at once do not see each other's half. */
function compile(compiler: string, target: string, options: readonly string[]): void {
  if (exists(target)) return;
  const draft = `${target}.${process.pid}`;
  run(compiler, [...FLAGS, "-o", draft, ...options]);
  renameSync(draft, target);
}

function run(compiler: string, options: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(compiler, options, { encoding: "utf8" });
  if (error)
    throw new ShimError(
      `there is no C compiler "${compiler}" (${error.message}); install gcc or clang, or name one in CC: the library that programs load is built on first use`,
    );
  if (status !== 0) throw new ShimError(`${compiler} ${options.join(" ")} failed:\n${stderr}`);
  return stdout;
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function cacheDirectory(): string {
  const home = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  try {
    mkdirSync(home, { recursive: true });
    accessSync(home, constants.W_OK);
    return join(home, "iommukit");
  } catch {
    return ownDirectory(join(tmpdir(), `iommukit-${userInfo().uid}`));
  }
}

/** Below /tmp others may have made it first: what it holds will be run. @throws ShimError */
function ownDirectory(path: string): string {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const { uid } = statSync(path);
  if (uid !== userInfo().uid) throw new ShimError(`${path} belongs to user ${uid}; set XDG_CACHE_HOME`);
  return path;
}
