/*
 * How kernels go over the rows of a matrix whose elements are taken eight at a time, as bytes of a mask have them: so a thread owns
 * whole bytes, and reads and writes whole vectors where addresses allow.
 */
#ifndef TP_CUDA_ROWS_CUH
#define TP_CUDA_ROWS_CUH

#include "cuda/context.cuh"

namespace tp {

enum { ROW_THREADS = 256 };
constexpr int EIGHT = 8;

/* Rows of elements; row 0 is the first of all. */
template <class T> struct Rows {
    T *base;
    int64_t stride, cols;
    __device__ __forceinline__ T *at(int64_t row, int64_t col) const { return base + row * stride + col; }
};

template <class T> Rows<T> rows_of(const Array &a, int64_t cols) { return {a.as<T>(), a.stride, cols}; }

/*
 * Rows [begin, end) of `units` each, a unit to a thread. 2^across threads of a block lie along a row, so that short rows do not
 * leave most of them idle.
 */
struct Walk {
    int64_t begin, end, units;
    int across;
};

inline Walk walk_over(int64_t begin, int64_t end, int64_t units) {
    int across = 0;
    while (across < 8 && (1 << across) < units) across++;
    return {begin, end, units, across};
}

/* Rows [begin, end) with columns in groups of eight, as a walk. If they may be taken as one row, they are, and cols is that of it. */
inline Walk walk_eights(int64_t begin, int64_t end, bool as_one, int64_t *cols) {
    if (as_one) {
        *cols *= end - begin;
        end = begin + 1;
    }
    return walk_over(begin, end, (*cols + EIGHT - 1) / EIGHT);
}

/* About eight blocks for each multiprocessor, which is what it can hold; what is more goes round. */
inline dim3 grid_of(const Walk &w, int multiprocessors) {
    const int64_t most = (int64_t)multiprocessors * 8, lanes = 1 << w.across, high = ROW_THREADS >> w.across;
    int64_t x = (w.units + lanes - 1) / lanes, y = (w.end - w.begin + high - 1) / high;
    x = x < most ? x : most;
    const int64_t rest = (most + x - 1) / x;
    y = y < rest ? y : rest;
    return dim3((unsigned)x, (unsigned)(y < 65535 ? y : 65535));
}

/* body(row, unit) for each unit of this thread. Threads of a warp may go round differently often. */
template <class Body> __device__ __forceinline__ void walk(const Walk &w, Body body) {
    const int lanes = 1 << w.across, high = ROW_THREADS >> w.across;
    const int64_t first = ((int64_t)blockIdx.x << w.across) + (threadIdx.x & (lanes - 1));
    for (int64_t r = w.begin + (int64_t)blockIdx.y * high + (threadIdx.x >> w.across); r < w.end; r += (int64_t)gridDim.y * high)
        for (int64_t u = first; u < w.units; u += (int64_t)gridDim.x << w.across) body(r, u);
}

template <class T> __device__ __forceinline__ bool aligned_eight(const T *p) {
    return reinterpret_cast<uintptr_t>(p) % (sizeof(T) == 1 ? 8 : 16) == 0;
}

__device__ __forceinline__ void split(uint32_t word, uint32_t *x) { x[0] = word; }
__device__ __forceinline__ void split(uint32_t word, uint16_t *x) {
    x[0] = (uint16_t)word;
    x[1] = (uint16_t)(word >> 16);
}
__device__ __forceinline__ void split(uint32_t word, uint8_t *x) {
    x[0] = (uint8_t)word;
    x[1] = (uint8_t)(word >> 8);
    x[2] = (uint8_t)(word >> 16);
    x[3] = (uint8_t)(word >> 24);
}
__device__ __forceinline__ uint32_t joined(const uint32_t *x) { return x[0]; }
__device__ __forceinline__ uint32_t joined(const uint16_t *x) { return x[0] | (uint32_t)x[1] << 16; }
__device__ __forceinline__ uint32_t joined(const uint8_t *x) {
    return x[0] | (uint32_t)x[1] << 8 | (uint32_t)x[2] << 16 | (uint32_t)x[3] << 24;
}

/* The n elements at p, at most eight; those behind them are 0. */
template <class T> __device__ __forceinline__ void load_eight(const T *p, int n, T (&x)[EIGHT]) {
    enum { WORD = 4 / sizeof(T) };
    if (n >= EIGHT && aligned_eight(p)) {
        if (sizeof(T) == 1) {
            const uint2 v = *reinterpret_cast<const uint2 *>(p);
            split(v.x, x);
            split(v.y, x + WORD);
        } else {
#pragma unroll
            for (int i = 0; i < EIGHT; i += 4 * WORD) {
                const uint4 v = *reinterpret_cast<const uint4 *>(p + i);
                split(v.x, x + i);
                split(v.y, x + i + WORD);
                split(v.z, x + i + 2 * WORD);
                split(v.w, x + i + 3 * WORD);
            }
        }
    } else {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) x[i] = i < n ? p[i] : (T)0;
    }
}

/* Writes the first n. */
template <class T> __device__ __forceinline__ void store_eight(T *p, int n, const T (&x)[EIGHT]) {
    enum { WORD = 4 / sizeof(T) };
    if (n >= EIGHT && aligned_eight(p)) {
        if (sizeof(T) == 1) {
            *reinterpret_cast<uint2 *>(p) = make_uint2(joined(x), joined(x + WORD));
        } else {
#pragma unroll
            for (int i = 0; i < EIGHT; i += 4 * WORD)
                *reinterpret_cast<uint4 *>(p + i) =
                    make_uint4(joined(x + i), joined(x + i + WORD), joined(x + i + 2 * WORD), joined(x + i + 3 * WORD));
        }
    } else {
#pragma unroll
        for (int i = 0; i < EIGHT; i++)
            if (i < n) p[i] = x[i];
    }
}

/* How many of eight columns from `col` on are there. */
__device__ __forceinline__ int eight_or_fewer(int64_t col, int64_t cols) { return (int)(cols - col < EIGHT ? cols - col : EIGHT); }

}  // namespace tp

#endif
