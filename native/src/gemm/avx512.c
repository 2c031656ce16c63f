/* AVX-512: 14 rows by 2 registers, which with 2 of B and 1 of A is all 32 registers but one. */
#include "gemm/lanes512.h"

#define TP_VARIANT(name) tp_##name##__avx512

#define ROWS 14
#define UNIT_K 2
#define FLOATS
INLINE vi vi_dot(vi sum, vi x, vi y) { return _mm512_add_epi32(sum, _mm512_madd_epi16(x, y)); }

#include "gemm/vector.h"
