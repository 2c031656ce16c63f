/*
 * How a kernel family is declared. A family lists its kernels once, as X(name, (parameters)), and from that list come
 * the variants' declarations, the table of function pointers and the tables of each tier. A variant that is missing
 * does not link.
 */
#ifndef TP_CORE_FAMILY_H
#define TP_CORE_FAMILY_H

#include "tensorpress/core.h"

#define TP_KERNEL_FIELD(name, params) tp_status(*name) params;
#define TP_KERNEL_DECLARE(name, params)                                                                               \
    tp_status tp_##name##__ref params;                                                                                \
    tp_status tp_##name##__avx2 params;                                                                               \
    tp_status tp_##name##__avx512 params;
#define TP_KERNEL_REF(name, params) .name = tp_##name##__ref,
#define TP_KERNEL_AVX2(name, params) .name = tp_##name##__avx2,
#define TP_KERNEL_AVX512(name, params) .name = tp_##name##__avx512,

/* The tables of a family, indexed by tier; TP_TIERS_BUILT of them. */
#ifdef TP_TIERS_X86
#define TP_TIERS_BUILT 3
#define TP_KERNEL_TABLES(LIST) {{LIST(TP_KERNEL_REF)}, {LIST(TP_KERNEL_AVX2)}, {LIST(TP_KERNEL_AVX512)}}
#else
#define TP_TIERS_BUILT 1
#define TP_KERNEL_TABLES(LIST) {{LIST(TP_KERNEL_REF)}}
#endif

#endif
