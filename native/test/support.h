/* What the native tests share: tiers, random numbers, guarded memory, and an oracle for the small float types. */
#ifndef TP_TEST_SUPPORT_H
#define TP_TEST_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tensorpress/quantize.h"

/* Prints the tiers, and those that are skipped for want of hardware. Exits with failure if TENSORPRESS_REQUIRE names a tier
   that this machine or build lacks, or TENSORPRESS_EFFORT is no number of rounds. */
void test_start(const char *name);

/* Whether another round of the checks is to run: there are TENSORPRESS_EFFORT, or one. Prints the TENSORPRESS_SEED with which
   a run begins with this round. */
bool test_round(void);

/* Exit status: failure if any check failed. */
int test_end(void);

/* Reports a failed check. The first few are printed. */
void test_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
extern int test_failures;

#define CHECK(condition, ...)                                                                                         \
    do {                                                                                                              \
        if (!(condition)) test_fail(__FILE__, __LINE__, __VA_ARGS__);                                                 \
    } while (0)

/* Tiers that can run here: 0 .. test_tiers - 1. */
extern int test_tiers;
void test_use_tier(tp_tier tier);

uint64_t random_bits(void);
int64_t random_below(int64_t n);
double random_unit(void);

/* A region between two pages that cannot be touched. */
typedef struct guarded {
    char *start;
    size_t size;
} guarded;

guarded guarded_new(size_t size);
/* bytes that end at the upper guard page, or start right behind the lower one; filled with a pattern. */
void *guarded_take(const guarded *g, size_t bytes, bool at_end);
enum { GUARD_FILL = 0xa5 };

/* An input of so many bytes, `offset` bytes off the alignment that the guard page gives it. */
void *guarded_input(const guarded *g, size_t bytes, bool at_end, int offset);

/* Independent conversions, by arithmetic in f64. Values may lie at any address. */
double oracle_value(tp_dtype type, const void *p, int64_t i);
uint16_t oracle_round(tp_dtype type, double x);
void oracle_store(tp_dtype type, void *p, int64_t i, double x);
float oracle_round_f32(tp_dtype type, float x);

#endif
