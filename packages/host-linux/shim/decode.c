/* x86-64: moves in all their forms, arithmetic with a memory operand, strings. Intel SDM volume 2, chapter 2 and appendix A. */
#define _GNU_SOURCE
#include "decode.h"

#include <string.h>
#include <ucontext.h>

#if defined(__x86_64__)

enum { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP };
enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, TF = 0x100, DF = 0x400, OF = 0x800 };

/* XSAVE area: the state bitmap, and the upper halves of the ymm registers in the standard format. */
#define XSTATE_BV 512
#define XSTATE_YMM 4
#define YMM_HIGH 576

static const int REGISTERS[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static greg_t *registers(void *context) {
  return ((ucontext_t *)context)->uc_mcontext.gregs;
}

bool can_decode(void) {
  return true;
}

void single_step(void *context, bool on) {
  greg_t *flags = &registers(context)[REG_EFL];
  *flags = on ? *flags | TF : *flags & ~TF;
}

static const uint8_t *code_at(const void *context) {
  return (const uint8_t *)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}

/* Bytes of ModRM, SIB and displacement; 0 when the operand is a register. */
static int address_bytes(const uint8_t *modrm) {
  int mod = *modrm >> 6, rm = *modrm & 7;
  if (mod == 3) return 0;
  int length = 1;
  if (rm == 4) {
    length++;
    if (mod == 0 && (modrm[1] & 7) == 5) length += 4;
  } else if (mod == 0 && rm == 5) length += 4;
  return length + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

static uint64_t immediate(const uint8_t *at, int bytes) {
  int64_t value = 0;
  memcpy(&value, at, (size_t)bytes);
  int shift = 64 - 8 * bytes;
  return (uint64_t)(value << shift >> shift);
}

/* Moves of vectors, by opcode and mandatory prefix. */
static bool decode_vector(struct instruction *into, int prefix, int bytes) {
  bool store;
  switch (into->opcode) {
    case 0x0f10: case 0x0f11:
      into->width = prefix == 0xf3 ? 4 : prefix == 0xf2 ? 8 : bytes;
      store = into->opcode == 0x0f11;
      break;
    case 0x0f28: case 0x0f29: case 0x0f2b: case 0x0fe7:
      into->width = bytes;
      store = into->opcode != 0x0f28;
      break;
    case 0x0f6f: case 0x0f7f:
      if (prefix != 0x66 && prefix != 0xf3) return false;
      into->width = bytes;
      store = into->opcode == 0x0f7f;
      break;
    case 0x0f6e:
      into->width = into->operand == 8 ? 8 : 4;
      store = false;
      break;
    case 0x0f7e:
      into->width = prefix == 0xf3 || into->operand == 8 ? 8 : 4;
      store = prefix != 0xf3;
      break;
    case 0x0fd6: case 0x0f13: case 0x0f17:
      into->width = 8;
      store = true;
      break;
    default:
      return false;
  }
  into->vector = true;
  into->reads = !store;
  into->writes = store;
  return true;
}

static bool decode_general(struct instruction *into, int group, int *immediates) {
  int op = into->opcode, size = into->operand;
  if (op < 0x40 && (op & 7) < 4) {
    into->width = op & 1 ? size : 1;
    into->reads = true;
    into->writes = !(op & 2) && op >> 3 != CMP;
    return true;
  }
  switch (op) {
    case 0x88: case 0x89:
      into->width = op & 1 ? size : 1;
      into->writes = true;
      return true;
    case 0x8a: case 0x8b: case 0x84: case 0x85:
      into->width = op & 1 ? size : 1;
      into->reads = true;
      return true;
    case 0x86: case 0x87:
      into->width = op & 1 ? size : 1;
      into->reads = into->writes = true;
      return true;
    case 0x63:
      into->width = 4;
      into->reads = true;
      return true;
    case 0xc6: case 0xc7:
      into->width = op & 1 ? size : 1;
      into->writes = true;
      *immediates = into->width == 8 ? 4 : into->width;
      return group == 0;
    case 0x80: case 0x81: case 0x83:
      into->width = op == 0x80 ? 1 : size;
      into->reads = true;
      into->writes = group != CMP;
      into->opcode = group << 3 | (op == 0x80 ? 0 : 1) | 0x100;
      *immediates = op == 0x81 ? (into->width == 8 ? 4 : into->width) : 1;
      return true;
    case 0xf6: case 0xf7:
      into->width = op & 1 ? size : 1;
      into->reads = true;
      *immediates = into->width == 8 ? 4 : into->width;
      into->opcode = 0x184;
      return group < 2;
    case 0xa4: case 0xa5: case 0xaa: case 0xab:
      into->width = op & 1 ? size : 1;
      return true;
    case 0x0fb6: case 0x0fb7: case 0x0fbe: case 0x0fbf:
      into->width = op & 1 ? 2 : 1;
      into->reads = true;
      return true;
    default:
      return false;
  }
}

bool decode(const void *context, struct instruction *into) {
  const uint8_t *start = code_at(context), *code = start;
  int prefix = 0, rex = 0, vector_bytes = 16;
  *into = (struct instruction){0};
  for (;; code++) {
    if (*code == 0x66 || *code == 0xf2 || *code == 0xf3) prefix = prefix && *code == 0x66 ? prefix : *code;
    else if (*code != 0x2e && *code != 0x3e && *code != 0xf0) break;
  }
  if ((*code & 0xf0) == 0x40) rex = *code++;
  if (*code == 0xc5 || *code == 0xc4) {
    static const int PREFIXES[] = {0, 0x66, 0xf3, 0xf2};
    bool three = *code++ == 0xc4;
    rex = *code & 0x80 ? 0 : 4;
    if (three && (*code++ & 0x1f) != 1) return false;
    if (three && *code & 0x80) rex |= 8;
    vector_bytes = *code & 4 ? 32 : 16;
    prefix = PREFIXES[*code++ & 3];
    into->wide = true;
    into->opcode = 0x0f00 | *code++;
  } else if (*code == 0x0f) {
    into->opcode = 0x0f00 | code[1];
    code += 2;
  } else into->opcode = *code++;
  into->rex = rex != 0;
  into->repeat = prefix == 0xf3 || prefix == 0xf2;
  into->operand = rex & 8 ? 8 : prefix == 0x66 ? 2 : 4;
  bool string = into->opcode >= 0xa4 && into->opcode <= 0xab;
  int address = string ? 0 : address_bytes(code), immediates = 0;
  if (!string && address == 0) return false;
  into->reg = string ? 0 : (*code >> 3 & 7) | (rex & 4 ? 8 : 0);
  if (!decode_vector(into, prefix, vector_bytes) && (into->wide || !decode_general(into, *code >> 3 & 7, &immediates)))
    return false;
  if (string) {
    /* The faulting side: movs reads where rsi points, or writes where rdi does. */
    const greg_t *regs = ((const ucontext_t *)context)->uc_mcontext.gregs;
    bool write = (regs[REG_ERR] & 2) != 0;
    into->reads = !write;
    into->writes = write;
  }
  into->immediate = immediates ? immediate(code + address, immediates) : 0;
  into->length = (int)(code - start) + address + immediates;
  return true;
}

static void *byte_register(greg_t *regs, const struct instruction *in) {
  if (!in->rex && in->reg >= 4 && in->reg < 8) return (char *)&regs[REGISTERS[in->reg - 4]] + 1;
  return &regs[REGISTERS[in->reg]];
}

static uint64_t truncated(uint64_t value, int width) {
  return width == 8 ? value : value & ((1ULL << 8 * width) - 1);
}

static uint64_t get(greg_t *regs, const struct instruction *in, int width) {
  uint64_t value = 0;
  memcpy(&value, width == 1 ? byte_register(regs, in) : &regs[REGISTERS[in->reg]], (size_t)width);
  return value;
}

/* A write of 32 bits clears the upper half. */
static void set(greg_t *regs, const struct instruction *in, uint64_t value, int width) {
  if (width == 4) regs[REGISTERS[in->reg]] = (greg_t)(uint32_t)value;
  else memcpy(width == 1 ? byte_register(regs, in) : (void *)&regs[REGISTERS[in->reg]], &value, (size_t)width);
}

static uint64_t compute(greg_t *regs, int operation, uint64_t a, uint64_t b, int width) {
  uint64_t sign = 1ULL << (8 * width - 1), carry = (uint64_t)regs[REG_EFL] & CF, result;
  bool subtract = operation == SUB || operation == CMP || operation == SBB;
  bool sum = subtract || operation == ADD || operation == ADC;
  if (operation != ADC && operation != SBB) carry = 0;
  switch (operation) {
    case OR: result = a | b; break;
    case AND: result = a & b; break;
    case XOR: result = a ^ b; break;
    default: result = subtract ? a - b - carry : a + b + carry;
  }
  result = truncated(result, width);
  uint64_t flags = (uint64_t)regs[REG_EFL] & ~(uint64_t)(CF | PF | AF | ZF | SF | OF);
  if (result == 0) flags |= ZF;
  if (result & sign) flags |= SF;
  if (!__builtin_parity((unsigned)(result & 0xff))) flags |= PF;
  if (sum) {
    if ((a ^ b ^ result) & 0x10) flags |= AF;
    if (subtract ? a < b || (carry && a == b) : result < a || (carry && result == a)) flags |= CF;
    if ((subtract ? (a ^ b) & (a ^ result) : ~(a ^ b) & (a ^ result)) & sign) flags |= OF;
  }
  regs[REG_EFL] = (greg_t)flags;
  return result;
}

static void move_vector(void *context, const struct instruction *in, uint64_t *memory) {
  char *area = (char *)((ucontext_t *)context)->uc_mcontext.fpregs;
  char *low = (char *)((ucontext_t *)context)->uc_mcontext.fpregs->_xmm[in->reg].element;
  char *high = area + YMM_HIGH + 16 * in->reg;
  size_t count = (size_t)(in->width < 16 ? in->width : 16);
  if (in->writes) {
    memcpy(memory, low, count);
    if (in->width == 32) memcpy(memory + 2, high, 16);
    return;
  }
  memset(low, 0, 16);
  memcpy(low, memory, count);
  if (!in->wide) return;
  memset(high, 0, 16);
  if (in->width == 32) {
    memcpy(high, memory + 2, 16);
    area[XSTATE_BV] |= XSTATE_YMM;
  }
}

static void move_string(greg_t *regs, const struct instruction *in, uint64_t *memory) {
  size_t width = (size_t)in->width;
  bool move = in->opcode < 0xa8;
  if (in->reads) memcpy((void *)regs[REG_RDI], memory, width);
  else memcpy(memory, move ? (const void *)regs[REG_RSI] : &regs[REG_RAX], width);
}

void execute(void *context, const struct instruction *in, uint64_t *memory) {
  greg_t *regs = registers(context);
  int width = in->width, op = in->opcode;
  if (in->vector) return move_vector(context, in, memory);
  if (op < 0x40) {
    uint64_t own = get(regs, in, width);
    bool to_memory = !(op & 2);
    uint64_t result = compute(regs, op >> 3, to_memory ? *memory : own, to_memory ? own : *memory, width);
    if (to_memory) *memory = result;
    else if (op >> 3 != CMP) set(regs, in, result, width);
    return;
  }
  switch (op) {
    case 0x88: case 0x89:
      *memory = get(regs, in, width);
      return;
    case 0x8a: case 0x8b:
      return set(regs, in, *memory, width);
    case 0xc6: case 0xc7:
      *memory = in->immediate;
      return;
    case 0x84: case 0x85:
      compute(regs, AND, *memory, get(regs, in, width), width);
      return;
    case 0x184:
      compute(regs, AND, *memory, truncated(in->immediate, width), width);
      return;
    case 0x86: case 0x87: {
      uint64_t own = get(regs, in, width);
      set(regs, in, *memory, width);
      *memory = own;
      return;
    }
    case 0x63:
      return set(regs, in, (uint64_t)(int64_t)(int32_t)*memory, in->operand);
    case 0x0fb6: case 0x0fb7:
      return set(regs, in, *memory, in->operand);
    case 0x0fbe:
      return set(regs, in, (uint64_t)(int64_t)(int8_t)*memory, in->operand);
    case 0x0fbf:
      return set(regs, in, (uint64_t)(int64_t)(int16_t)*memory, in->operand);
    case 0xa4: case 0xa5: case 0xaa: case 0xab:
      return move_string(regs, in, memory);
    default:
      *memory = compute(regs, op >> 3 & 7, *memory, truncated(in->immediate, width), width);
  }
}

static bool is_string(const struct instruction *in) {
  return !in->vector && in->opcode >= 0xa4 && in->opcode <= 0xab;
}

int64_t advance(void *context, const struct instruction *in) {
  greg_t *regs = registers(context);
  int64_t step = 0;
  if (is_string(in)) {
    step = regs[REG_EFL] & DF ? -in->width : in->width;
    regs[REG_RDI] += step;
    if (in->opcode < 0xa8) regs[REG_RSI] += step;
    if (in->repeat) regs[REG_RCX]--;
  }
  if (!repeats(context, in)) regs[REG_RIP] += in->length;
  return step;
}

bool repeats(const void *context, const struct instruction *in) {
  return is_string(in) && in->repeat && ((const ucontext_t *)context)->uc_mcontext.gregs[REG_RCX] != 0;
}

#else

bool can_decode(void) {
  return false;
}
void single_step(void *context, bool on) {
  (void)context, (void)on;
}
bool decode(const void *context, struct instruction *into) {
  (void)context, (void)into;
  return false;
}
void execute(void *context, const struct instruction *in, uint64_t *memory) {
  (void)context, (void)in, (void)memory;
}
int64_t advance(void *context, const struct instruction *in) {
  (void)context, (void)in;
  return 0;
}
bool repeats(const void *context, const struct instruction *in) {
  (void)context, (void)in;
  return false;
}

#endif
