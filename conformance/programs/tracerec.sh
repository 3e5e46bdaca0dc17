#!/bin/busybox sh
# /init of the machines whose iommu events are recorded: loads a disk and a network card, uses them, takes them out again, and
# leaves trace.gz as a tar on the first virtio disk. With "domains" on the command line, kprobes tell the domain's pointer.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /tmp; mount -t tracefs t /sys/kernel/tracing
cd /sys/kernel/tracing

# /mod/NAME.list: the module and what it needs, in order
load() { while read -r module; do insmod "/mod/$module" 2> /dev/null; done < "/mod/$1.list"; }
phase() { echo "PHASE $1" > trace_marker; }
read_disk() { dd if="$1" of=/dev/null bs="$2" count="$3" skip="${4:-0}" iflag=direct 2> /dev/null; }
write_disk() { dd if=/dev/zero of="$1" bs="$2" count="$3" seek="${4:-0}" oflag=direct 2> /dev/null; }
card() { ip link set "$1" up; ip addr add "$2.15/24" dev "$1"; sleep "$3"; ping -c 20 -i 0.05 "$2.2" | tail -n 2; }

[ ! -f /mod/virtio_pci.list ] || load virtio_pci
load virtio_blk
if grep -q domains /proc/cmdline; then
  for symbol in __iommu_map iommu_map_nosync; do
    echo "p:kp/iommu_map $symbol domain=%di iova=%si paddr=%dx size=%cx prot=%r8" >> kprobe_events && break
  done
  echo 'p:kp/iommu_unmap __iommu_unmap domain=%di iova=%si size=%dx' >> kprobe_events
  echo 'p:kp/iommu_attach __iommu_attach_device domain=%di dev=%si' >> kprobe_events
  echo 1 > events/kp/enable
fi

phase modules; load nvme; load e1000e; load virtio_net; sleep 2
phase disk
for round in 0 1 2; do
  read_disk /dev/nvme0n1 128k 30 $((round * 60))
  write_disk /dev/nvme0n1 64k 30 $((round * 30))
done
read_disk /dev/nvme0n1 1M 8
phase parallel
for job in 1 2 3 4; do read_disk /dev/nvme0n1 64k 20 $((job * 30)) & done
dd if=/dev/zero of=/dev/nvme0n1 bs=64k count=20 2> /dev/null
wait; sync
phase virtio-blk; read_disk /dev/vdb 64k 20; write_disk /dev/vdb 4k 60
phase e1000e; card eth0 10.0.2 3
phase virtio-net; card eth1 10.0.3 1
phase e1000e-down; ip link set eth0 down
phase unbind-nvme; echo 0000:00:07.0 > /sys/bus/pci/drivers/nvme/unbind
phase bind-nvme; echo 0000:00:07.0 > /sys/bus/pci/drivers/nvme/bind; sleep 1
phase remove-e1000e; echo 1 > /sys/bus/pci/devices/0000:00:08.0/remove; sleep 1
phase rescan; echo 1 > /sys/bus/pci/rescan; sleep 1
phase end; echo 0 > tracing_on

gzip -9 < trace > /tmp/trace.gz
tar cf /dev/vda -C /tmp trace.gz; sync
echo RECORDED; sleep 1; poweroff -f
