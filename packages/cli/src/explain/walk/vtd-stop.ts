/** The end of a VT-d walk at a fault reason of table 15 or 30. */
import type { FaultReason } from "@iommukit/iommu-vtd";
import { hex } from "../hex.js";
import type { Walker } from "./step.js";

export function stop(walker: Walker, where: string, { code }: FaultReason): never {
  walker.stop(`stops: ${where} (fault ${hex(code, 2)})`);
}
