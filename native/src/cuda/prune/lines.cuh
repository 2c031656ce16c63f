/* The k largest of each row or column. */
#ifndef TP_CUDA_PRUNE_LINES_CUH
#define TP_CUDA_PRUNE_LINES_CUH

#include "cuda/prune/scores.cuh"

namespace tp {

/*
 * A block chooses in `width` lines side by side: one row, or as many columns as make up the 32 bytes in which memory is read. A line
 * has fewer than 2^32 elements. Digits have 8 bits, so that a line's counters are few and can be added up by a warp; from two to four
 * of them make up the key that the type needs.
 */
enum { LINE_THREADS = 256, LINE_WARPS = LINE_THREADS / TP_WARP, LINE_DIGITS = 256, LINE_DIGIT_BITS = 8, LINE_BATCH = 8 };

/*
 * Keys stay in shared memory if a multiprocessor has room for two blocks then: what it waits for has to be on the way while it waits.
 * Longer lines are read once for each digit. Every device from compute capability 8.0 on lets a block have so much.
 */
enum { LINE_SHARED_BYTES = 99 * 1024 };

template <class T, bool COLUMNS> struct Panel {
    enum {
        WIDTH = COLUMNS ? 32 / (int)sizeof(T) : 1,
        STEP = LINE_THREADS / WIDTH,
        CACHE_BYTES = LINE_SHARED_BYTES - (LINE_DIGITS + LINE_WARPS + 8) * WIDTH * 4 /* the counters, and what else there is */
    };
};

/* Of the counters of one digit, the highest digits first, the one with the k-th element; by a warp. */
__device__ __forceinline__ void pick_digit(const unsigned *counters, int step, unsigned *k, unsigned *equal, unsigned *digit) {
    enum { SHARE = LINE_DIGITS / TP_WARP };
    const int top = LINE_DIGITS - 1 - (int)lane_of() * SHARE;
    unsigned own = 0;
#pragma unroll
    for (int i = 0; i < SHARE; i++) own += counters[(top - i) * step];
    const unsigned wanted = *k, before = warp_scan(own) - own;
    __syncwarp();
    if (wanted <= before || wanted > before + own) return;
    unsigned left = wanted - before;
    int d = top;
    while (left > counters[d * step]) left -= counters[d-- * step];
    *k = left;
    *equal = counters[d * step];
    *digit = (unsigned)d;
}

/* Lines [begin, end). Where `cached`, the dynamic shared memory holds short keys of all elements, those of a place side by side. */
template <class K, bool COLUMNS, bool cached>
TP_KERNEL(LINE_THREADS) keep_largest(Rows<const typename K::Bits> in, int64_t begin, int64_t end, int64_t length, unsigned k,
                                     uint32_t infinity, Rows<uint8_t> mask, unsigned *flags) {
    using T = typename K::Bits;
    enum { WIDTH = Panel<T, COLUMNS>::WIDTH, STEP = Panel<T, COLUMNS>::STEP };
    TP_DYNAMIC_SHARED(T, cache);
    TP_SHARED(unsigned, counters, [LINE_DIGITS * WIDTH]);
    TP_SHARED(unsigned, places, [LINE_WARPS][WIDTH]); /* ties of a warp */
    TP_SHARED(unsigned, wanted, [WIDTH]);             /* ties to keep */
    TP_SHARED(unsigned, equal, [WIDTH]);              /* ties that there are */
    TP_SHARED(unsigned, digit, [WIDTH]);
    TP_SHARED(T, prefix, [WIDTH]);
    const int w = (int)threadIdx.x % WIDTH, warp = (int)threadIdx.x / TP_WARP;
    const int64_t start = (int64_t)threadIdx.x / WIDTH;
    bool nan = false;
    for (int64_t line = begin + (int64_t)blockIdx.x * WIDTH; line < end; line += (int64_t)gridDim.x * WIDTH) {
        const bool there = line + w < end;
        const T *const from = COLUMNS ? in.at(0, line + w) : in.at(line, 0);
        const int64_t next = COLUMNS ? in.stride : 1;
        if (threadIdx.x < WIDTH) {
            prefix[w] = k ? 0 : (T)~(T)0; /* none is larger, and no tie is kept */
            wanted[w] = k;
            equal[w] = k;
        }
        T higher = 0;
        for (int shift = 8 * (int)sizeof(T) - LINE_DIGIT_BITS; shift >= 0; shift -= LINE_DIGIT_BITS) {
            const bool first = higher == 0;
            for (int i = threadIdx.x; i < LINE_DIGITS * WIDTH; i += LINE_THREADS) counters[i] = 0;
            __syncthreads();
            const T known = prefix[w];
            for (int64_t i0 = start; i0 < length; i0 += LINE_BATCH * STEP) {
                T x[LINE_BATCH] = {};
#pragma unroll
                for (int u = 0; u < LINE_BATCH; u++) {
                    const int64_t i = i0 + u * STEP;
                    if (!there || i >= length) continue;
                    x[u] = first || !cached ? from[i * next] : cache[i * WIDTH + w];
                }
#pragma unroll
                for (int u = 0; u < LINE_BATCH; u++) {
                    const int64_t i = i0 + u * STEP;
                    if (!there || i >= length) continue;
                    if (first) nan |= K::is_nan(x[u], infinity);
                    if (first || !cached) x[u] = K::short_key(x[u]);
                    if (first && cached) cache[i * WIDTH + w] = x[u];
                    if (((x[u] ^ known) & higher) == 0) atomicAdd(&counters[(x[u] >> shift & (LINE_DIGITS - 1)) * WIDTH + w], 1u);
                }
            }
            __syncthreads();
            if (k == 0) break;
            for (int v = warp; v < WIDTH; v += LINE_WARPS) {
                pick_digit(counters + v, WIDTH, &wanted[v], &equal[v], &digit[v]);
                __syncwarp();
                if (lane_of() == 0 && line + v < end) prefix[v] = (T)(prefix[v] | digit[v] << shift);
            }
            higher = (T)(higher | (LINE_DIGITS - 1) << shift);
            __syncthreads();
        }
        /* Which of the ties go first has to be known only where some are kept and some are not. */
        const bool ranked = __syncthreads_or(there && wanted[w] < equal[w]);
        const T threshold = prefix[w];
        const unsigned keep_ties = wanted[w];
        const unsigned line_lanes = TP_ALL_LANES / ((1u << WIDTH) - 1) << w; /* those with elements of this line */
        unsigned before = 0;
        for (int64_t i0 = 0; i0 < length; i0 += STEP) {
            const int64_t i = i0 + start;
            const bool inside = there && i < length;
            T x = 0;
            if (inside) x = cached ? cache[i * WIDTH + w] : K::short_key(from[i * next]);
            const bool tie = inside && x == threshold && keep_ties > 0;
            bool keep = inside && x > threshold;
            if (!ranked) {
                keep |= tie;
            } else {
                const unsigned ties = __ballot_sync(TP_ALL_LANES, tie) & line_lanes;
                if ((int)lane_of() < WIDTH) places[warp][w] = __popc(ties);
                __syncthreads();
                unsigned rank = before + __popc(ties & lanes_before());
                for (int v = 0; v < LINE_WARPS; v++) {
                    if (v < warp) rank += places[v][w];
                    before += places[v][w];
                }
                keep |= tie && rank < keep_ties;
                __syncthreads();
            }
            /* A byte is eight columns of a row: those of one line, or of lines side by side. */
            const unsigned kept = __ballot_sync(TP_ALL_LANES, keep);
            if (lane_of() < 4) {
                const int64_t at = i0 + warp * (TP_WARP / WIDTH);
                const int64_t row = COLUMNS ? at + (int)lane_of() * 8 / WIDTH : line;
                const int64_t col = COLUMNS ? line + (int)lane_of() * 8 % WIDTH : at + lane_of() * 8;
                if (row < (COLUMNS ? length : end) && col < (COLUMNS ? end : length))
                    *mask.at(row, col / 8) = (uint8_t)(kept >> lane_of() * 8);
            }
        }
        __syncthreads();
    }
    if (nan) atomicOr(flags, FOUND_NAN);
}

}  // namespace tp

#endif
