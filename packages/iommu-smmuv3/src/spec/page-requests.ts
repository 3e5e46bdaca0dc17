/** Page request queue, IHI 0070 8.1: 16 bytes each. */
import { addr, bit, layout, reserved, uint } from "@iommukit/core";

export const PRIQ_ENTRY = layout(
  { name: "PRIQ entry", bits: 128, spec: "IHI0070 8.1", summary: "One PCIe page request message." },
  {
    StreamID: uint(31, 0, "StreamID"),
    SubstreamID: uint(51, 32, "SubstreamID", { condition: "SSV = 1" }),
    _57_52: reserved(57, 52),
    Priv: bit(58, "privileged access is wanted"),
    X: bit(59, "execute access is wanted"),
    R: bit(60, "read access is wanted"),
    W: bit(61, "write access is wanted"),
    Last: bit(62, "last request of its group"),
    SSV: bit(63, "SubstreamID is valid"),
    PRGIndex: uint(72, 64, "page request group"),
    _75_73: reserved(75, 73),
    PageAddress: addr(127, 76, "page that is wanted"),
  },
);
