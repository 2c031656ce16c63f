/*
 * rANS, an array to a block, a sequence of it to a warp: lane l has state l. Which lanes take a word of the input, and which word, a ballot tells. The
 * words that come next are in registers of the lanes, 32 in each of three, so that nobody waits for memory.
 */
#ifndef TP_CUDA_CODING_RANS_CUH
#define TP_CUDA_CODING_RANS_CUH

#include "cuda/scan.cuh"
#include "tensorpress/cuda/coding.h"

namespace tp {

/* A warp for each of the two sequences that there may be. */
enum { RANS_WARPS = 2, RANS_THREADS = 64, FOUND_FORMAT = 1 };
constexpr uint32_t LOWEST_RANS_STATE = UINT32_C(1) << 16;

/* Bytes of shared memory: frequency and start << 16 of each symbol, and the symbol of each slot. */
template <class Symbol> int64_t rans_shared_bytes(int32_t alphabet, int32_t k) { return alphabet * 4 + ((int64_t)sizeof(Symbol) << k); }

__device__ __forceinline__ uint32_t get_u16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
__device__ __forceinline__ uint32_t get_u32(const uint8_t *p) { return get_u16(p) | get_u16(p + 2) << 16; }

/* Symbols of each slot, by all threads of the block; `frequencies` sum to 2^k. */
template <class Symbol, int ALPHABET> __device__ __forceinline__ void find_slots(const uint16_t *frequencies, uint32_t *ranges, Symbol *symbols) {
    const int lane = threadIdx.x % TP_WARP, warp = threadIdx.x / TP_WARP;
    if (warp == 0) {
        uint32_t start = 0;
        for (int s0 = 0; s0 < ALPHABET; s0 += TP_WARP) {
            const uint32_t f = frequencies[s0 + lane], end = start + warp_scan(f);
            ranges[s0 + lane] = f | (end - f) << 16;
            start = __shfl_sync(TP_ALL_LANES, end, TP_WARP - 1);
        }
    }
    __syncthreads();
    for (int s = warp; s < ALPHABET; s += RANS_WARPS) {
        const uint32_t range = ranges[s];
        for (uint32_t i = lane; i < (range & 0xffff); i += TP_WARP) symbols[(range >> 16) + i] = (Symbol)s;
    }
    __syncthreads();
}

/* Decodes a sequence of n symbols, by all lanes of a warp. False if that cannot be. */
template <class Symbol>
__device__ __forceinline__ bool decode_sequence(int64_t n, const uint8_t *in, int64_t bytes, uint32_t k, const uint32_t *ranges, const Symbol *symbols,
                                                Symbol *out) {
    const unsigned lane = lane_of();
    if (bytes < 4 * TP_CODING_LANES || bytes % 2) return false;
    const int64_t words = bytes / 2 - 2 * TP_CODING_LANES;
    const auto load = [&](int64_t w) -> uint32_t { return w < words ? get_u16(in + 4 * TP_CODING_LANES + 2 * w) : 0; };
    uint32_t x = get_u32(in + 4 * lane);
    if (!__all_sync(TP_ALL_LANES, x >= LOWEST_RANS_STATE)) return false;
    uint32_t now = load(lane), next = load(TP_WARP + lane), then = load(2 * TP_WARP + lane);
    int64_t loaded = 3 * TP_WARP, taken = 0;
    unsigned at = 0; /* in `now` */
    const uint32_t mask = (UINT32_C(1) << k) - 1;
    for (int64_t i = lane; i - lane < n && taken <= words; i += TP_WARP) {
        const bool here = i < n;
        const uint32_t slot = x & mask, s = symbols[slot], range = ranges[s];
        const uint32_t state = (range & 0xffff) * (x >> k) + slot - (range >> 16);
        const bool wants = here && state < LOWEST_RANS_STATE;
        const unsigned all = __ballot_sync(TP_ALL_LANES, wants), place = at + __popc(all & lanes_before());
        const uint32_t one = __shfl_sync(TP_ALL_LANES, now, place % TP_WARP), other = __shfl_sync(TP_ALL_LANES, next, place % TP_WARP);
        if (here) {
            x = wants ? state << 16 | (place < TP_WARP ? one : other) : state;
            out[i] = (Symbol)s;
        }
        taken += __popc(all);
        at += __popc(all);
        if (at >= TP_WARP) {
            at -= TP_WARP;
            now = next;
            next = then;
            then = load(loaded + lane);
            loaded += TP_WARP;
        }
    }
    return __all_sync(TP_ALL_LANES, x == LOWEST_RANS_STATE) && taken == words;
}

template <class Symbol>
TP_KERNEL(RANS_THREADS) decode_rans(const tp_rans_array *arrays, int64_t count, const uint16_t *frequencies, const uint8_t *in, Symbol *out, unsigned *flags) {
    enum { ALPHABET = sizeof(Symbol) == 1 ? 256 : TP_CODING_ALPHABET };
    TP_DYNAMIC_SHARED(uint32_t, ranges);
    Symbol *const symbols = reinterpret_cast<Symbol *>(ranges + ALPHABET);
    const int warp = threadIdx.x / TP_WARP;
    for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
        const tp_rans_array a = arrays[i];
        __syncthreads(); /* nobody reads the tables of the last array any more */
        find_slots<Symbol, ALPHABET>(frequencies + i * ALPHABET, ranges, symbols);
        const uint8_t *from = in + a.in;
        int64_t n = a.symbols, bytes = a.bytes, before = 0;
        bool right = true;
        if (n >= TP_RANS_HALVED) {
            const int64_t half = n / 64 * 32, half_bytes = bytes < 4 ? bytes : get_u32(from);
            right = half_bytes <= bytes - 4;
            before = warp ? half : 0;
            n = warp ? n - half : half;
            from += warp ? 4 + half_bytes : 4;
            bytes = warp ? bytes - 4 - half_bytes : half_bytes;
        } else if (warp) {
            continue;
        }
        right = right && decode_sequence(n, from, bytes, (uint32_t)a.log_total, ranges, symbols, out + a.out + before);
        if (!right && lane_of() == 0) atomicOr(flags, (unsigned)FOUND_FORMAT);
    }
}

}  // namespace tp

#endif
