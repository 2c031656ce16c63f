#include "core/dispatch.h"

#ifdef TP_TIERS_X86
#include <cpuid.h>

/* Which register states the operating system saves. Written as assembly since the intrinsic needs a compiler flag. */
static uint64_t xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

tp_tier tp_detect_tier(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return TP_TIER_REF;
    const uint32_t first = bit_FMA | bit_F16C | bit_AVX | bit_OSXSAVE;
    if ((c & first) != first) return TP_TIER_REF;
    const uint64_t ymm_state = 0x6, zmm_state = 0xe6, saved = xcr0();
    if ((saved & ymm_state) != ymm_state) return TP_TIER_REF;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return TP_TIER_REF;
    const uint32_t wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if ((b & wide) != wide || (saved & zmm_state) != zmm_state) return TP_TIER_AVX2;
    return TP_TIER_AVX512;
}

bool tp_detect_vnni(void) {
    uint32_t a, b, c, d;
    return tp_detect_tier() == TP_TIER_AVX512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_AVX512VNNI);
}

bool tp_detect_gathers(void) {
    const uint32_t half_floats = 1u << 23; /* AVX512_FP16, which came with Sapphire Rapids */
    uint32_t a, b, c, d;
    if (tp_detect_tier() != TP_TIER_AVX512 || !__get_cpuid(0, &a, &b, &c, &d) || b != signature_INTEL_ebx) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & half_floats);
}

bool tp_detect_sha(void) {
    uint32_t a, b, c, d;
    return tp_detect_tier() > TP_TIER_REF && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}
#else
tp_tier tp_detect_tier(void) { return TP_TIER_REF; }
bool tp_detect_vnni(void) { return false; }
bool tp_detect_gathers(void) { return false; }
bool tp_detect_sha(void) { return false; }
#endif
