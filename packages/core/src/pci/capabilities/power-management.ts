/** PCI Power Management capability: PCIe 6.0 7.5.2. */
import { bit, oneOf, reserved, uint } from "../../bits/field.js";
import { layout } from "../../bits/layout.js";
import { CAPABILITY_HEAD, RO, ROS, RW1CS, RWS } from "./heads.js";

export const POWER_MANAGEMENT_CAPABILITY = layout(
  { name: "Power Management Capability", bits: 64, spec: "PCIe 7.5.2" },
  {
    ...CAPABILITY_HEAD,
    Version: uint(18, 16, "3 since PCIe", RO),
    PMEClock: bit(19, "conventional PCI only", RO),
    ImmediateReadinessOnReturnToD0: bit(20, "ready at once in D0", RO),
    DeviceSpecificInitialization: bit(21, "needs its driver after reset", RO),
    AuxCurrent: uint(24, 22, "auxiliary current, code", RO),
    D1Support: bit(25, "has D1", RO),
    D2Support: bit(26, "has D2", RO),
    PMESupport: uint(31, 27, "bit per state in which it can send PME", RO),
    PowerState: oneOf(33, 32, { D0: 0, D1: 1, D2: 2, D3hot: 3 }, "state"),
    Reserved2: reserved(34),
    NoSoftReset: bit(35, "keeps its state over D3hot", RO),
    Reserved4: reserved(39, 36),
    PMEEnable: bit(40, "may send PME", { ...RWS, needs: { PMESupport: true } }),
    DataSelect: uint(44, 41, "what Data shows", { needs: { DataScale: true } }),
    DataScale: uint(46, 45, "unit of Data", RO),
    PMEStatus: bit(47, "would send PME", RW1CS),
    Reserved16: reserved(53, 48),
    B2B3Support: bit(54, "conventional bridges", RO),
    BusPowerClockControlEnable: bit(55, "conventional bridges", RO),
    Data: uint(63, 56, "selected by Data Select", ROS),
  },
);
