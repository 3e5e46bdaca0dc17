/*
 * Shared virtual addressing from an ordinary program: a linked list on the heap, walked and sorted by a device that
 * follows the program's own pointers. No copy, no DMA mapping, no root, no hardware:
 *
 *     cc -I ../../packages/host-linux/shim/include -o sort-list sort-list.c
 *     npx iommukit run -- ./sort-list 0000:6a:01.0
 */
#include <errno.h>
#include <fcntl.h>
#include <iommukit/vfio-sva.h>
#include <linux/vfio.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define NODES 1000

struct node {
	uint64_t key;
	char name[16];
	struct node *next;
};

/* The accelerator's descriptor and completion record, as in Intel DSA (packages/pci-device, descriptor.ts). */
struct descriptor {
	uint32_t pasid;
	uint32_t flags_opcode; /* opcode in the upper 8 bits */
	uint64_t completion, source, destination;
	uint32_t size;
	uint16_t interrupt, reserved;
	uint64_t specific[3];
} __attribute__((aligned(64)));

struct completion {
	uint8_t status, result, fault_info, reserved;
	uint32_t completed;
	uint64_t fault_address, value, reserved2;
} __attribute__((aligned(32)));

enum { BLOCK_ON_FAULT = 1 << 1, RECORD_VALID = 1 << 2, REQUEST_RECORD = 1 << 3, REQUEST_INTERRUPT = 1 << 4 };
enum { POINTER_CHASE = 0x40, LIST_SORT = 0x42 };
enum { CMD = 0x20, WQCFG0 = 0x400, ENABLE_DEVICE = 1, ENABLE_WQ = 6, VECTOR = 1 };

static volatile uint32_t *registers;
static volatile uint64_t *portal;
static int interrupt;

static void check(int fine, const char *what)
{
	if (fine)
		return;
	fprintf(stderr, "sort-list: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *map_bar(int device, unsigned index)
{
	struct vfio_region_info region = {.argsz = sizeof(region), .index = index};

	check(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region) == 0, "VFIO_DEVICE_GET_REGION_INFO");
	void *bar = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)region.offset);

	check(bar != MAP_FAILED, "mmap of a BAR");
	return bar;
}

static void enable_bus_master(int device)
{
	struct vfio_region_info config = {.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX};
	uint16_t command;

	check(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) == 0, "configuration space");
	check(pread(device, &command, 2, (off_t)config.offset + 4) == 2, "pread of PCI_COMMAND");
	command |= 6;
	check(pwrite(device, &command, 2, (off_t)config.offset + 4) == 2, "pwrite of PCI_COMMAND");
}

static void enable_interrupt(int device)
{
	struct {
		struct vfio_irq_set set;
		int32_t fds[2];
	} irqs = {{sizeof(irqs), VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 2},
		  {-1, -1}};

	interrupt = irqs.fds[VECTOR] = eventfd(0, EFD_CLOEXEC);
	check(ioctl(device, VFIO_DEVICE_SET_IRQS, &irqs) == 0, "VFIO_DEVICE_SET_IRQS");
}

/* Gives the device a descriptor and sleeps until its interrupt. */
static struct completion run(uint32_t opcode, struct node *list)
{
	struct descriptor work = {.source = (uint64_t)list, .size = 2 * NODES, .interrupt = VECTOR};
	/* Memory that nobody has touched: the device's write of the record faults it in. */
	struct completion *record = aligned_alloc(4096, 1 << 20);
	uint64_t count;

	work.flags_opcode = opcode << 24 | BLOCK_ON_FAULT | RECORD_VALID | REQUEST_RECORD | REQUEST_INTERRUPT;
	work.completion = (uint64_t)record;
	work.specific[0] = offsetof(struct node, next);
	work.specific[1] = offsetof(struct node, key);
	uint64_t words[8];

	memcpy(words, &work, sizeof(work));
	for (int i = 0; i < 8; i++)
		portal[i] = words[i];
	check(read(interrupt, &count, sizeof(count)) == sizeof(count), "the interrupt");
	struct completion done = *record;

	free(record);
	check(done.status == 1, "the descriptor failed");
	return done;
}

int main(int argc, char **argv)
{
	const char *bdf = argc > 1 ? argv[1] : "0000:6a:01.0";
	char path[128], link[128] = "";

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	check(readlink(path, link, sizeof(link) - 1) > 0, path);
	snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(link, '/'));

	int container = open("/dev/vfio/vfio", O_RDWR), group = open(path, O_RDWR);

	check(container >= 0 && group >= 0, path);
	check(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0, "VFIO_GROUP_SET_CONTAINER");
	check(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0, "VFIO_SET_IOMMU");
	int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf);

	check(device >= 0, "VFIO_GROUP_GET_DEVICE_FD");

	struct {
		struct vfio_iommu_type1_bind head;
		struct vfio_iommu_type1_bind_process process;
	} bind = {{sizeof(bind), VFIO_IOMMU_BIND_PROCESS}, {0}};

	check(ioctl(container, VFIO_IOMMU_BIND, &bind) == 0, "VFIO_IOMMU_BIND");
	registers = map_bar(device, 0);
	portal = map_bar(device, 2);
	enable_bus_master(device);
	enable_interrupt(device);
	/* A dedicated queue of 16 descriptors that may wait for pages, with our PASID. */
	*(volatile uint64_t *)(registers + WQCFG0 / 4) = 16 | 7ULL << 32 | (uint64_t)bind.process.pasid << 36;
	registers[CMD / 4] = ENABLE_DEVICE << 20;
	registers[CMD / 4] = ENABLE_WQ << 20;

	struct node *list = NULL;

	srand(1);
	for (int i = 0; i < NODES; i++) {
		struct node *node = malloc(sizeof(*node));

		*node = (struct node){.key = (uint64_t)rand(), .next = list};
		snprintf(node->name, sizeof(node->name), "node %d", i);
		list = node;
	}
	printf("the device visited %u nodes\n", run(POINTER_CHASE, list).completed);
	list = (struct node *)run(LIST_SORT, list).value;
	int sorted = 1, count = 0;

	for (struct node *node = list; node; node = node->next, count++)
		sorted &= !node->next || node->key <= node->next->key;
	printf("%d nodes, %s; the first is \"%s\"\n", count, sorted ? "sorted" : "NOT sorted", list->name);
	check(ioctl(container, VFIO_IOMMU_UNBIND, &bind) == 0, "VFIO_IOMMU_UNBIND");
	return sorted && count == NODES ? 0 : 1;
}
