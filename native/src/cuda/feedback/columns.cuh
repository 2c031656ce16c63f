/*
 * A block of inputs, an output to a thread: outputs do not depend on each other. M is in shared memory, and what a thread's elements have
 * changed by as well, each thread reading what it wrote. Inputs are taken eight at a time: their sums over what lies before these
 * eight go on together, since they read the same changes; then each adds those of the eight, in order.
 */
#ifndef TP_CUDA_FEEDBACK_COLUMNS_CUH
#define TP_CUDA_FEEDBACK_COLUMNS_CUH

#include <type_traits>

#include "cuda/context.cuh"
#include "feedback/scalar.h"
#include "tensorpress/feedback.h"

namespace tp {

/* Two warps: few enough that some thousand outputs reach most multiprocessors, and the loads of one run beside the sums of the other. */
enum { FEEDBACK_THREADS = 64, TOGETHER = 8 };

template <class T> struct Columns {
    T *base;
    int64_t stride;
    __device__ __forceinline__ T &at(int64_t i, int64_t j) const { return base[i * stride + j]; }
};

template <class T> Columns<T> columns_of(const Array &a) { return {a.as<T>(), a.stride}; }

/* What both kernels go through. Ranges are those of outputs. */
struct Block {
    int64_t begin, end;
    int inputs;
    const float *m;
    int64_t m_stride;
    Columns<const float> w, outside;
    Columns<float> e, change;
};

/* rule.load(i, j) is what it has to know of an element, and rule.error(that, w, inner) its new error; rule.end(j, moved) takes how many changed. */
template <class Rule> __device__ __forceinline__ void go_through(const Block &b, const Rule &rule) {
    TP_SHARED(float4, factors, [TP_FEEDBACK_BLOCK][TP_FEEDBACK_BLOCK / 4]);
    TP_SHARED(float, changes, [TP_FEEDBACK_BLOCK][FEEDBACK_THREADS]);
    float *const flat = &factors[0][0].x;
#pragma unroll 8
    for (int i = 0; i < TP_FEEDBACK_BLOCK; i++)
        if (i < b.inputs && (int)threadIdx.x < i) flat[i * TP_FEEDBACK_BLOCK + threadIdx.x] = b.m[i * b.m_stride + threadIdx.x];
    __syncthreads();
    for (int64_t j = b.begin + (int64_t)blockIdx.x * FEEDBACK_THREADS + threadIdx.x; j < b.end; j += (int64_t)gridDim.x * FEEDBACK_THREADS) {
        int32_t moved = 0;
#pragma unroll 1
        for (int first = 0; first < b.inputs; first += TOGETHER) {
            /* Loads run ahead. */
            float w[TOGETHER], outside[TOGETHER], before[TOGETHER], sum[TOGETHER];
            typename Rule::Known known[TOGETHER];
#pragma unroll
            for (int r = 0; r < TOGETHER; r++) {
                const int i = first + r < b.inputs ? first + r : b.inputs - 1;
                w[r] = b.w.at(i, j);
                outside[r] = b.outside.at(i, j);
                before[r] = b.e.at(i, j);
                known[r] = rule.load(i, j);
                sum[r] = 0;
            }
#pragma unroll 1
            for (int l = 0; l < first; l += 4) {
                const float x[4] = {changes[l][threadIdx.x], changes[l + 1][threadIdx.x], changes[l + 2][threadIdx.x], changes[l + 3][threadIdx.x]};
#pragma unroll
                for (int r = 0; r < TOGETHER; r++) {
                    const float4 f = factors[first + r][l / 4];
                    sum[r] = fmaf(f.w, x[3], fmaf(f.z, x[2], fmaf(f.y, x[1], fmaf(f.x, x[0], sum[r]))));
                }
            }
            float added[TOGETHER];
#pragma unroll
            for (int r = 0; r < TOGETHER; r++) {
#pragma unroll
                for (int q = 0; q < r; q++) sum[r] = fmaf(flat[(first + r) * TP_FEEDBACK_BLOCK + first + q], added[q], sum[r]);
                const float after = rule.error(known[r], w[r], outside[r] + sum[r]);
                added[r] = after - before[r];
                if (first + r >= b.inputs) break;
                moved += after != before[r];
                changes[first + r][threadIdx.x] = added[r];
                b.e.at(first + r, j) = after;
                b.change.at(first + r, j) = added[r];
            }
        }
        rule.end(j, moved);
    }
}

struct Rounding {
    struct Known {
        float scale, zero;
    };
    Columns<const float> scales, zeros; /* no zeros: null */
    float qmin, qmax;
    bool keep_zeros;
    int32_t *moved;
    int32_t groups[TP_FEEDBACK_BLOCK];

    __device__ __forceinline__ Known load(int i, int64_t j) const {
        return {scales.at(groups[i], j), zeros.base ? zeros.at(groups[i], j) : 0};
    }
    __device__ __forceinline__ float error(const Known &known, float w, float inner) const {
        return tp_error_of_rounding(w, inner, known.scale, known.zero, qmin, qmax, keep_zeros);
    }
    __device__ __forceinline__ void end(int64_t j, int32_t count) const { moved[j] += count; }
};

struct Refit {
    using Known = bool;
    Columns<const uint8_t> mask; /* bytes */

    __device__ __forceinline__ Known load(int i, int64_t j) const { return mask.at(i, j / 8) >> j % 8 & 1; }
    __device__ __forceinline__ float error(Known kept, float w, float inner) const { return tp_error_of_pruning(w, inner, kept); }
    __device__ __forceinline__ void end(int64_t, int32_t) const {}
};

template <class Rule> TP_KERNEL(FEEDBACK_THREADS) feed_back(const Block b, const Rule rule) { go_through(b, rule); }

}  // namespace tp

#endif
