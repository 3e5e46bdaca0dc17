/*
 * The C baseline: the same translations on the same tables as the models do, as fast as plain C gets.
 * SMMUv3: linear stream table, linear CDs, VMSAv8-64 stage 1, 4 KiB granule, hierarchical permissions.
 * VT-d: scalable root, context, PASID directory and entry, 4-level first stage.
 * 64-set x 8-way TLB, 256-entry configuration cache. IOTLB entries of VT-d belong to one device, as the model's do: eight
 * times the sets for eight devices. Tables are read from an image of the model's RAM.
 *
 * usage: walker IMAGE BASE ARCH ROOT CASE FOOTPRINT COUNT     prints: checksum, CPU nanoseconds
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;
typedef uint32_t u32;

static const uint8_t *ram;
static u64 base;

static inline u64 load(u64 pa) { return *(const u64 *)(ram + (pa - base)); }

enum { SETS = 512, WAYS = 8, CONFIGS = 256 };
enum { R = 1, W = 2 };
/* 48-bit addresses: bit 51 of a VMSAv8-64 leaf is DBM. */
#define PA_MASK 0x0000fffffffff000ull

struct tlb_entry { u64 vpn; u64 page; u32 asid; u32 perms; };
static struct tlb_entry tlb[SETS][WAYS];
static uint8_t next_way[SETS];
static u32 sets = 64;

static inline u32 set_of(u64 vpn, u32 asid) { return (vpn ^ asid >> 14) & (sets - 1); }

struct config { u64 root; u32 key, asid, valid, flags; };
static struct config configs[CONFIGS];

static int tlb_on = 1, config_on = 1;

static struct tlb_entry *tlb_find(u64 vpn, u32 asid) {
  struct tlb_entry *set = tlb[set_of(vpn, asid)];
  for (int w = 0; w < WAYS; w++)
    if (set[w].vpn == vpn && set[w].asid == asid && set[w].perms) return &set[w];
  return 0;
}

static struct tlb_entry *tlb_fill(u64 vpn, u32 asid, u64 page, u32 perms) {
  u32 s = set_of(vpn, asid);
  struct tlb_entry *e = &tlb[s][next_way[s]++ & (WAYS - 1)];
  *e = (struct tlb_entry){vpn, page, asid, perms};
  return e;
}

/* ---- SMMUv3: STE dword 0 V, Config = s1, S1ContextPtr; CD dword 0 V, ASID; dword 1 TTB0 ---- */

static int smmu_config(u64 strtab, u32 sid, u32 ssid, struct config *c) {
  u64 ste = strtab + (u64)sid * 64, ste0 = load(ste), ste1 = load(ste + 8);
  if (!(ste0 & 1) || ((ste0 >> 1) & 7) != 5) return 0;
  u32 s1cdmax = ste0 >> 59;
  if (ssid >> s1cdmax) return 0;
  u64 cd = (ste0 & 0x000fffffffffffc0ull) + (u64)ssid * 64, cd0 = load(cd), cd1 = load(cd + 8);
  if (!(cd0 >> 31 & 1) || (cd0 & 0x3f) != 16 || (cd0 >> 6 & 3) != 0) return 0;
  c->root = cd1 & 0x000ffffffffffff0ull;
  c->asid = cd0 >> 48;
  c->flags = (u32)(ste1 >> 48) & 0xf;
  return 1;
}

static struct tlb_entry *smmu_walk(const struct config *c, u64 va, u32 want) {
  u64 table = c->root;
  u32 no_write = 0, no_el0 = 0;
  for (int level = 0;; level++) {
    u64 d = load(table + ((va >> (39 - 9 * level)) & 511) * 8);
    if (!(d & 1)) return 0;
    if (level < 3 && (d & 2)) {
      no_write |= d >> 62 & 1;
      no_el0 |= d >> 61 & 1;
      table = d & PA_MASK;
      continue;
    }
    if (level == 3 && !(d & 2)) return 0;
    if (!(d >> 10 & 1)) return 0;
    u32 perms = ((d >> 6 & 1) && !no_el0 ? R : 0) | (!(d >> 7 & 1) && !no_write ? W : 0);
    if (!(perms & R) || (perms & want) != want) return 0;
    u64 size = 1ull << (39 - 9 * level), page = d & PA_MASK & ~(size - 1);
    return tlb_fill(va >> 12, c->asid, page | (va & (size - 1) & ~0xfffull), perms);
  }
}

/* ---- VT-d scalable mode: root, context (256 bits), PASID directory, PASID entry with first stage ---- */

