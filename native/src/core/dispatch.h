/* CPU features and the choice of the tier. */
#ifndef TP_CORE_DISPATCH_H
#define TP_CORE_DISPATCH_H

#include <stdatomic.h>

#include "core/family.h"

/* Best tier that processor and operating system support and that this build has. */
tp_tier tp_detect_tier(void);

/* The tier by its name, or -1. */
tp_tier tp_tier_by_name(const char *name);

/* TP_TIER_UNDECIDED, TP_TIER_REFUSED, or the tier in use. Only dispatch.c writes it, and tests that switch tiers. */
enum { TP_TIER_UNDECIDED = -1, TP_TIER_REFUSED = -2 };
extern _Atomic int tp_tier_state;

#endif
