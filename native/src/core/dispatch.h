/* CPU features and the choice of the tier. */
#ifndef TP_CORE_DISPATCH_H
#define TP_CORE_DISPATCH_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/checks.h"
#include "core/family.h"

/* As scratch and packed operands have to lie: on a cache line. */
static inline bool tp_aligned(const void *p) { return p && (uintptr_t)p % 64 == 0; }

/* Best tier that processor and operating system support and that this build has. */
tp_tier tp_detect_tier(void);

/* The tier by its name, or -1. */
tp_tier tp_tier_by_name(const char *name);

/* TP_TIER_UNDECIDED, TP_TIER_REFUSED, or the tier in use. Only dispatch.c writes it, and tests that switch tiers. */
enum { TP_TIER_UNDECIDED = -1, TP_TIER_REFUSED = -2 };
extern _Atomic int tp_tier_state;

/*
 * Whether kernels of the tier avx512 use VNNI (vpdpbusd on 512 bits). It makes integer products faster and does not change
 * a bit of them, so it is no tier of its own. It goes with that tier: where TENSORPRESS_ISA lowers the tier, nobody asks.
 */
bool tp_detect_vnni(void);
bool tp_use_vnni(void);

/* TP_VNNI_UNDECIDED, 0 or 1. Only dispatch.c writes it, and tests that switch it off. */
enum { TP_VNNI_UNDECIDED = -1 };
extern _Atomic int tp_vnni_state;

/*
 * Whether vectors are gathered by one instruction where columns are not adjacent, on any tier that has it. Bits are the same.
 * Only on Intel from Sapphire Rapids on: before it, microcode that keeps gathers from leaking data makes them slow, and AMD's are
 * slower than loads.
 */
bool tp_detect_gathers(void);
bool tp_use_gathers(void);

/* TP_GATHERS_UNDECIDED, 0 or 1. Only dispatch.c writes it, and tests that switch it. */
enum { TP_GATHERS_UNDECIDED = -1 };
extern _Atomic int tp_gathers_state;

/*
 * Whether SHA-256 uses the processor's instructions for it, on any tier above the portable one. The digest is the same, so this
 * is no tier either.
 */
bool tp_detect_sha(void);
bool tp_use_sha(tp_tier tier);

/* TP_SHA_UNDECIDED, 0 or 1. Only dispatch.c writes it, and tests that switch it off. */
enum { TP_SHA_UNDECIDED = -1 };
extern _Atomic int tp_sha_state;

/* Defines find_kernels: a family's kernels for the tier in use. */
#define TP_FIND_KERNELS(family)                                                                                       \
    static tp_status find_kernels(const tp_##family##_kernels **kernels) {                                            \
        tp_tier tier;                                                                                                 \
        TRY(tp_active_tier(&tier));                                                                                   \
        *kernels = &tp_##family##_tables[tier];                                                                       \
        return TP_OK;                                                                                                 \
    }

#endif