static int vtd_config(u64 root, u32 sid, u32 pasid, struct config *c) {
  u64 re = load(root + (u64)(sid >> 8) * 16 + ((sid & 0x80) ? 8 : 0));
  if (!(re & 1)) return 0;
  u64 ce = (re & PA_MASK) + (u64)(sid & 0x7f) * 32, ce0 = load(ce);
  if (!(ce0 & 1) || !(ce0 >> 3 & 1)) return 0;
  u64 dir = load((ce0 & PA_MASK) + (u64)(pasid >> 6) * 8);
  if (!(dir & 1)) return 0;
  u64 pe = (dir & PA_MASK) + (u64)(pasid & 63) * 64, pe0 = load(pe), pe1 = load(pe + 8), pe2 = load(pe + 16);
  if (!(pe0 & 1) || (pe0 >> 6 & 7) != 1 || (pe2 >> 2 & 3) != 0) return 0;
  c->root = pe2 & PA_MASK;
  c->asid = sid << 20 | pasid;
  c->flags = pe1 & 0xffff;
  return 1;
}

static struct tlb_entry *vtd_walk(const struct config *c, u64 va, u32 want) {
  u64 table = c->root;
  u32 rw = 1, us = 1;
  for (int level = 4;; level--) {
    u64 e = load(table + ((va >> (12 + 9 * (level - 1))) & 511) * 8);
    if (!(e & 1)) return 0;
    rw &= e >> 1 & 1;
    us &= e >> 2 & 1;
    if (level > 1 && !(e >> 7 & 1)) {
      table = e & PA_MASK;
      continue;
    }
    if (!us || ((want & W) && !rw)) return 0;
    if (!(e >> 5 & 1)) return 0;
    u64 size = 1ull << (12 + 9 * (level - 1)), page = e & PA_MASK & ~(size - 1);
    return tlb_fill(va >> 12, c->asid, page | (va & (size - 1) & ~0xfffull), R | (rw ? W : 0));
  }
}

static int vtd;
static u64 root;

static u64 translate(u32 sid, u32 pasid, u64 va, u32 want) {
  u32 key = sid << 20 | pasid;
  struct config *c = &configs[(sid * 31 + pasid) & (CONFIGS - 1)];
  if (!config_on || !c->valid || c->key != key) {
    if (!(vtd ? vtd_config(root, sid, pasid, c) : smmu_config(root, sid, pasid, c))) return ~0ull;
    c->key = key;
    c->valid = 1;
  }
  struct tlb_entry *e = tlb_on ? tlb_find(va >> 12, c->asid) : 0;
  if (!e) e = vtd ? vtd_walk(c, va, want) : smmu_walk(c, va, want);
  if (!e || (e->perms & want) != want) return ~0ull;
  return e->page | (va & 0xfff);
}

/* The address stream, the same in bench/src/stream.ts. */
#define VA_BASE 0x100000000000ull

int main(int argc, char **argv) {
  if (argc != 8) return fprintf(stderr, "usage: walker IMAGE BASE smmuv3|vtd ROOT CASE PAGES COUNT\n"), 2;
  int fd = open(argv[1], O_RDONLY);
  struct stat st;
  if (fd < 0 || fstat(fd, &st)) return perror(argv[1]), 2;
  ram = mmap(0, st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  if (ram == MAP_FAILED) return perror("mmap"), 2;
  base = strtoull(argv[2], 0, 0);
  vtd = !strcmp(argv[3], "vtd");
  if (vtd) sets = 512;
  root = strtoull(argv[4], 0, 0);
  const char *test = argv[5];
  u32 pages = strtoul(argv[6], 0, 0), count = strtoul(argv[7], 0, 0);
  tlb_on = !strncmp(test, "hit", 3);
  config_on = strncmp(test, "cold", 4) != 0;
  int sequential = !!strstr(test, "seq");

  u32 x = 1, sum = 0;
  struct timespec from, to;
  /* A tenth of the run first, untimed, as the models warm up. */
  for (int pass = 0; pass < 2; pass++) {
    u32 n = pass ? count : count / 10;
    x = 1, sum = 0;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    for (u32 i = 0; i < n; i++) {
      u32 page, offset;
      if (sequential) {
        page = (i >> 4) & (pages - 1);
        offset = (i & 15) << 8;
      } else {
        x = x * 1664525u + 1013904223u;
        page = (x >> 12) & (pages - 1);
        offset = x & 0xff8;
      }
      u32 sid = 8 + (i & 7);
      u64 pa = translate(sid, 1, VA_BASE + ((u64)page << 12) + offset, R);
      sum = sum * 31 + (u32)pa + (u32)(pa >> 32);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
  }
  printf("%u %lld\n", sum, (to.tv_sec - from.tv_sec) * 1000000000ll + to.tv_nsec - from.tv_nsec);
  return 0;
}
