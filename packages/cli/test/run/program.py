"""VFIO from Python: os, fcntl, mmap, glob and subprocess as they are."""
import ctypes
import fcntl
import glob
import mmap
import os
import stat
import struct
import subprocess

VFIO = 0x3B64
BDF = "0000:00:05.0"

container = os.open("/dev/vfio/vfio", os.O_RDWR | os.O_CLOEXEC)
assert stat.S_ISCHR(os.fstat(container).st_mode)
link = f"/sys/bus/pci/devices/{BDF}/iommu_group"
number = os.path.basename(os.readlink(link))
assert os.path.realpath(link) == f"/sys/kernel/iommu_groups/{number}"
assert os.listdir(link + "/devices") == [BDF]
assert sorted(glob.glob("/dev/vfio/*")) == ["/dev/vfio/0", "/dev/vfio/1", "/dev/vfio/vfio"]
assert not os.path.exists("/dev/iommu")
with open(f"/sys/bus/pci/devices/{BDF}/vendor") as file:
    assert file.read() == "0x1234\n"

group = os.open(number, os.O_RDWR, dir_fd=os.open("/dev/vfio", os.O_RDONLY | os.O_DIRECTORY))
assert fcntl.ioctl(container, VFIO) == 0
assert fcntl.ioctl(group, VFIO + 4, struct.pack("i", container))
assert fcntl.ioctl(container, VFIO + 2, 3) == 0
device = fcntl.ioctl(group, VFIO + 6, bytearray(BDF.encode() + b"\0"))

info = bytearray(struct.pack("IIIIQQ", 32, 0, 0, 0, 0, 0))
fcntl.ioctl(device, VFIO + 8, info)
size, offset = struct.unpack_from("QQ", info, 16)
assert os.pread(device, 4, offset) == b"\xed\x00\x00\x01"
with mmap.mmap(device, size, offset=offset) as bar:
    bar[4:8] = b"\x00\x00\x00\x01"
    assert bar[4:8] == b"\xff\xff\xff\xfe"

memory = mmap.mmap(-1, mmap.PAGESIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
fcntl.ioctl(container, VFIO + 13, struct.pack("IIQQQ", 32, 3, address, 0x100000, mmap.PAGESIZE))
shown = subprocess.run(["cat", f"/sys/bus/pci/devices/{BDF}/device"], capture_output=True, text=True, check=True)
assert shown.stdout == "0x11e8\n"
assert fcntl.ioctl(container, VFIO) == 0
for fd in (device, group, container):
    os.close(fd)
