import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    passWithNoTests: true,
    projects: ["packages/*", "examples", "conformance", "bench", "tools"],
    coverage: { include: ["packages/*/src/**"] },
  },
});
