#include "cuda/gemm/exact.cuh"

/* Tiles of 128 x 64, or 64 x 32. */
cudaError_t tp::queue_exact_f64(const Product &p, int32_t form, int multiprocessors, cudaStream_t stream) {
    return queue_exact<double, 4, 2>(p, form, multiprocessors, stream);
}
