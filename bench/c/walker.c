/*
 * The C baseline: the same translations on the same tables as the models do, with the checks that decide on an answer, as
 * fast as plain C gets.
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
/* Access bits: of a user, and three bits higher of a supervisor. */
enum { R = 1, W = 2, X = 4, SUPERVISOR = 3 };
/* 48-bit addresses: bit 51 of a VMSAv8-64 leaf is DBM. */
#define PA_MASK 0x0000fffffffff000ull

static inline u64 bits(int high, int low) { return (~0ull >> (63 - high)) & ~0ull << low; }

struct tlb_entry { u64 vpn; u64 page; u32 tag, perms; };
static struct tlb_entry tlb[SETS][WAYS];
static uint8_t next_way[SETS];
static u32 sets = 64;

static inline u32 set_of(u64 vpn, u32 tag) { return (vpn ^ tag >> 14) & (sets - 1); }

struct config { u64 root, reserved; u32 key, tag, valid, flags; };
static struct config configs[CONFIGS];

static int tlb_on = 1, config_on = 1;

static struct tlb_entry *tlb_find(u64 vpn, u32 tag) {
  struct tlb_entry *set = tlb[set_of(vpn, tag)];
  for (int w = 0; w < WAYS; w++)
    if (set[w].vpn == vpn && set[w].tag == tag && set[w].perms) return &set[w];
  return 0;
}

static struct tlb_entry *tlb_fill(u64 vpn, u32 tag, u64 page, u32 perms) {
  u32 s = set_of(vpn, tag);
  struct tlb_entry *e = &tlb[s][next_way[s]++ & (WAYS - 1)];
  *e = (struct tlb_entry){vpn, page, tag, perms};
  return e;
}

/* ---- SMMUv3: 5.2 STE, 5.4 CD; VMSAv8-64 descriptors of Arm ARM D8.3 ---- */

enum { WXN = 1, PRIVILEGED = 2 };

static int smmu_config(u64 strtab, u32 sid, u32 ssid, struct config *c) {
  u64 ste = strtab + (u64)sid * 64, ste0 = load(ste), ste1 = load(ste + 8), ste2 = load(ste + 16);
  /* V, Config = stage 1 alone, S1Fmt linear. */
  if (!(ste0 & 1) || (ste0 >> 1 & 7) != 5 || (ste0 >> 4 & 3)) return 0;
  if (ssid >> (ste0 >> 59)) return 0;
  u64 cd = (ste0 & bits(51, 6)) + (u64)ssid * 64, cd0 = load(cd), cd1 = load(cd + 8);
  /* V, AA64, T0SZ = 16, TG0 = 4 KiB, EPD1, little-endian, IPS up to 48 bits. */
  u64 want = 1ull << 31 | 1ull << 41 | 1ull << 30 | 16, of = want | 0x3f | 3 << 6 | 1 << 14 | 1 << 15;
  u32 ips = cd0 >> 32 & 7;
  static const uint8_t size[] = {32, 36, 40, 42, 44, 48, 48, 48};
  if ((cd0 & of) != want) return 0;
  c->root = cd1 & bits(51, 4);
  c->reserved = bits(51, size[ips]) & bits(47, 12);
  if (c->root & c->reserved) return 0;
  c->tag = cd0 >> 48 | (u32)(ste2 & 0xffff) << 16;
  c->flags = (cd0 >> 36 & 1 ? WXN : 0) | ((ste1 >> 48 & 3) == 3 ? PRIVILEGED : 0);
  return 1;
}

static struct tlb_entry *smmu_walk(const struct config *c, u64 va, u32 want) {
  if (va >> 48) return 0;
  u64 table = c->root, inherited = 0;
  for (int level = 0;; level++) {
    u64 d = load(table + ((va >> (39 - 9 * level)) & 511) * 8);
    if (!(d & 1) || (d & c->reserved)) return 0;
    if (level < 3 && (d & 2)) {
      inherited |= d;
      table = d & PA_MASK;
      continue;
    }
    /* AF; a block at a level that has none; DBM would let a write clear AP[2]. */
    if (level == 0 || (level == 3 && !(d & 2)) || !(d >> 10 & 1) || (d >> 51 & d >> 7 & 1)) return 0;
    u64 ap = d >> 6, ap_table = inherited >> 61;
    u32 user = (ap & 1) & ~ap_table, write = ~(ap >> 1 | ap_table >> 1) & 1;
    u32 xn = (d >> 54 | inherited >> 60) & 1, pxn = (d >> 53 | inherited >> 59) & 1, wxn = c->flags & WXN;
    u32 uw = user & write;
    u32 own = (user ? R : 0) | (uw ? W : 0) | (!xn && !(wxn && uw) ? X : 0);
    u32 privileged = R | (write ? W : 0) | (!pxn && !uw && !(wxn && write) ? X : 0);
    u32 perms = own | privileged << SUPERVISOR;
    if (want & ~(c->flags & PRIVILEGED ? privileged : own)) return 0;
    u64 size = 1ull << (39 - 9 * level), page = d & PA_MASK & ~(size - 1);
    return tlb_fill(va >> 12, c->tag, page | (va & (size - 1) & ~0xfffull), perms);
  }
}

