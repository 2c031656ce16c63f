/* Sums over the threads of a warp and of a block. Integers only: their order does not show. */
#ifndef TP_CUDA_SCAN_CUH
#define TP_CUDA_SCAN_CUH

#include "cuda/kernel.cuh"

namespace tp {

__device__ __forceinline__ unsigned lane_of() { return threadIdx.x % TP_WARP; }
/* The lanes before this one. */
__device__ __forceinline__ unsigned lanes_before() { return (1u << lane_of()) - 1; }

/* Sum of x over this lane and those before it. */
template <class T> __device__ __forceinline__ T warp_scan(T x) {
#pragma unroll
    for (int apart = 1; apart < TP_WARP; apart *= 2) {
        const T other = __shfl_up_sync(TP_ALL_LANES, x, apart);
        if (lane_of() >= (unsigned)apart) x += other;
    }
    return x;
}

template <class T> __device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (int apart = TP_WARP / 2; apart; apart /= 2) x += __shfl_xor_sync(TP_ALL_LANES, x, apart);
    return x;
}

/* Sum of x over the threads before this one; *total over all of them. `sums` is shared, and free again after the next barrier. */
template <int threads, class T> __device__ __forceinline__ T block_scan(T x, T (&sums)[threads / TP_WARP], T *total) {
    const T own = warp_scan(x);
    if (lane_of() == TP_WARP - 1) sums[threadIdx.x / TP_WARP] = own;
    __syncthreads();
    T before = 0, all = 0;
#pragma unroll
    for (int w = 0; w < threads / TP_WARP; w++) {
        if (w < (int)(threadIdx.x / TP_WARP)) before += sums[w];
        all += sums[w];
    }
    *total = all;
    return before + own - x;
}

}  // namespace tp

#endif
