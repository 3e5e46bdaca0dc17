import { Hash } from "./hash.js";

/** Something that steps share. */
export class Spot {
  /** Of the last step that wrote it, or of its name. */
  readonly written = new Hash();
  /** Of the steps that have read it since. */
  readonly read = new Hash();
  /** The step that touched it last, and whether that wrote. */
  step = 0;
  writes = false;

  /** @param name of what is there before the run */
  constructor(private readonly name = 0) {
    this.forget();
  }

  forget(): void {
    this.written.set(this.name, ~this.name);
    this.read.set(0, 0);
    this.step = 0;
  }
}
