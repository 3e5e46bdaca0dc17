/** What every workspace's tests share: sources instead of builds, and decorator metadata before the first import. */
import { defaultServerConditions } from "vite";
import { defineConfig } from "vitest/config";

const conditions = ["@iommukit/source", ...defaultServerConditions];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: { include: ["**/*.test.ts"], passWithNoTests: true, setupFiles: ["reflect-metadata"] },
});
