/* Masks: of a threshold, of groups, of blocks; and what they leave of a matrix. A thread has eight columns, which are a byte. */
#ifndef TP_CUDA_PRUNE_MASKS_CUH
#define TP_CUDA_PRUNE_MASKS_CUH

#include "cuda/prune/scores.cuh"

namespace tp {

/* The lowest n bits of a byte. */
__device__ __forceinline__ unsigned low_bits(int64_t n) { return n >= EIGHT ? 0xffu : n <= 0 ? 0u : (1u << n) - 1; }

/* Kept are elements with a larger key, and those with this key before (tie_row, tie_col), which lies in the matrix or right behind it. */
template <class K>
TP_KERNEL(ROW_THREADS) keep_from_key(Rows<const typename K::Bits> in, Walk w, uint32_t key, int64_t tie_row, int64_t tie_col,
                                     Rows<uint8_t> mask) {
    walk(w, [&](int64_t row, int64_t unit) {
        typename K::Bits x[EIGHT];
        const int n = eight_or_fewer(unit * EIGHT, in.cols);
        load_eight(in.at(row, unit * EIGHT), n, x);
        unsigned larger = 0, equal = 0;
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            larger |= (unsigned)(K::key(x[i]) > key) << i;
            equal |= (unsigned)(K::key(x[i]) == key) << i;
        }
        const int64_t ties = row < tie_row ? EIGHT : row == tie_row ? tie_col - unit * EIGHT : 0;
        *mask.at(row, unit) = (uint8_t)((larger | (equal & low_bits(ties))) & low_bits(n));
    });
}

/*
 * N:M. Of a group of m keys, [i * step] for i = 0 .. m - 1, sets bit i for the n that go first: an element is passed by each larger
 * one, and by equal ones before it.
 */
template <int m, int step> __device__ __forceinline__ unsigned first_of_group(const uint32_t *keys, int n) {
    int before[m] = {};
    unsigned kept = 0;
#pragma unroll
    for (int j = 1; j < m; j++) {
#pragma unroll
        for (int i = 0; i < j; i++) {
            const bool later_first = keys[j * step] > keys[i * step];
            before[i] += later_first;
            before[j] += !later_first;
        }
    }
#pragma unroll
    for (int i = 0; i < m; i++) kept |= (unsigned)(before[i] < n) << i;
    return kept;
}

/* Keys of eight columns; of those that are not there the lowest, which go last. */
template <class K>
__device__ __forceinline__ void load_keys(const typename K::Bits *from, int n, uint32_t infinity, uint32_t *keys, bool *nan) {
    typename K::Bits x[EIGHT];
    load_eight(from, n, x);
#pragma unroll
    for (int i = 0; i < EIGHT; i++) {
        keys[i] = i < n ? K::key(x[i]) : 0;
        *nan |= K::is_nan(x[i], infinity);
    }
}

/* Groups along rows, of 1, 2, 4 or 8. */
template <class K, int m>
TP_KERNEL(ROW_THREADS) keep_in_row_groups(Rows<const typename K::Bits> in, Walk w, int n, uint32_t infinity, Rows<uint8_t> mask,
                                          unsigned *flags) {
    bool nan = false;
    walk(w, [&](int64_t row, int64_t unit) {
        uint32_t keys[EIGHT];
        const int there = eight_or_fewer(unit * EIGHT, in.cols);
        load_keys<K>(in.at(row, unit * EIGHT), there, infinity, keys, &nan);
        unsigned kept = 0;
#pragma unroll
        for (int i = 0; i < EIGHT; i += m) kept |= first_of_group<m, 1>(keys + i, n) << i;
        *mask.at(row, unit) = (uint8_t)(kept & low_bits(there));
    });
    if (nan) atomicOr(flags, FOUND_NAN);
}

