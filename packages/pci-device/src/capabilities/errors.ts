/** Advanced Error Reporting extended capability: PCIe 7.8.4. */
import { bit, EXTENDED_CAPABILITY_HEAD, layout, RO, ROS, RW1CS, RWS, reserved, uint } from "@iommukit/core";

export const AER_CAPABILITY = layout(
  { name: "Advanced Error Reporting Extended Capability", bits: 352, spec: "PCIe 7.8.4" },
  {
    ...EXTENDED_CAPABILITY_HEAD,
    UncorrectableErrorStatus: uint(63, 32, "uncorrectable error status", RW1CS),
    UncorrectableErrorMask: uint(95, 64, "uncorrectable error mask", RWS),
    UncorrectableErrorSeverity: uint(127, 96, "uncorrectable error severity", RWS),
    CorrectableErrorStatus: uint(159, 128, "correctable error status", RW1CS),
    CorrectableErrorMask: uint(191, 160, "correctable error mask", RWS),
    FirstErrorPointer: uint(196, 192, "bit of the status that is first", ROS),
    ECRCGenerationCapable: bit(197, "ECRC generation capable", RO),
    ECRCGenerationEnable: bit(198, "ECRC generation enable", RWS),
    ECRCCheckCapable: bit(199, "ECRC check capable", RO),
    ECRCCheckEnable: bit(200, "ECRC check enable", RWS),
    MultipleHeaderRecordingCapable: bit(201, "multiple header recording capable", RO),
    MultipleHeaderRecordingEnable: bit(202, "multiple header recording enable", RWS),
    TLPPrefixLogPresent: bit(203, "TLP prefix log present", ROS),
    CompletionTimeoutPrefixHeaderLogCapable: bit(204, "completion timeout prefix header log capable", RO),
    HeaderLogSize: uint(209, 205, "header log size", RO),
    LoggedTLPSize: uint(214, 210, "logged TLP size", ROS),
    Reserved: reserved(223, 215),
    HeaderLog0: uint(255, 224, "header Log0", ROS),
    HeaderLog1: uint(287, 256, "header Log1", ROS),
    HeaderLog2: uint(319, 288, "header Log2", ROS),
    HeaderLog3: uint(351, 320, "header Log3", ROS),
  },
);

export const AER_ROOT = layout(
  { name: "Root error registers", bits: 96, spec: "PCIe 7.8.4.9" },
  {
    CorrectableErrorReportingEnable: bit(0, "correctable error reporting enable"),
    NonFatalErrorReportingEnable: bit(1, "non fatal error reporting enable"),
    FatalErrorReportingEnable: bit(2, "fatal error reporting enable"),
    Reserved: reserved(31, 3),
    ERR_CORReceived: bit(32, "ERR COR received", RW1CS),
    MultipleERR_CORReceived: bit(33, "multiple ERR COR received", RW1CS),
    ERR_FATALNONFATALReceived: bit(34, "ERR FATALNONFATAL received", RW1CS),
    MultipleERR_FATALNONFATALReceived: bit(35, "multiple ERR FATALNONFATAL received", RW1CS),
    FirstUncorrectableFatal: bit(36, "first uncorrectable fatal", RW1CS),
    NonFatalErrorMessagesReceived: bit(37, "non fatal error messages received", RW1CS),
    FatalErrorMessagesReceived: bit(38, "fatal error messages received", RW1CS),
    ERR_CORSubclass: uint(40, 39, "ERR COR subclass", ROS),
    Reserved4: reserved(58, 41),
    InterruptMessageNumber: uint(63, 59, "interrupt message number", RO),
    ERR_CORSourceIdentification: uint(79, 64, "ERR COR source identification", ROS),
    ERR_FATALNONFATALSourceIdentification: uint(95, 80, "ERR FATALNONFATAL source identification", ROS),
  },
);
