/** Numbers at random for tests, the same in every run. */
import { Random } from "@iommukit/core";

export function randomOf(seed: number) {
  const random = new Random(seed);
  const below = (limit: number) => random.below(limit);
  return {
    below,
    pick: <T>(choices: readonly T[]): T => choices[below(choices.length)],
    chance: (percent: number) => below(100) < percent,
    bits: (count: number) => BigInt.asUintN(count, (BigInt(random.u32()) << 32n) | BigInt(random.u32())),
  };
}
