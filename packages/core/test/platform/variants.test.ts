import { describe, expect, it } from "vitest";
import { createBoard, Variants, variants } from "../../src/index.js";

describe("variants", () => {
  it("are off unless they are named", () => {
    expect(variants().has("S-8")).toBe(false);
    expect(variants(["S-8"]).has("S-8")).toBe(true);
    expect(variants(["S-8"]).has("S-1")).toBe(false);
  });

  it("refuse a name that is no known bug", () => {
    expect(() => variants(["S-99"])).toThrow('no variant "S-99"; there are S-1, ');
    expect(() => createBoard({ variants: ["toString"] })).toThrow('no variant "toString"');
  });

  it("are given to every package by the board", () => {
    expect(
      createBoard({ variants: ["L-13"] })
        .resolve(Variants)
        .has("L-13"),
    ).toBe(true);
    expect(createBoard({}).resolve(Variants).has("L-13")).toBe(false);
  });
});
