/* Codes of a matrix, and what codes stand for. A block takes a tile: rows of one group, which has one table. */
#ifndef TP_CUDA_CODEBOOK_CODES_CUH
#define TP_CUDA_CODEBOOK_CODES_CUH

#include "codebook/scalar.h"
#include "cuda/rows.cuh"
#include "tensorpress/codebook.h"

namespace tp {

enum { CODE_THREADS = 256, CODE_TILE = 8192, TABLE_FLOATS = 4096, FOUND_FORMAT = 1 };

/* Rows [begin, end) of a matrix in tiles, each of some rows of a group, or of a part of it at the range's ends. */
struct Tiles {
    int64_t begin, end, rows, cols, group_rows, group_cols, tile_rows, down, across, first, count;
};

inline Tiles tiles_over(const tp_codebook &s, int64_t begin, int64_t end) {
    Tiles t = {begin, end, s.rows, s.cols, s.group_rows, s.group_cols, 0, 0, 0, 0, 0};
    const int64_t high = s.group_rows < s.rows ? s.group_rows : s.rows, wide = s.group_cols < s.cols ? s.group_cols : s.cols;
    t.tile_rows = CODE_TILE / wide < 1 ? 1 : CODE_TILE / wide < high ? CODE_TILE / wide : high;
    t.down = (high + t.tile_rows - 1) / t.tile_rows;
    t.across = (s.cols + s.group_cols - 1) / s.group_cols;
    t.first = begin / s.group_rows * t.down + begin % s.group_rows / t.tile_rows;
    t.count = (end - 1) / s.group_rows * t.down + (end - 1) % s.group_rows / t.tile_rows + 1 - t.first;
    return t;
}

/* body(group, first row, rows, first column, columns) for each tile of this block. */
template <class Body> __device__ __forceinline__ void for_tiles(const Tiles &t, Body body) {
    for (int64_t i = blockIdx.x; i < t.count * t.across; i += gridDim.x) {
        const int64_t strip = t.first + i / t.across, a = i % t.across, band = strip / t.down;
        const int64_t from = band * t.group_rows + strip % t.down * t.tile_rows, row = from > t.begin ? from : t.begin;
        int64_t last = from + t.tile_rows, of = (band + 1) * t.group_rows;
        last = last < of ? last : of;
        last = last < t.end ? last : t.end;
        const int64_t col = a * t.group_cols, left = t.cols - col;
        body(band * t.across + a, row, last - row, col, left < t.group_cols ? left : t.group_cols);
    }
}

/* The row of element i of a tile: where there is more than one, their elements are few. */
__device__ __forceinline__ int64_t row_of(int64_t i, int64_t rows, int64_t cols) { return rows == 1 ? 0 : (uint32_t)i / (uint32_t)cols; }

template <tp_dtype TYPE, class T> __device__ __forceinline__ float as_f32(T x) {
    return TYPE == TP_F32 ? tp_float((uint32_t)x) : TYPE == TP_F16 ? tp_f32_of_f16((uint16_t)x) : tp_f32_of_bf16((uint16_t)x);
}

/* A node of the tree of thresholds between n ascending entries, as the processor has it. */
__device__ __forceinline__ float node_of(const float *entries, int64_t n, int32_t bits, int32_t node) {
    const int32_t level = 31 - __clz(node);
    int64_t at = ((2 * ((int64_t)node - (1 << level)) + 1) << (bits - 1 - level)) - 1;
    while (at + 1 < n && !(entries[at] < entries[at + 1])) at++;
    return at + 1 < n ? tp_threshold(entries[at], entries[at + 1]) : INFINITY;
}

/* T are the bits of an element. */
template <tp_dtype TYPE, class T>
TP_KERNEL(CODE_THREADS) assign_numbers(Tiles t, int32_t bits, bool zero, Rows<const T> in, const float *tables, Rows<uint8_t> codes) {
    TP_SHARED(float, tree, [256]);
    for_tiles(t, [&](int64_t group, int64_t row, int64_t rows, int64_t col, int64_t cols) {
        const int64_t entries = INT64_C(1) << bits;
        __syncthreads();
        if (threadIdx.x > 0 && threadIdx.x < entries) tree[threadIdx.x] = node_of(tables + group * entries + zero, entries - zero, bits, (int32_t)threadIdx.x);
        __syncthreads();
        for (int64_t i = threadIdx.x; i < rows * cols; i += CODE_THREADS) {
            const int64_t r = row_of(i, rows, cols), c = i - r * cols;
            const float x = as_f32<TYPE>(*in.at(row + r, col + c));
            int32_t node = 1;
            for (int32_t level = 0; level < bits; level++) node = 2 * node + (x > tree[node]);
            const int32_t code = node - (1 << bits);
            *codes.at(row + r, col + c) = (uint8_t)(!zero ? code : x == 0 ? 0 : code + 1);
        }
    });
}

/* Vectors that a thread compares with each entry that it has read. */
template <int D> constexpr int COMPARED = D == 8 ? 2 : 4;

/* The first of the nearest entries to each vector, and how far it is, by all threads of a block; `part` is shared. */
template <int D, int VECTORS>
__device__ __forceinline__ void find_nearest(const float (&x)[VECTORS][D], const float *table, int64_t floats, float *part, float (&best)[VECTORS],
                                             int32_t (&index)[VECTORS]) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        best[v] = INFINITY;
        index[v] = 0;
    }
    for (int64_t first = 0; first < floats; first += TABLE_FLOATS) {
        const int64_t left = floats - first;
        const int n = left < TABLE_FLOATS ? (int)left : (int)TABLE_FLOATS;
        __syncthreads();
        for (int i = threadIdx.x; i < n; i += CODE_THREADS) part[i] = table[first + i];
        __syncthreads();
#pragma unroll 2
        for (int e = 0; e < n / D; e++) {
            float entry[D];
#pragma unroll
            for (int d = 0; d < D; d++) entry[d] = part[e * D + d];
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                float sum = 0;
#pragma unroll
                for (int d = 0; d < D; d++) {
                    const float off = x[v][d] - entry[d];
                    sum = fmaf(off, off, sum);
                }
                if (sum < best[v]) {
                    best[v] = sum;
                    index[v] = (int32_t)(first / D) + e;
                }
            }
        }
    }
}