/* ---- VT-d scalable mode: 9.2 root, 9.4 context, 9.5 and 9.6 PASID directory and table; 9.9 first-stage entries ---- */

enum { SRE = 1, ERE = 2, WPE = 16, NXE = 32, SMEP = 64 };
/* Host addresses of 52 bits. */
#define HAW 52

static int vtd_config(u64 root, u32 sid, u32 pasid, struct config *c) {
  u64 re = load(root + (u64)(sid >> 8) * 16 + ((sid & 0x80) ? 8 : 0));
  if (!(re & 1) || (re & bits(11, 1))) return 0;
  u64 ce = (re & ~0xfffull) + (u64)(sid & 0x7f) * 32;
  u64 ce0 = load(ce), ce1 = load(ce + 8), ce2 = load(ce + 16), ce3 = load(ce + 24);
  /* P; PASIDE; the directory has that PASID, and requests without one use another. */
  if (!(ce0 & 1) || !(ce0 >> 3 & 1) || pasid >> (13 + (ce0 >> 9 & 7)) || (ce1 & bits(19, 0)) == pasid) return 0;
  if ((ce0 & (bits(8, 5) | 1 << 1)) | (ce1 & bits(63, 21)) | ce2 | ce3) return 0;
  u64 dir = load((ce0 & ~0xfffull) + (u64)(pasid >> 6) * 8);
  if (!(dir & 1) || (dir & bits(11, 2))) return 0;
  u64 pe = (dir & ~0xfffull) + (u64)(pasid & 63) * 64, pe0 = load(pe), pe1 = load(pe + 8), pe2 = load(pe + 16);
  /* P, no FPD, PGTT = first stage, FSPM = four levels, no EAFE. */
  if ((pe0 & (1 | 1 << 1 | 7 << 6)) != (1 | 1 << 6) || (pe2 & (3 << 2 | 1 << 7))) return 0;
  u64 rest = load(pe + 24) | load(pe + 32) | load(pe + 40) | load(pe + 48) | load(pe + 56);
  if ((pe0 & bits(11, 10)) | (pe1 & bits(63, 32)) | rest) return 0;
  c->root = pe2 & ~0xfffull;
  c->reserved = HAW < 52 ? bits(51, HAW) : 0;
  if (c->root >> HAW) return 0;
  c->tag = sid << 20 | pasid;
  c->flags = pe2 & 0xff;
  return 1;
}

static struct tlb_entry *vtd_walk(const struct config *c, u64 va, u32 want) {
  /* Canonical addresses; of those the lower half. */
  if (va >> 47) return 0;
  u64 table = c->root, every = ~0ull, any = 0;
  for (int level = 4;; level--) {
    u64 e = load(table + ((va >> (12 + 9 * (level - 1))) & 511) * 8);
    if (!(e & 1) || (e & c->reserved)) return 0;
    every &= e;
    any |= e;
    if (level > 1 && !(e >> 7 & 1)) {
      table = e & PA_MASK;
      continue;
    }
    u64 size = 1ull << (12 + 9 * (level - 1)), page = e & PA_MASK & ~(size - 1);
    /* A in all of them; PS where no page can be; address bits below a large page. */
    if (level == 4 || !(every >> 5 & 1) || (level > 1 && (e & (size - 1) & ~0x1fffull))) return 0;
    u32 f = c->flags, rw = every >> 1 & 1, us = every >> 2 & 1, xd = f & NXE && any >> 63, x = f & ERE && !xd;
    u32 user = us ? R | (rw ? W : 0) | (x ? X : 0) : 0;
    u32 supervisor = f & SRE ? R | (rw || !(f & WPE) ? W : 0) | (x && !(f & SMEP && us) ? X : 0) : 0;
    /* A write to a page that is not dirty has to mark it first. */
    if ((want & ~user) || (want & W && !(e >> 6 & 1))) return 0;
    page |= va & (size - 1) & ~0xfffull;
    if (page >> 20 == 0xfee) return 0;
    return tlb_fill(va >> 12, c->tag, page, user | supervisor << SUPERVISOR);
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
  struct tlb_entry *e = tlb_on ? tlb_find(va >> 12, c->tag) : 0;
  if (!e) e = vtd ? vtd_walk(c, va, want) : smmu_walk(c, va, want);
  if (!e || (want & ~(c->flags & PRIVILEGED && !vtd ? e->perms >> SUPERVISOR : e->perms))) return ~0ull;
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
