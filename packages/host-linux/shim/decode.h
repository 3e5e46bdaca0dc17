/* The instruction that has trapped: what it does with memory, and doing the rest of it. */
#ifndef IOMMUKIT_DECODE_H
#define IOMMUKIT_DECODE_H

#include <stdbool.h>
#include <stdint.h>

struct instruction {
  int length;  /* bytes of code */
  int opcode;  /* 0x0f.. with 0x0f00 added */
  int width;   /* bytes of memory */
  int operand; /* bytes of the register operand */
  int reg;
  bool reads, writes;
  bool vector, wide; /* xmm or ymm; wide: VEX, which clears the rest */
  bool rex, repeat;
  uint64_t immediate;
};

bool can_decode(void);
/* The processor traps after the next instruction, or does not any more. */
void single_step(void *context, bool on);
bool decode(const void *context, struct instruction *into);
/* Moves between memory's bytes and the registers, or computes. */
void execute(void *context, const struct instruction *instruction, uint64_t *memory);
/* Goes on to the next instruction, or the next element of a string. Returns how far the memory operand has moved. */
int64_t advance(void *context, const struct instruction *instruction);
bool repeats(const void *context, const struct instruction *instruction);

#endif