template <int D, tp_dtype TYPE, class T, class Code>
TP_KERNEL(CODE_THREADS) assign_vectors(Tiles t, int32_t bits, Rows<const T> in, const float *tables, Rows<Code> codes) {
    constexpr int VECTORS = COMPARED<D>;
    TP_SHARED(float, table, [TABLE_FLOATS]);
    for_tiles(t, [&](int64_t group, int64_t row, int64_t rows, int64_t col, int64_t cols) {
        const int64_t floats = (INT64_C(1) << bits) * D, line = cols / D;
        for (int64_t base = 0; base < rows * line; base += CODE_THREADS * VECTORS) {
            float x[VECTORS][D], best[VECTORS];
            int32_t index[VECTORS];
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                const int64_t i = base + v * CODE_THREADS + threadIdx.x;
                const bool here = i < rows * line;
                const int64_t r = here ? row_of(i, rows, line) : 0, c = here ? i - r * line : 0;
#pragma unroll
                for (int d = 0; d < D; d++) x[v][d] = as_f32<TYPE>(*in.at(row + r, col + c * D + d));
            }
            find_nearest<D, VECTORS>(x, tables + group * floats, floats, table, best, index);
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                const int64_t i = base + v * CODE_THREADS + threadIdx.x;
                if (i >= rows * line) continue;
                const int64_t r = row_of(i, rows, line);
                *codes.at(row + r, col / D + i - r * line) = (Code)index[v];
            }
        }
    });
}

/* An element to a thread. */
template <int D, class Code>
TP_KERNEL(CODE_THREADS) decode_codes(Tiles t, int32_t bits, Rows<const Code> codes, const float *tables, Rows<float> out, unsigned *flags) {
    bool wrong = false;
    for_tiles(t, [&](int64_t group, int64_t row, int64_t rows, int64_t col, int64_t cols) {
        const float *const table = tables + (group << bits) * D;
        for (int64_t i = threadIdx.x; i < rows * cols; i += CODE_THREADS) {
            const int64_t r = row_of(i, rows, cols), c = i - r * cols;
            const uint32_t code = *codes.at(row + r, (col + c) / D);
            if (code >> bits) wrong = true;
            else *out.at(row + r, col + c) = table[code * D + (uint32_t)(c % D)];
        }
    });
    if (wrong) atomicOr(flags, FOUND_FORMAT);
}

}  // namespace tp

#endif
