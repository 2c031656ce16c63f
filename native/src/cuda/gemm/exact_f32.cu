#include "cuda/gemm/exact.cuh"

/* Tiles of 128 x 128, or 64 x 64. */
cudaError_t tp::queue_exact_f32(const Product &p, int32_t form, int multiprocessors, cudaStream_t stream) {
    return queue_exact<float, 2, 2>(p, form, multiprocessors, stream);
}
