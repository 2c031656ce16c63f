/*
 * Products of int8 by tensor cores: exact modulo 2^32, as unsigned integers are, so no order matters. Zero points are
 * brought in at the end: sum (a - x)(b - y) = sum a b - x sum b - y sum a + k x y.
 */
#include "cuda/gemm/lines.cuh"

namespace tp {

namespace {

__device__ int32_t finish(const Product &p, const Affine &f, int32_t product, int64_t row, int64_t column) {
    uint32_t sum = (uint32_t)product;
    const int64_t a_at = f.a_zero_step ? row : 0, b_at = f.b_zero_step ? column : 0;
    const uint32_t x = f.a_zero ? (uint32_t)f.a_zero[a_at] : 0, y = f.b_zero ? (uint32_t)f.b_zero[b_at] : 0;
    if (f.a_zero) sum -= x * f.b_sums[column];
    if (f.b_zero) sum -= y * f.a_sums[row - p.a.first];
    sum += (uint32_t)p.k * x * y;
    if (!f.scaled) return (int32_t)sum;
    float value = (float)(int32_t)sum;
    if (f.a_scale) value *= f.a_scale[f.a_scale_step ? row : 0];
    if (f.b_scale) value *= f.b_scale[f.b_scale_step ? column : 0];
    return __float_as_int(value);
}

template <int DOWN, int ACROSS, bool A_COLUMNS, bool B_COLUMNS> TP_KERNEL(TENSOR_THREADS)
int8_product(const Product p, const Affine f) {
    using Sizes = TensorTile<DOWN, ACROSS>;
    TP_DYNAMIC_SHARED(uint4, stages);
    TP_PLACE(p, Sizes::ROWS, Sizes::COLUMNS);
    const int warp = threadIdx.x / TP_WARP, lane = threadIdx.x % TP_WARP;
    const int row = warp / 4 * (Sizes::ROWS / 2) + lane / 4, column = warp % 4 * (Sizes::COLUMNS / 4) + lane / 4, chunk = lane % 4;
    int32_t sums[DOWN][ACROSS][4] = {};
    along_k<1, Lines<Sizes::ROWS, 1, A_COLUMNS>, Lines<Sizes::COLUMNS, 1, B_COLUMNS>>(
        p, place, stages, [&](const uint4 *a, const uint4 *b) {
            uint4 y[ACROSS];
#pragma unroll
            for (int j = 0; j < ACROSS; j++) y[j] = b[place_of(column + 8 * j, chunk)];
#pragma unroll
            for (int i = 0; i < DOWN; i++) {
                const uint4 upper = a[place_of(row + 16 * i, chunk)], lower = a[place_of(row + 16 * i + 8, chunk)];
#pragma unroll
                for (int j = 0; j < ACROSS; j++) {
                    tp_mma_s8(sums[i][j], {upper.x, lower.x, upper.y, lower.y}, {y[j].x, y[j].y});
                    tp_mma_s8(sums[i][j], {upper.z, lower.z, upper.w, lower.w}, {y[j].z, y[j].w});
                }
            }
        });
    each_pair<DOWN, ACROSS>(p, place, [&](int64_t r, int64_t c, int i, int j, int e) {
        int32_t *to = static_cast<int32_t *>(p.c) + r * p.c_stride + c;
        const bool both = c + 1 < p.b.end;
        int2 old = make_int2(0, 0);
        if (p.accumulate) {
            old.x = to[0];
            if (both) old.y = to[1];
        }
        const int32_t x = finish(p, f, (int32_t)((uint32_t)sums[i][j][e] + (uint32_t)old.x), r, c);
        const int32_t y = both ? finish(p, f, (int32_t)((uint32_t)sums[i][j][e + 1] + (uint32_t)old.y), r, c + 1) : 0;
        if (both && p.c_aligned) {
            *reinterpret_cast<int2 *>(to) = make_int2(x, y);
        } else {
            to[0] = x;
            if (both) to[1] = y;
        }
    });
}

enum { SUM_THREADS = 256, SUM_WARPS = SUM_THREADS / TP_WARP };

/* A warp for each row. */
TP_KERNEL(SUM_THREADS) sum_rows(const Operand from, int64_t k, uint32_t *sums) {
    const int lane = threadIdx.x % TP_WARP;
    const int64_t line = from.first + (int64_t)blockIdx.x * SUM_WARPS + threadIdx.x / TP_WARP;
    if (line >= from.end) return;
    const int8_t *at = static_cast<const int8_t *>(from.base) + line * from.stride;
    const int64_t whole = from.aligned ? k / 16 * 16 : 0;
    int32_t sum = 0;
    for (int64_t i = lane * 16; i < whole; i += TP_WARP * 16) {
        const int4 x = *reinterpret_cast<const int4 *>(at + i);
        sum = __dp4a(x.x, 0x01010101, __dp4a(x.y, 0x01010101, __dp4a(x.z, 0x01010101, __dp4a(x.w, 0x01010101, sum))));
    }
    for (int64_t i = whole + lane; i < k; i += TP_WARP) sum += at[i];
    for (int step = TP_WARP / 2; step; step /= 2) sum += __shfl_down_sync(TP_ALL_LANES, sum, step);
    if (lane == 0) sums[line - from.first] = (uint32_t)sum;
}

/* 32 columns for each block, every eighth row to a warp. */
TP_KERNEL(SUM_THREADS) sum_columns(const Operand from, int64_t k, uint32_t *sums) {
    TP_SHARED(int32_t, parts, [SUM_WARPS][TP_WARP]);
    const int lane = threadIdx.x % TP_WARP, warp = threadIdx.x / TP_WARP;
    const int64_t line = from.first + (int64_t)blockIdx.x * TP_WARP + lane;
    int32_t sum = 0;
    if (line < from.end)
        for (int64_t i = warp; i < k; i += SUM_WARPS) sum += static_cast<const int8_t *>(from.base)[i * from.stride + line];
    parts[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || line >= from.end) return;
    for (int w = 1; w < SUM_WARPS; w++) sum += parts[w][lane];
    sums[line - from.first] = (uint32_t)sum;
}

template <int DOWN, int ACROSS> cudaError_t queue_tiles(const Product &p, const Affine &f, int32_t form, cudaStream_t stream) {
    using Sizes = TensorTile<DOWN, ACROSS>;
    switch (form) {
    case TP_GEMM_AB: return launch_tiles<Sizes>(p, stream, int8_product<DOWN, ACROSS, false, true>, p, f);
    case TP_GEMM_ATB: return launch_tiles<Sizes>(p, stream, int8_product<DOWN, ACROSS, true, true>, p, f);
    default: return launch_tiles<Sizes>(p, stream, int8_product<DOWN, ACROSS, false, false>, p, f);
    }
}

}  // namespace

/* Tiles of 128 x 128, or 64 x 64. */
cudaError_t queue_int8(const Product &p, const Affine &f, int32_t form, int multiprocessors, cudaStream_t stream) {
    return count_tiles(p, 128, 128) >= multiprocessors ? queue_tiles<4, 4>(p, f, form, stream)
                                                       : queue_tiles<2, 2>(p, f, form, stream);
}

cudaError_t queue_line_sums(const Operand &operand, bool columns, int64_t k, uint32_t *sums, cudaStream_t stream) {
    const int64_t lines = operand.end - operand.first;
    if (columns) {
        const dim3 grid((unsigned)((lines + TP_WARP - 1) / TP_WARP));
        return tp_launch(stream, sum_columns, grid, SUM_THREADS, 0, operand, k, sums);
    }
    const dim3 grid((unsigned)((lines + SUM_WARPS - 1) / SUM_WARPS));
    return tp_launch(stream, sum_rows, grid, SUM_THREADS, 0, operand, k, sums);
}

}  // namespace tp
