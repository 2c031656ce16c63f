/* Element by element: conversions, codes of 4 bits, the first value that is not finite. */
#ifndef TP_CUDA_QUANTIZE_ELEMENTS_CUH
#define TP_CUDA_QUANTIZE_ELEMENTS_CUH

#include "cuda/quantize/rows.cuh"

namespace tp {
namespace {

/* Elements that a thread takes at a time. */
enum { EIGHT = 8 };

template <tp_dtype FROM> __device__ float exact_element(const Chunk<FROM> &x, int k) {
    if (FROM == TP_F32) return x[k];
    const uint16_t half = (uint16_t)(x.words[k / 2 % 4] >> k % 2 * 16);
    return FROM == TP_F16 ? tp_f32_of_f16(half) : tp_f32_of_bf16(half);
}

template <tp_dtype TO> __device__ uint32_t bits_of(float x) {
    return TO == TP_F32 ? tp_bits(x) : TO == TP_F16 ? tp_f16_of_f32(x) : tp_bf16_of_f32(x);
}

/* Elements [begin, end). */
template <tp_dtype FROM, tp_dtype TO> TP_KERNEL(THREADS) convert_elements(const char *in, char *out, int64_t begin, int64_t end) {
    enum { CHUNKS = EIGHT / Chunk<FROM>::COUNT, SIZE = Chunk<TO>::SIZE, WORDS = EIGHT * SIZE / 4 };
    const int64_t step = (int64_t)gridDim.x * THREADS * EIGHT;
    for (int64_t i = begin + ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EIGHT; i < end; i += step) {
        uint32_t words[WORDS] = {};
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            Chunk<FROM> x;
            x.load(in, i + c * Chunk<FROM>::COUNT, end);
#pragma unroll
            for (int k = 0; k < Chunk<FROM>::COUNT; k++) {
                const int at = c * Chunk<FROM>::COUNT + k;
                const uint32_t bits = bits_of<TO>(exact_element(x, k));
                words[at * SIZE / 4] |= SIZE == 4 ? bits : bits << at % 2 * 16;
            }
        }
        char *to = out + i * SIZE;
        if (i + EIGHT <= end && (uintptr_t)to % 16 == 0) {
#pragma unroll
            for (int w = 0; w < WORDS; w += 4)
                reinterpret_cast<uint4 *>(to)[w / 4] = make_uint4(words[w], words[w + 1], words[w + 2], words[w + 3]);
        } else {
#pragma unroll
            for (int k = 0; k < EIGHT; k++) {
                if (i + k >= end) continue;
                if (SIZE == 4)
                    reinterpret_cast<uint32_t *>(to)[k] = words[k % WORDS];
                else
                    reinterpret_cast<uint16_t *>(to)[k] = (uint16_t)(words[k / 2] >> k % 2 * 16);
            }
        }
    }
}

/* Bytes [begin, end) of packed codes. */
TP_KERNEL(THREADS) pack_pairs(const uint8_t *codes, uint8_t *packed, int64_t begin, int64_t end) {
    const int64_t step = (int64_t)gridDim.x * THREADS * EIGHT;
    for (int64_t i = begin + ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EIGHT; i < end; i += step) {
        const uint8_t *from = codes + 2 * i;
        if (i + EIGHT <= end && (uintptr_t)from % 16 == 0 && (uintptr_t)(packed + i) % 8 == 0) {
            const uint4 v = *reinterpret_cast<const uint4 *>(from);
            const Codes<16> run = {{v.x, v.y, v.z, v.w}};
            run.store(packed, 2 * i, 16, true);
        } else {
            for (int64_t k = i; k < smaller(i + EIGHT, end); k++) packed[k] = (uint8_t)((codes[2 * k] & 15) | codes[2 * k + 1] << 4);
        }
    }
}

TP_KERNEL(THREADS) unpack_pairs(tp_dtype type, const uint8_t *packed, uint8_t *codes, int64_t begin, int64_t end) {
    const int64_t step = (int64_t)gridDim.x * THREADS * EIGHT;
    for (int64_t i = begin + ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EIGHT; i < end; i += step) {
        uint8_t *to = codes + 2 * i;
        if (i + EIGHT <= end && (uintptr_t)(packed + i) % 8 == 0 && (uintptr_t)to % 16 == 0) {
            const uint2 v = *reinterpret_cast<const uint2 *>(packed + i);
            Codes<16> run;
#pragma unroll
            for (int k = 0; k < 16; k++) {
                const uint32_t nibble = (k < 8 ? v.x : v.y) >> k % 8 * 4 & 15;
                run.set(k, type == TP_I4 ? (nibble ^ 8) - 8 : nibble);
            }
            run.store(codes, 2 * i, 16, false);
        } else {
            for (int64_t k = 2 * i; k < 2 * smaller(i + EIGHT, end); k++) codes[k] = tp_nibble(type, packed, k);
        }
    }
}

/* *first, if it is larger, becomes the number of the first value that is not finite, row by row. */
template <tp_dtype TYPE> TP_KERNEL(THREADS) find_in_rows(Job job, int64_t begin, int64_t end, unsigned long long *first) {
    const tp_plan &p = job.plan;
    const int64_t chunks = pieces_of(p.cols, Chunk<TYPE>::COUNT), count = (end - begin) * chunks;
    for (int64_t task = (int64_t)blockIdx.x * THREADS + threadIdx.x; task < count; task += (int64_t)gridDim.x * THREADS) {
        int64_t c;
        const int64_t row = begin + divide(task, chunks, &c), i = c * Chunk<TYPE>::COUNT;
        Chunk<TYPE> x;
        x.load(job.in + row * p.in_stride * Chunk<TYPE>::SIZE, i, p.cols);
        int found = -1;
#pragma unroll
        for (int k = Chunk<TYPE>::COUNT - 1; k >= 0; k--)
            if (!tp_is_finite(x[k])) found = k;
        if (found >= 0) atomicMin(first, (unsigned long long)(row * p.cols + i + found));
    }
}

}  // namespace
}  // namespace tp

#endif
