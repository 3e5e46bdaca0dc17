/** A published figure beside what the models give for it. */

export interface Finding {
  readonly what: string;
  readonly unit: string;
  readonly published: number;
  /** "arithmetic": `published` stands in no publication, but follows from its figures, or from a formula. */
  readonly basis?: "arithmetic";
  readonly model: number;
  /** How far the model may be off, as a share of the published figure; "trend": only on the same side of 1. */
  readonly tolerance: number | "trend";
  /** Where the model's figure comes from: what was counted, and what was computed. */
  readonly how: string;
}

export interface Calibration {
  readonly name: string;
  readonly title: string;
  /** Of the published figures. */
  readonly source: string;
  run(): Promise<readonly Finding[]>;
}

export function agrees({ published, model, tolerance }: Finding): boolean {
  if (tolerance === "trend") return Math.sign(Math.log(published)) === Math.sign(Math.log(model));
  return Math.abs(model - published) <= tolerance * Math.abs(published);
}
