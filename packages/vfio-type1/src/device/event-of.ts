/** eventfd_ctx_fdget. */
import { EventFd, IommuError, type Task } from "@iommukit/core";

/** @throws IommuError EBADF no such descriptor, EINVAL no eventfd */
export function eventOf(task: Task, fd: number): EventFd {
  const { ops } = task.fds.get(fd);
  if (!(ops instanceof EventFd)) throw new IommuError("EINVAL", `descriptor ${fd} is ${ops.name}, not an eventfd`);
  return ops;
}
