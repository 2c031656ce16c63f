/* Whether lines are well formed. Nothing is trusted but the sizes of arrays: indices are looked at only inside of them. */
#ifndef TP_CUDA_SPARSE_CHECK_CUH
#define TP_CUDA_SPARSE_CHECK_CUH

#include "cuda/sparse/count.cuh"

namespace tp {

/* Offsets from line `line` on, and what they have to keep to. */
struct Offsets {
    const int64_t *offsets;
    int64_t line, lines, units;
    __device__ __forceinline__ bool valid(int64_t l, int64_t *from, int64_t *to) const {
        *from = offsets[l - line];
        *to = offsets[l - line + 1];
        return *from >= 0 && *from <= *to && *to <= units && (l > 0 || *from == 0) && (l < lines - 1 || *to == units);
    }
};

/* The smallest number of a line that is not well formed; -1 is larger than all. By a warp, whose lanes have found what they have. */
__device__ __forceinline__ void note_line(bool bad, int64_t line, unsigned long long *bad_line, unsigned *flags) {
    if (!__any_sync(TP_ALL_LANES, bad) || lane_of()) return;
    atomicMin(bad_line, (unsigned long long)line);
    atomicOr(flags, FOUND_MALFORMED);
}

/* Lines of units with columns below `limit`, a line to a warp. */
template <int LAYOUT>
TP_KERNEL(SPARSE_THREADS) check_columns(Offsets o, int64_t begin, int64_t end, int64_t limit, const void *indices,
                                        unsigned long long *bad_line, unsigned *flags) {
    each_line_of_warp(begin, end, [&](int64_t line) {
        int64_t from, to, last = 0;
        bool bad = !o.valid(line, &from, &to);
        for (int64_t i0 = from; !bad && i0 < to; i0 += TP_WARP) {
            const int64_t i = i0 + lane_of();
            int64_t col, before;
            if (LAYOUT == TP_SPARSE_CSR16) {
                const int64_t distance = i < to ? static_cast<const uint16_t *>(indices)[i] : 0;
                col = last + warp_scan(distance);
                before = i == from ? -1 : col - distance;
                last = __shfl_sync(TP_ALL_LANES, col, TP_WARP - 1);
            } else {
                col = i < to ? static_cast<const uint32_t *>(indices)[i] : 0;
                before = i < to && i > from ? (int64_t)static_cast<const uint32_t *>(indices)[i - 1] : -1;
            }
            bad = __any_sync(TP_ALL_LANES, i < to && (col <= before || col >= limit));
        }
        note_line(bad, line, bad_line, flags);
    });
}

/* Rows of a mask, a row to a warp. */
TP_KERNEL(SPARSE_THREADS) check_bits(Offsets o, int64_t begin, int64_t end, int64_t cols, Rows<const uint8_t> mask,
                                     unsigned long long *bad_line, unsigned *flags) {
    each_line_of_warp(begin, end, [&](int64_t row) {
        int64_t from, to;
        bool bad = !o.valid(row, &from, &to);
        unsigned n = 0;
#pragma unroll 4
        for (int64_t i = lane_of(); i < mask.cols; i += TP_WARP) {
            const unsigned byte = *mask.at(row, i);
            n += __popc(byte);
            bad |= bits_of_columns(byte, i, cols) != byte;
        }
        n = warp_sum(n);
        note_line(bad || n != to - from, row, bad_line, flags);
    });
}

/* Rows of nibbles, a row to a warp. */
TP_KERNEL(SPARSE_THREADS) check_groups(int64_t begin, int64_t end, int64_t cols, int64_t groups, Rows<const uint8_t> indices,
                                       unsigned long long *bad_line, unsigned *flags) {
    each_line_of_warp(begin, end, [&](int64_t row) {
        bool bad = false;
        for (int64_t i = lane_of(); i < indices.cols; i += TP_WARP) {
            const unsigned byte = *indices.at(row, i);
            for (int g = 0; g < 2; g++) {
                const int64_t group = 2 * i + g;
                const unsigned nibble = byte >> 4 * g & 15, first = nibble & 3, second = nibble >> 2;
                /* Of a last group of one column the second value is a filler, next to it. */
                if (group >= groups)
                    bad |= nibble != 0;
                else
                    bad |= first >= second || (group * 4 + second >= cols && nibble != 4);
            }
        }
        note_line(bad, row, bad_line, flags);
    });
}

}  // namespace tp

#endif
