import { afterEach, expect, it, vi } from "vitest";
import { runTool, UsageError } from "../src/tool.js";

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = 0;
});

it("says what the caller got wrong in one line, and ends with status 2", async () => {
  const print = vi.spyOn(console, "error").mockReturnValue();
  await runTool(() => Promise.reject(new UsageError("'--cases' is ambiguous.\nDid you forget it?\n  Use -- .")));
  expect(print.mock.calls).toEqual([["'--cases' is ambiguous. Did you forget it? Use -- ."]]);
  expect(process.exitCode).toBe(2);
});

it("does not hide a fault of its own", async () => {
  await expect(runTool(() => Promise.reject(new TypeError("ours")))).rejects.toThrow("ours");
});
