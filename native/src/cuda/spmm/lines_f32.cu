#include "cuda/spmm/lines.cuh"

cudaError_t tp::queue_lines_f32(const SparseProduct &p, int64_t begin, int64_t end, cudaStream_t stream) {
    return queue_product<float>(p, begin, end, stream);
}
