/** Something that steps share. */
import { Hash } from "./hash.js";

export class Spot {
  /** Of the last step that wrote it, or of its name. */
  readonly written = new Hash();
  /** The steps that touched and that wrote it last. */
  touched = 0;
  wrote = 0;

  /** @param name of what is there before the run */
  constructor(private readonly name = 0) {
    this.forget();
  }

  forget(): void {
    this.written.set(this.name, ~this.name);
    this.touched = 0;
    this.wrote = 0;
  }
}
