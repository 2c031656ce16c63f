#include "cuda/spmm/lines.cuh"

cudaError_t tp::queue_lines_i8(const SparseProduct &p, int64_t begin, int64_t end, cudaStream_t stream) {
    return queue_product<int8_t>(p, begin, end, stream);
}
