/*
 * The kernels of the gemm family. Arguments are those of the public functions after the checks of api.c: the spec is
 * valid, ranges lie inside it and are not empty, and no pointer to anything that is touched is null.
 */
#ifndef TP_GEMM_KERNELS_H
#define TP_GEMM_KERNELS_H

#include "core/family.h"
#include "tensorpress/gemm.h"

/*
 * Sizes of the tiles. Packed operands consist of units of unit_bytes: unit_k consecutive elements of a line of k, padded
 * with zeros at its end. A panel of B is [units of k][columns], behind its column sums if the type is TP_I8.
 */
typedef struct tp_gemm_tiling {
    int64_t rows, columns;      /* of the part of C that is held in registers */
    int64_t unit_bytes, unit_k;
    int64_t block_rows;         /* rows of A that are packed together */
    int64_t block_units;        /* units of k that are */
} tp_gemm_tiling;

#define TP_GEMM_KERNELS(X)                                                                                            \
    X(gemm_tiling, (tp_dtype type, tp_gemm_tiling *tiling))                                                           \
    X(gemm_pack, (const tp_gemm_spec *spec, int64_t first, int64_t last, const void *b, void *packed))                \
    X(gemm, (const tp_gemm_spec *spec, int64_t begin, int64_t end, int64_t first, int64_t last, const void *a,        \
             const void *packed, void *c, void *scratch))                                                             \
    X(gemm_int8, (const tp_gemm_spec *spec, const tp_gemm_affine *affine, int64_t begin, int64_t end, int64_t first,  \
                  int64_t last, const void *a, const void *packed, void *c, void *scratch))

typedef struct tp_gemm_kernels {
    TP_GEMM_KERNELS(TP_KERNEL_FIELD)
} tp_gemm_kernels;
TP_GEMM_KERNELS(TP_KERNEL_DECLARE)
extern const tp_gemm_kernels tp_gemm_tables[TP_TIERS_BUILT];

/* TP_I8 of the tier avx512 where the processor has VNNI. The integers are the same, the packed layout is not. */
#define TP_KERNEL_DECLARE_VNNI(name, params) tp_status tp_##name##__vnni params;
TP_GEMM_KERNELS(TP_KERNEL_DECLARE_VNNI)

static inline int64_t tp_gemm_panel_bytes(const tp_gemm_spec *spec, const tp_gemm_tiling *t) {
    const int64_t units = (spec->k + t->unit_k - 1) / t->unit_k;
    return t->columns * (units * t->unit_bytes + (spec->type == TP_I8 ? (int64_t)sizeof(int32_t) : 0));
}

/* Bytes of an element of A and B. */
static inline int tp_gemm_size_of(tp_dtype type) { return type == TP_F64 ? 8 : type == TP_F32 ? 4 : 1; }

#endif
