/** Linux error numbers, and the error that drivers and VFIO answer with. */

/** Names and numbers of include/uapi/asm-generic/errno*.h, as far as something here answers them. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EPIPE: 32,
  EDOM: 33,
  ERANGE: 34,
  EDEADLK: 35,
  ENOSYS: 38,
  ENODATA: 61,
  ETIME: 62,
  EOVERFLOW: 75,
  EBADFD: 77,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
  EINPROGRESS: 115,
  ECANCELED: 125,
} as const;

/** "EINVAL", "ENOMEM", … */
export type Errno = keyof typeof ERRNO;

/** What a driver, VFIO or a system call answers when it refuses. `message` is a sentence that holds the numbers. */
export class IommuError extends Error {
  override readonly name = "IommuError";
  /** Linux's number, positive. */
  readonly errno: number;

  constructor(
    readonly code: Errno,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`${code}: ${message}`, options);
    this.errno = ERRNO[code];
  }
}

/** Whether an error is a refusal, and with that code when one is named; anything else is a bug and belongs rethrown. */
export function isErrno(error: unknown, code?: Errno): error is IommuError {
  return error instanceof IommuError && (code === undefined || error.code === code);
}
