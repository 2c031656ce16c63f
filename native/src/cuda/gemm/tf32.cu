/*
 * Products of f32 by tensor cores for TF32, which has the exponents of f32 and 11 significant bits: each factor is the sum of two of
 * them to 2^-22 of itself, and three of the four products count. Tensor cores cut off what falls out of a sum instead of rounding
 * it, so a sum of eight products begins at 0 in them, the small products first, and is then added to the rest as floats are. After
 * Markidis et al., "NVIDIA Tensor Core Programmability, Performance & Precision", 2018, and Ootomo and Yokota, "Recovering
 * single precision accuracy from Tensor Cores while surpassing the FP32 theoretical peak performance", 2022.
 */
#include "core/scalar.h"
#include "cuda/gemm/lines.cuh"

namespace tp {

namespace {

/* To the nearest TF32, a tie away from 0. Those that would become infinite are cut off, and what is not finite stays so. */
__device__ uint32_t tf32_of(uint32_t bits) {
    return ((bits & TP_ABS_BITS) < 0x7f7ff000u ? bits + 0x1000 : bits) & 0xffffe000u;
}

__device__ void split(uint32_t bits, uint32_t *high, uint32_t *low) {
    *high = tf32_of(bits);
    *low = tf32_of(__float_as_uint(__uint_as_float(bits) - __uint_as_float(*high)));
}

template <int DOWN, int ACROSS, bool A_COLUMNS, bool B_COLUMNS> TP_KERNEL(TENSOR_THREADS) tf32x3_product(const Product p) {
    using Sizes = TensorTile<DOWN, ACROSS>;
    TP_DYNAMIC_SHARED(uint4, stages);
    TP_PLACE(p, Sizes::ROWS, Sizes::COLUMNS);
    const int warp = threadIdx.x / TP_WARP, lane = threadIdx.x % TP_WARP;
    const int row = warp / 4 * (Sizes::ROWS / 2) + lane / 4, column = warp % 4 * (Sizes::COLUMNS / 4) + lane / 4, chunk = lane % 4;
    float sums[DOWN][ACROSS][4] = {};
    along_k<4, Lines<Sizes::ROWS, 4, A_COLUMNS>, Lines<Sizes::COLUMNS, 4, B_COLUMNS>>(
        p, place, stages, [&](const uint4 *a, const uint4 *b) {
#pragma unroll 1
            for (int half = 0; half < 2; half++) {
                uint32_t high[ACROSS][2], low[ACROSS][2];
#pragma unroll
                for (int j = 0; j < ACROSS; j++) {
                    const uint4 y = b[place_of(column + 8 * j, chunk)];
                    split(half ? y.z : y.x, &high[j][0], &low[j][0]);
                    split(half ? y.w : y.y, &high[j][1], &low[j][1]);
                }
#pragma unroll
                for (int i = 0; i < DOWN; i++) {
                    const uint4 upper = a[place_of(row + 16 * i, chunk)], lower = a[place_of(row + 16 * i + 8, chunk)];
                    uint32_t a_high[4], a_low[4];
                    split(half ? upper.z : upper.x, &a_high[0], &a_low[0]);
                    split(half ? lower.z : lower.x, &a_high[1], &a_low[1]);
                    split(half ? upper.w : upper.y, &a_high[2], &a_low[2]);
                    split(half ? lower.w : lower.y, &a_high[3], &a_low[3]);
#pragma unroll
                    for (int j = 0; j < ACROSS; j++) {
                        float part[4] = {};
                        tp_mma_tf32(part, a_low, high[j]);
                        tp_mma_tf32(part, a_high, low[j]);
                        tp_mma_tf32(part, a_high, high[j]);
#pragma unroll
                        for (int e = 0; e < 4; e++) sums[i][j][e] += part[e];
                    }
                }
            }
        });
    each_pair<DOWN, ACROSS>(p, place, [&](int64_t r, int64_t c, int i, int j, int e) {
        float *to = static_cast<float *>(p.c) + r * p.c_stride + c;
        const bool both = c + 1 < p.b.end;
        float2 sum = make_float2(sums[i][j][e], sums[i][j][e + 1]);
        if (p.accumulate) {
            sum.x = to[0] + sum.x;
            if (both) sum.y = to[1] + sum.y;
        }
        if (both && p.c_aligned) {
            *reinterpret_cast<float2 *>(to) = sum;
        } else {
            to[0] = sum.x;
            if (both) to[1] = sum.y;
        }
    });
}

template <int DOWN, int ACROSS> cudaError_t queue_tiles(const Product &p, int32_t form, cudaStream_t stream) {
    using Sizes = TensorTile<DOWN, ACROSS>;
    switch (form) {
    case TP_GEMM_AB: return launch_tiles<Sizes>(p, stream, tf32x3_product<DOWN, ACROSS, false, true>, p);
    case TP_GEMM_ATB: return launch_tiles<Sizes>(p, stream, tf32x3_product<DOWN, ACROSS, true, true>, p);
    default: return launch_tiles<Sizes>(p, stream, tf32x3_product<DOWN, ACROSS, false, false>, p);
    }
}

}  // namespace

/* Tiles of 128 x 128, or 64 x 64: the sums are the same. */
cudaError_t queue_tf32x3(const Product &p, int32_t form, int multiprocessors, cudaStream_t stream) {
    return count_tiles(p, 128, 128) >= multiprocessors ? queue_tiles<4, 4>(p, form, stream) : queue_tiles<2, 2>(p, form, stream);
}

}  // namespace tp
