/* Scores and their keys on the device: prune/scalar.h, for elements of 4 and of 2 bytes. */
#ifndef TP_CUDA_PRUNE_SCORES_CUH
#define TP_CUDA_PRUNE_SCORES_CUH

#include "cuda/rows.cuh"
#include "cuda/scan.cuh"
#include "prune/scalar.h"

namespace tp {

/* What kernels find, in Call::flags(). */
enum { FOUND_NAN = 1 };

/* Elements of type T in one of the two orders. Kernels do not tell f16 from bf16: only NaN differ, by `infinity`. */
template <class T, int32_t ORDER> struct Kind {
    using Bits = T;
    enum { TYPE = sizeof(T) == 4 ? TP_F32 : TP_F16, UNUSED = 32 - 8 * sizeof(T) };
    static __device__ __forceinline__ uint32_t key(T x) { return tp_key_of_bits(TYPE, ORDER, (uint32_t)x << UNUSED); }
    /* The bits of the key that the type has. */
    static __device__ __forceinline__ T short_key(T x) { return (T)(key(x) >> UNUSED); }
    static __device__ __forceinline__ bool is_nan(T x, uint32_t infinity) { return (uint32_t)x << UNUSED << 1 > infinity; }
};

/* f(Kind) for the kind of these scores. */
template <class F> cudaError_t for_kind(const tp_scores &s, F f) {
    if (s.type == TP_F32) return s.order == TP_ORDER_MAGNITUDE ? f(Kind<uint32_t, TP_ORDER_MAGNITUDE>()) : f(Kind<uint32_t, TP_ORDER_VALUE>());
    return s.order == TP_ORDER_MAGNITUDE ? f(Kind<uint16_t, TP_ORDER_MAGNITUDE>()) : f(Kind<uint16_t, TP_ORDER_VALUE>());
}

}  // namespace tp

#endif
