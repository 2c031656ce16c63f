/*
 * int8 with VNNI: vpdpbusd adds four products of unsigned and signed bytes to an int32, without saturation in between. 128 is
 * added to the elements of A, and taken back by way of the column sums of B; all of it modulo 2^32.
 */
#include "gemm/lanes512.h"

#define TP_VARIANT(name) tp_##name##__vnni

#define ROWS 14
#define UNIT_K 4
INLINE vi vi_dot(vi sum, vi x, vi y) { return _mm512_dpbusd_epi32(sum, x, y); }

#include "gemm/vector.h"

/* Nobody asks for floats here; the list of kernels has them. */
tp_status tp_gemm__vnni(const tp_gemm_spec *s, int64_t begin, int64_t end, int64_t first, int64_t last, const void *a,
                        const void *packed, void *c, void *scratch) {
    return tp_gemm__avx512(s, begin, end, first, last, a, packed, c, scratch);
}
