/** /sys/module/…/parameters: VFIO's module parameters as files that programs read and write. */
import { type FileOps, IommuError, type Platform } from "@iommukit/core";
import { type VfioParams, vfioOf } from "@iommukit/vfio-type1";

const FILES: Readonly<Record<string, keyof VfioParams>> = {
  "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit": "dmaEntryLimit",
  "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts": "allowUnsafeInterrupts",
  "/sys/module/vfio_iommu_type1/parameters/disable_hugepages": "disableHugepages",
};

export function addModuleParameters(platform: Platform): void {
  const { params } = vfioOf(platform);
  for (const [path, name] of Object.entries(FILES))
    platform.kernel.nodes.set(path, { path, open: async () => parameterFile(path, params, name) });
}

function parameterFile(path: string, params: VfioParams, name: keyof VfioParams): FileOps {
  return {
    name: path,
    async read(_task, into, position) {
      const value = params[name];
      const text = Buffer.from(`${typeof value === "boolean" ? (value ? "Y" : "N") : value}\n`).subarray(position);
      into.set(text.subarray(0, into.length));
      return Math.min(text.length, into.length);
    },
    async write(_task, bytes) {
      Object.assign(params, { [name]: parsed(Buffer.from(bytes).toString().trim(), typeof params[name]) });
      return bytes.length;
    },
  };
}

/** kstrtouint and kstrtobool. @throws IommuError EINVAL */
function parsed(text: string, type: string): number | boolean {
  if (type === "boolean" && /^[yY1nN0]$/.test(text)) return /[yY1]/.test(text);
  if (type === "number" && /^(0x[0-9a-f]+|\d+)$/i.test(text)) return Number(text);
  throw new IommuError("EINVAL", `"${text}" is no value of the parameter`);
}
