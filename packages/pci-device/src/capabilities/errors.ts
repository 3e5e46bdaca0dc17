/** Advanced Error Reporting extended capability: PCIe 7.8.4. */
import { bit, EXTENDED_CAPABILITY_HEAD, layout, RO, ROS, RW1CS, RWS, reserved, uint } from "@iommukit/core";

export const AER_CAPABILITY = layout(
  { name: "Advanced Error Reporting Extended Capability", bits: 352, spec: "PCIe 7.8.4" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    UncorrectableErrorStatus: uint(63, 32, "", RW1CS),
    UncorrectableErrorMask: uint(95, 64, "", RWS),
    UncorrectableErrorSeverity: uint(127, 96, "", RWS),
    CorrectableErrorStatus: uint(159, 128, "", RW1CS),
    CorrectableErrorMask: uint(191, 160, "", RWS),
    FirstErrorPointer: uint(196, 192, "bit of the status that is first", ROS),
    ECRCGenerationCapable: bit(197, "", RO),
    ECRCGenerationEnable: bit(198, "", RWS),
    ECRCCheckCapable: bit(199, "", RO),
    ECRCCheckEnable: bit(200, "", RWS),
    MultipleHeaderRecordingCapable: bit(201, "", RO),
    MultipleHeaderRecordingEnable: bit(202, "", RWS),
    TLPPrefixLogPresent: bit(203, "", ROS),
    CompletionTimeoutPrefixHeaderLogCapable: bit(204, "", RO),
    HeaderLogSize: uint(209, 205, "", RO),
    LoggedTLPSize: uint(214, 210, "", ROS),
    Reserved: reserved(223, 215),
    HeaderLog0: uint(255, 224, "", ROS),
    HeaderLog1: uint(287, 256, "", ROS),
    HeaderLog2: uint(319, 288, "", ROS),
    HeaderLog3: uint(351, 320, "", ROS),
  },
);

export const AER_ROOT = layout(
  { name: "Root error registers", bits: 96, spec: "PCIe 7.8.4.9" },
  {
    CorrectableErrorReportingEnable: bit(0, ""),
    NonFatalErrorReportingEnable: bit(1, ""),
    FatalErrorReportingEnable: bit(2, ""),
    Reserved: reserved(31, 3),
    ERR_CORReceived: bit(32, "", RW1CS),
    MultipleERR_CORReceived: bit(33, "", RW1CS),
    ERR_FATALNONFATALReceived: bit(34, "", RW1CS),
    MultipleERR_FATALNONFATALReceived: bit(35, "", RW1CS),
    FirstUncorrectableFatal: bit(36, "", RW1CS),
    NonFatalErrorMessagesReceived: bit(37, "", RW1CS),
    FatalErrorMessagesReceived: bit(38, "", RW1CS),
    ERR_CORSubclass: uint(40, 39, "", ROS),
    Reserved4: reserved(58, 41),
    InterruptMessageNumber: uint(63, 59, "", RO),
    ERR_CORSourceIdentification: uint(79, 64, "", ROS),
    ERR_FATALNONFATALSourceIdentification: uint(95, 80, "", ROS),
  },
);