/* Groups down columns, of 1, 2, 4 or 8; the walk goes over groups of rows, of `rows` rows in all. */
template <class K, int m>
TP_KERNEL(ROW_THREADS) keep_in_column_groups(Rows<const typename K::Bits> in, Walk w, int64_t rows, int n, uint32_t infinity,
                                             Rows<uint8_t> mask, unsigned *flags) {
    bool nan = false;
    walk(w, [&](int64_t group, int64_t unit) {
        uint32_t keys[m * EIGHT];
        unsigned kept[EIGHT];
        const int there = eight_or_fewer(unit * EIGHT, in.cols);
#pragma unroll
        for (int j = 0; j < m; j++) {
            const int64_t row = group * m + j;
            load_keys<K>(in.at(row, unit * EIGHT), row < rows ? there : 0, infinity, keys + j * EIGHT, &nan);
        }
#pragma unroll
        for (int i = 0; i < EIGHT; i++) kept[i] = first_of_group<m, EIGHT>(keys + i, n);
#pragma unroll
        for (int j = 0; j < m; j++) {
            unsigned byte = 0;
#pragma unroll
            for (int i = 0; i < EIGHT; i++) byte |= (kept[i] >> j & 1) << i;
            const int64_t row = group * m + j;
            if (row < rows) *mask.at(row, unit) = (uint8_t)(byte & low_bits(there));
        }
    });
    if (nan) atomicOr(flags, FOUND_NAN);
}

/* i % m for m <= 16, by divisions of 32 bits. */
__device__ __forceinline__ int small_remainder(int64_t i, unsigned m) {
    return (int)(((uint32_t)(i >> 32) % m * (UINT32_MAX % m + 1) + (uint32_t)i % m) % m);
}

/* Groups of any size, one element after the other: what they are compared with comes from the cache. */
template <class K, bool COLUMNS>
TP_KERNEL(ROW_THREADS) keep_in_groups(Rows<const typename K::Bits> in, Walk w, int64_t rows, int n, int m, uint32_t infinity,
                                      Rows<uint8_t> mask, unsigned *flags) {
    const int64_t step = COLUMNS ? in.stride : 1;
    bool nan = false;
    walk(w, [&](int64_t row, int64_t unit) {
        unsigned byte = 0;
        const int there = eight_or_fewer(unit * EIGHT, in.cols);
#pragma unroll 1
        for (int i = 0; i < there; i++) {
            const int64_t col = unit * EIGHT + i, at = COLUMNS ? row : col, left = (COLUMNS ? rows : in.cols) - at;
            const typename K::Bits *const element = in.at(row, col);
            const int own = small_remainder(at, (unsigned)m), size = left < m - own ? own + (int)left : m;
            const uint32_t key = K::key(*element);
            int before = 0;
#pragma unroll 1
            for (int j = 0; j < size; j++) {
                const uint32_t other = K::key(element[(j - own) * step]);
                before += other > key || (other == key && j < own);
            }
            nan |= K::is_nan(*element, infinity);
            byte |= (unsigned)(before < n) << i;
        }
        *mask.at(row, unit) = (uint8_t)byte;
    });
    if (nan) atomicOr(flags, FOUND_NAN);
}

/* The bit of its block for each element; `Index` holds a column. */
template <class Index>
TP_KERNEL(ROW_THREADS) expand_blocks(Walk w, Index cols, int64_t block_rows, Index block_cols, int64_t first_blocks, const uint8_t *block_mask,
                                     int64_t block_stride, Rows<uint8_t> mask) {
    walk(w, [&](int64_t row, int64_t unit) {
        const uint8_t *const blocks = block_mask + (row / block_rows - first_blocks) * block_stride;
        const int n = eight_or_fewer(unit * EIGHT, cols);
        Index block = (Index)(unit * EIGHT) / block_cols;
        Index left = block_cols - (Index)(unit * EIGHT) % block_cols; /* columns of this block */
        unsigned byte = 0;
        for (int i = 0; i < n; i++) {
            byte |= (unsigned)(blocks[block / 8] >> block % 8 & 1) << i;
            if (--left == 0) {
                block++;
                left = block_cols;
            }
        }
        *mask.at(row, unit) = (uint8_t)byte;
    });
}

/* Elements where the mask is set. `in` may be `out`: a thread has read what it writes. */
template <class T>
TP_KERNEL(ROW_THREADS) apply_mask(Rows<const T> in, Walk w, Rows<const uint8_t> mask, Rows<T> out) {
    walk(w, [&](int64_t row, int64_t unit) {
        T x[EIGHT];
        const int n = eight_or_fewer(unit * EIGHT, in.cols);
        const unsigned kept = *mask.at(row, unit);
        load_eight(in.at(row, unit * EIGHT), n, x);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) x[i] = kept >> i & 1 ? x[i] : (T)0;
        store_eight(out.at(row, unit * EIGHT), n, x);
    });
}

}  // namespace tp

#endif
