/* Gaussian numbers. */
#ifndef TP_CUDA_SVD_RANDOM_CUH
#define TP_CUDA_SVD_RANDOM_CUH

#include "cuda/svd/common.cuh"

namespace tp {
namespace {

enum { RANDOM_THREADS = 256 };

/* Elements first + [begin, end) of the sequence to out[begin .. end). A thread makes the four numbers of a block of the generator. */
template <class T>
TP_KERNEL(RANDOM_THREADS) gaussian_numbers(uint64_t seed, uint64_t stream, int64_t first, int64_t begin, int64_t end, T *__restrict__ out) {
    const int64_t blocks = (first + end - 1) / 4 + 1, step = (int64_t)gridDim.x * RANDOM_THREADS;
    for (int64_t b = (first + begin) / 4 + (int64_t)blockIdx.x * RANDOM_THREADS + threadIdx.x; b < blocks; b += step) {
        uint32_t w[4];
        double x[4];
        tp_philox(seed, stream, (uint64_t)b, &w[0], &w[1], &w[2], &w[3]);
        tp_box_muller(w[0], w[1], &x[0], &x[1]);
        tp_box_muller(w[2], w[3], &x[2], &x[3]);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int64_t i = b * 4 + k - first;
            if (i >= begin && i < end) out[i] = (T)x[k];
        }
    }
}

}  // namespace
}  // namespace tp

#endif
