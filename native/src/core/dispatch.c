#include "core/dispatch.h"

#include <stdlib.h>
#include <string.h>

_Atomic int tp_tier_state = TP_TIER_UNDECIDED;
_Atomic int tp_vnni_state = TP_VNNI_UNDECIDED;
_Atomic int tp_gathers_state = TP_GATHERS_UNDECIDED;
_Atomic int tp_sha_state = TP_SHA_UNDECIDED;

const char *tp_tier_name(tp_tier tier) {
    switch (tier) {
    case TP_TIER_REF: return "ref";
    case TP_TIER_AVX2: return "avx2";
    case TP_TIER_AVX512: return "avx512";
    default: return "unknown";
    }
}

tp_tier tp_tier_by_name(const char *name) {
    for (tp_tier tier = TP_TIER_REF; tier <= TP_TIER_AVX512; tier++)
        if (strcmp(name, tp_tier_name(tier)) == 0) return tier;
    return -1;
}

tp_tier tp_best_tier(void) { return tp_detect_tier(); }

tp_status tp_active_tier(tp_tier *tier) {
    if (!tier) return TP_ERR_ARGUMENT;
    int state = atomic_load_explicit(&tp_tier_state, memory_order_relaxed);
    if (state == TP_TIER_UNDECIDED) {
        const char *name = getenv("TENSORPRESS_ISA");
        const tp_tier best = tp_detect_tier();
        int chosen = best;
        if (name && *name) {
            chosen = tp_tier_by_name(name);
            if (chosen < 0 || chosen > best) chosen = TP_TIER_REFUSED;
        }
        /* The first thread decides for all, even if the environment changes meanwhile. */
        if (atomic_compare_exchange_strong(&tp_tier_state, &state, chosen)) state = chosen;
    }
    if (state == TP_TIER_REFUSED) return TP_ERR_ISA;
    *tier = state;
    return TP_OK;
}

bool tp_use_vnni(void) {
    int state = atomic_load_explicit(&tp_vnni_state, memory_order_relaxed);
    if (state == TP_VNNI_UNDECIDED) {
        state = tp_detect_vnni();
        atomic_store_explicit(&tp_vnni_state, state, memory_order_relaxed);
    }
    return state;
}

bool tp_use_gathers(void) {
    int state = atomic_load_explicit(&tp_gathers_state, memory_order_relaxed);
    if (state == TP_GATHERS_UNDECIDED) {
        state = tp_detect_gathers();
        atomic_store_explicit(&tp_gathers_state, state, memory_order_relaxed);
    }
    return state;
}

bool tp_use_sha(tp_tier tier) {
    int state = atomic_load_explicit(&tp_sha_state, memory_order_relaxed);
    if (state == TP_SHA_UNDECIDED) {
        state = tp_detect_sha();
        atomic_store_explicit(&tp_sha_state, state, memory_order_relaxed);
    }
    return tier > TP_TIER_REF && state;
}
