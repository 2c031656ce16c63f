/* What the kernels of the svd family share. */
#ifndef TP_CUDA_SVD_COMMON_CUH
#define TP_CUDA_SVD_COMMON_CUH

#include <algorithm>
#include <cmath>

#include "cuda/context.cuh"
#include "svd/checks.h"
#include "svd/scalar.h"

namespace tp {
namespace {

int64_t ceil_div(int64_t n, int64_t by) { return (n + by - 1) / by; }

/* A grid for kernels that go on with what no block has begun: so many blocks, but no more than the device is busy with. */
dim3 grid_for(int64_t blocks, int multiprocessors) {
    const int64_t most = (int64_t)multiprocessors * 32;
    return dim3((unsigned)(blocks < most ? blocks : most));
}

int bits_of(tp_dtype type) { return type == TP_F64 ? 64 : 32; }

/* From the first element of a matrix to the last. */
int64_t span_bytes(tp_dtype type, int64_t rows, int64_t cols, int64_t stride) {
    return rows && cols ? ((rows - 1) * stride + cols) * (bits_of(type) / 8) : 0;
}

/* launch(T()) with T for F32 or F64. */
template <class Launch> cudaError_t with_type(tp_dtype type, Launch launch) {
    return type == TP_F64 ? launch(double()) : launch(float());
}

}  // namespace
}  // namespace tp

#endif
