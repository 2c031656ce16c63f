/* Looking for the k-th largest of all elements: counts of digits, counts around a key, the place of an element. */
#ifndef TP_CUDA_PRUNE_SELECT_CUH
#define TP_CUDA_PRUNE_SELECT_CUH

#include "cuda/prune/scores.cuh"

namespace tp {

/*
 * One digit of a radix selection (Alabi et al. 2012). Each block counts in shared memory: atomics there that add 1 to the same
 * counter are one operation for a warp, so that elements that are alike cost no more than others. 32 bits are enough for the share
 * of one block, see grid_of.
 */
template <class K>
TP_KERNEL(ROW_THREADS) count_digits(Rows<const typename K::Bits> in, Walk w, int shift, uint32_t digits, uint32_t higher, uint32_t prefix,
                                    uint32_t infinity, unsigned long long *counts, unsigned *flags) {
    TP_SHARED(unsigned, table, [TP_PRUNE_COUNTS]);
    for (int d = threadIdx.x; d < TP_PRUNE_COUNTS; d += ROW_THREADS) table[d] = 0;
    __syncthreads();
    bool nan = false;
    walk(w, [&](int64_t row, int64_t unit) {
        typename K::Bits x[EIGHT];
        const int n = eight_or_fewer(unit * EIGHT, in.cols);
        load_eight(in.at(row, unit * EIGHT), n, x);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            const uint32_t key = K::key(x[i]);
            nan |= K::is_nan(x[i], infinity);
            if (i < n && ((key ^ prefix) & higher) == 0) atomicAdd(&table[key >> shift & digits], 1u);
        }
    });
    if (nan) atomicOr(flags, FOUND_NAN);
    __syncthreads();
    for (int d = threadIdx.x; d < TP_PRUNE_COUNTS; d += ROW_THREADS)
        if (table[d]) atomicAdd(&counts[d], (unsigned long long)table[d]);
}

template <class K>
TP_KERNEL(ROW_THREADS) count_around(Rows<const typename K::Bits> in, Walk w, uint32_t key, unsigned long long *larger,
                                    unsigned long long *equal) {
    TP_SHARED(unsigned, sums, [2]);
    if (threadIdx.x < 2) sums[threadIdx.x] = 0;
    __syncthreads();
    unsigned more = 0, same = 0;
    walk(w, [&](int64_t row, int64_t unit) {
        typename K::Bits x[EIGHT];
        const int n = eight_or_fewer(unit * EIGHT, in.cols);
        load_eight(in.at(row, unit * EIGHT), n, x);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            more += i < n && K::key(x[i]) > key;
            same += i < n && K::key(x[i]) == key;
        }
    });
    more = warp_sum(more);
    same = warp_sum(same);
    if (lane_of() == 0) {
        atomicAdd(&sums[0], more);
        atomicAdd(&sums[1], same);
    }
    __syncthreads();
    if (threadIdx.x == 0 && sums[0]) atomicAdd(larger, (unsigned long long)sums[0]);
    if (threadIdx.x == 1 && sums[1]) atomicAdd(equal, (unsigned long long)sums[1]);
}

/* ---- the place of the element with `skip` equal ones before it ---- */

/* Elements of a row that are counted together. */
enum { TILE = 16384, TILE_THREAD = TILE / ROW_THREADS };

/* From piece to piece: equal elements still to pass over, and the tile that has the one in question, or -1. */
struct Search {
    unsigned long long skip;
    int64_t tile;
    int32_t ended;
};

template <class K> __device__ __forceinline__ bool equal_at(const Rows<const typename K::Bits> &in, int64_t row, int64_t col, uint32_t key) {
    return col < in.cols && K::key(*in.at(row, col)) == key;
}

/* Equal elements of each tile; tile t of row begin + t / across. */
template <class K>
TP_KERNEL(ROW_THREADS) count_in_tiles(Rows<const typename K::Bits> in, int64_t begin, int64_t across, int64_t tiles, uint32_t key,
                                      bool first_piece, const Search *search, unsigned *counts) {
    TP_SHARED(unsigned, sum, [1]);
    if (!first_piece && search->ended) return;
    for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        if (threadIdx.x == 0) sum[0] = 0;
        __syncthreads();
        const int64_t row = begin + t / across, first = t % across * TILE + threadIdx.x;
        unsigned n = 0;
#pragma unroll 8
        for (int i = 0; i < TILE_THREAD; i++) n += equal_at<K>(in, row, first + i * ROW_THREADS, key);
        n = warp_sum(n);
        if (lane_of() == 0) atomicAdd(&sum[0], n);
        __syncthreads();
        if (threadIdx.x == 0) counts[t] = sum[0];
    }
}

/* The tile in which the element is. One block, each thread with tiles that follow one another. */
TP_KERNEL(ROW_THREADS) pick_tile(int64_t tiles, const unsigned *counts, bool first_piece, unsigned long long first_skip, Search *search) {
    TP_SHARED(unsigned long long, sums, [ROW_THREADS / TP_WARP]);
    const bool ended = !first_piece && search->ended;
    const unsigned long long skip = first_piece ? first_skip : search->skip;
    const int64_t share = (tiles + ROW_THREADS - 1) / ROW_THREADS, first = threadIdx.x * share;
    const int64_t last = first + share < tiles ? first + share : tiles;
    unsigned long long own = 0, all;
    if (!ended)
        for (int64_t t = first; t < last; t++) own += counts[t];
    unsigned long long before = block_scan<ROW_THREADS>(own, sums, &all); /* nobody reads *search behind its barrier */
    if (ended || skip >= all) {
        if (threadIdx.x == 0) *search = {skip - all, -1, ended};
        return;
    }
    if (skip < before || skip >= before + own) return;
    int64_t t = first;
    while (skip >= before + counts[t]) before += counts[t++];
    *search = {skip - before, t, 1};
}

/* The element in its tile. One block; each thread looks at elements that follow one another. */
template <class K>
TP_KERNEL(ROW_THREADS) find_in_tile(Rows<const typename K::Bits> in, int64_t begin, int64_t across, int64_t cols, uint32_t key,
                                    const Search *search, int64_t *row, int64_t *col) {
    TP_SHARED(unsigned, sums, [ROW_THREADS / TP_WARP]);
    const int64_t tile = search->tile;
    if (tile < 0) return;
    const unsigned skip = (unsigned)search->skip;
    const int64_t r = begin + tile / across, first = tile % across * TILE + threadIdx.x * TILE_THREAD;
    unsigned own = 0, all;
    for (int i = 0; i < TILE_THREAD; i++) own += equal_at<K>(in, r, first + i, key);
    unsigned before = block_scan<ROW_THREADS>(own, sums, &all);
    if (skip < before || skip >= before + own) return;
    for (int i = 0; i < TILE_THREAD; i++) {
        if (!equal_at<K>(in, r, first + i, key)) continue;
        if (before++ < skip) continue;
        /* Rows without gaps were taken as one. */
        *row = r + (first + i) / cols;
        *col = (first + i) % cols;
        return;
    }
}

}  // namespace tp

#endif
