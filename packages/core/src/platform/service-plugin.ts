/** Anything else that joins a platform: VFIO, a source of live processes, a checker. */
import type { Platform } from "./platform.js";

/** For `createPlatform({ services })`. */
export interface ServicePlugin {
  readonly name: string;
  /** Runs when IOMMUs and devices are up. Registers device nodes, process sources, listeners. */
  install(platform: Platform): Promise<void>;
  /** Runs first when the platform closes. */
  close?(platform: Platform): Promise<void>;
  /** What it still holds, one line each; asked by the leak check. */
  leaks?(platform: Platform): readonly string[];
  /** A device came or is about to go (hot plug). */
  deviceAdded?(platform: Platform, bdf: string): Promise<void>;
  deviceRemoved?(platform: Platform, bdf: string): Promise<void>;
}
