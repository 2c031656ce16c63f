/*
 * What all kernels of this family are made of: where the arrays of a piece are, scales, the encoder of a group, and elements and
 * codes sixteen bytes at a time. Formulas are those of quantize/scalar.h.
 */
#ifndef TP_CUDA_QUANTIZE_JOB_CUH
#define TP_CUDA_QUANTIZE_JOB_CUH

#include <float.h>
#include <math.h>

#include "cuda/context.cuh"
#include "quantize/scalar.h"

namespace tp {
namespace {

/* What kernels find, in Call::flags(). */
enum : unsigned { FOUND_NONFINITE = 1, FOUND_SCALE = 2 };

/* A plan whose strides are those on the device, and what is there. Indices are those of the whole matrix. */
struct Job {
    tp_plan plan;
    char *in;               /* matrix of in_type; of f32, and written, when codes are decoded */
    uint8_t *codes;
    float *scales;
    uint8_t *zeros;         /* null: plan.zero */
    int64_t scale_stride, zero_stride;
    unsigned *flags;
    bool given;             /* scales are read and not made */
    bool whole_bytes;       /* each line of codes begins with a byte, so that no byte belongs to two */
};

__device__ inline int64_t scale_at(const Job &job, int64_t stride, int64_t line, int64_t n) {
    if (job.plan.per_tensor) return 0;
    return job.plan.code_lines ? line * stride + n : n * stride + line;
}

__device__ inline void load_scale(const Job &job, int64_t line, int64_t n, float *scale, float *zero) {
    *scale = job.scales[scale_at(job, job.scale_stride, line, n)];
    *zero = tp_zero_at(&job.plan, job.zeros, scale_at(job, job.zero_stride, line, n));
}

__device__ inline void store_scale(const Job &job, int64_t line, int64_t n, float scale, float zero) {
    job.scales[scale_at(job, job.scale_stride, line, n)] = scale;
    if (job.zeros) job.zeros[scale_at(job, job.zero_stride, line, n)] = tp_zero_byte(zero);
    if (!tp_is_finite(scale)) atomicOr(job.flags, FOUND_SCALE);
}

/* A scale that the caller gave, or that a kernel before this one made. */
__device__ inline void use_scale(const Job &job, int64_t line, int64_t n, float *scale, float *zero) {
    load_scale(job, line, n, scale, zero);
    if (!tp_valid_scale(&job.plan, *scale, *zero)) atomicOr(job.flags, FOUND_SCALE);
}

/* a / b and a % b of numbers that are not negative; those below 2^32, which most are, take a fraction of the time. */
__device__ inline int64_t divide(int64_t a, int64_t b, int64_t *rest) {
    if (((a | b) >> 32) == 0) {
        const uint32_t q = (uint32_t)a / (uint32_t)b;
        *rest = (uint32_t)a - q * (uint32_t)b;
        return q;
    }
    const int64_t q = a / b;
    *rest = a - q * b;
    return q;
}

__host__ __device__ inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
__host__ __device__ inline int64_t pieces_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* ---- extremes ---- */

/* Smallest and largest value, zero included. */
struct Extremes {
    float low = 0, high = 0;
    bool finite = true;

    __device__ void add(float x) {
        low = fminf(low, x);
        high = fmaxf(high, x);
        finite = finite && fabsf(x) <= FLT_MAX;
    }
    /* Those of all lanes of the teams of this size, a power of two, that the warp consists of. */
    __device__ void reduce(int team) {
        for (int apart = team / 2; apart; apart /= 2) {
            low = fminf(low, __shfl_xor_sync(TP_ALL_LANES, low, apart));
            high = fmaxf(high, __shfl_xor_sync(TP_ALL_LANES, high, apart));
        }
    }
};

/* Floats as integers that compare alike, for atomicMin and atomicMax; its own inverse. */
__device__ inline int ordered(int bits) { return bits ^ ((bits >> 31) & TP_ABS_BITS); }
__device__ inline int ordered_bits(float x) { return ordered((int)tp_bits(x)); }
__device__ inline float of_ordered(int bits) { return tp_float((uint32_t)ordered(bits)); }

/* ---- codes of a group ---- */

/*
 * The codes under one scale, with the bits of encode() in ref.c. Of TP_ROUND_DIVIDE x * (1 / s) is within 2^-22 of x / s, relatively, so it
 * rounds alike unless it is near a tie: only there, a few times in ten thousand, is x divided. Where 1 / s is no normal number it
 * always is.
 */
struct Encoder {
    float scale, inverse, low, high, zero, tie;
    bool exact; /* TP_ROUND_DIVIDE */

    __device__ Encoder(const tp_plan &p, float s, float z) : Encoder(p, s, z, 1.0f / s) {}
    __device__ Encoder(const tp_plan &p, float s, float z, float inverse_of_s)
        : scale(s), inverse(inverse_of_s), low(p.qmin - z), high(p.qmax - z), zero(z),
          tie(!p.divide ? 1.0f : s > 0x1p-100f && s < 0x1p100f ? 0.5f - 0x1p-13f : -1.0f), exact(p.divide) {}

    /* The code in the low byte; those above it are anything. */
    __device__ uint32_t operator()(float x) const {
        const float t = tp_clamp(x * inverse, low, high), sum = t + 12582912.0f;
        /* The sum's lowest bits are the integer, as in tp_round. */
        if (fabsf(t - (sum - 12582912.0f)) < tie) return tp_bits(sum) + (uint32_t)(int32_t)zero;
        return rarely(x);
    }

  private:
    __device__ uint32_t rarely(float x) const {
        const float t = exact ? x / scale : x * inverse;
        if (t != t) return (uint32_t)(int32_t)zero;
        return (uint32_t)(int32_t)(tp_round(tp_clamp(t, low, high)) + zero);
    }
};

/* ---- sixteen bytes of elements, and their codes ---- */

template <tp_dtype TYPE> struct Chunk {
    enum { SIZE = TYPE == TP_F32 ? 4 : 2, COUNT = 16 / SIZE };
    uint32_t words[4];

    /* Elements [i, i + COUNT) of a row, zero from `end` on. */
    __device__ void load(const char *row, int64_t i, int64_t end) {
        const char *from = row + i * SIZE;
        if (i + COUNT <= end && (uintptr_t)from % 16 == 0) {
            const uint4 v = *reinterpret_cast<const uint4 *>(from);
            words[0] = v.x;
            words[1] = v.y;
            words[2] = v.z;
            words[3] = v.w;
            return;
        }
#pragma unroll
        for (int k = 0; k < 4; k++) words[k] = 0;
#pragma unroll
        for (int k = 0; k < COUNT; k++) {
            if (i + k >= end) continue;
            if (SIZE == 4)
                words[k % 4] = reinterpret_cast<const uint32_t *>(from)[k];
            else
                words[k / 2] |= (uint32_t)reinterpret_cast<const uint16_t *>(from)[k] << k % 2 * 16;
        }
    }

    /* A NaN comes out as some NaN. */
    __device__ float operator[](int k) const {
        if (TYPE == TP_F32) return tp_float(words[k % 4]);
        const uint32_t word = words[k / 2];
        if (TYPE == TP_BF16) return tp_float(k % 2 ? word & 0xffff0000u : word << 16);
        return tp_widen_f16((uint16_t)(word >> k % 2 * 16));
    }

    /* Makes the compiler hold halves as they are, not as floats, which take twice the registers. */
    __device__ void forget() {
#pragma unroll
        for (int k = 0; k < 4; k++) tp_forget(words[k]);
    }

    __device__ void add_to(Extremes &e) const {
#pragma unroll
        for (int k = 0; k < COUNT; k++) e.add((*this)[k]);
    }
};

/* tp_load of what is aligned. */
template <tp_dtype TYPE> __device__ float load_element(const char *in, int64_t i) {
    if (TYPE == TP_F32) return reinterpret_cast<const float *>(in)[i];
    const uint16_t half = reinterpret_cast<const uint16_t *>(in)[i];
    return TYPE == TP_F16 ? tp_widen_f16(half) : tp_float((uint32_t)half << 16);
}

/* COUNT codes, four to a word. */
template <int COUNT> struct Codes {
    uint32_t words[COUNT / 4];

    __device__ void set(int k, uint32_t code) {
        words[k / 4] = k % 4 ? words[k / 4] | (code & 255) << k % 4 * 8 : code & 255;
    }

    /* The first n to places `at` and up; of 4 bits, `at` is even, and who writes an odd last one has its byte for itself. */
    __device__ void store(uint8_t *codes, int64_t at, int64_t n, bool four_bits) const {
        if (!four_bits) {
            uint8_t *to = codes + at;
            if (n >= COUNT && (uintptr_t)to % COUNT == 0) {
                store_words<COUNT / 4>(to, words);
            } else {
#pragma unroll
                for (int k = 0; k < COUNT; k++)
                    if (k < n) to[k] = (uint8_t)(words[k / 4] >> k % 4 * 8);
            }
            return;
        }
        uint32_t half[(COUNT + 7) / 8] = {};
#pragma unroll
        for (int k = 0; k < COUNT / 4; k++) {
            const uint32_t pairs = (words[k] & 0x000f000fu) | (words[k] >> 4 & 0x00f000f0u);
            half[k / 2] |= ((pairs & 0xff) | pairs >> 8) << k % 2 * 16;
        }
        uint8_t *to = codes + at / 2;
        if (n >= COUNT && (uintptr_t)to % (COUNT / 2) == 0) {
            if (COUNT == 4)
                *reinterpret_cast<uint16_t *>(to) = (uint16_t)half[0];
            else
                store_words<(COUNT + 7) / 8>(to, half);
        } else {
#pragma unroll
            for (int k = 0; k < COUNT; k += 2) {
                const uint8_t byte = (uint8_t)(half[k / 8] >> k % 8 * 4);
                if (k + 1 < n)
                    to[k / 2] = byte;
                else if (k < n)
                    tp_put_nibble(to, k, byte);
            }
        }
    }

  private:
    template <int WORDS> static __device__ void store_words(uint8_t *to, const uint32_t *from) {
        if (WORDS == 1)
            *reinterpret_cast<uint32_t *>(to) = from[0];
        else if (WORDS == 2)
            *reinterpret_cast<uint2 *>(to) = make_uint2(from[0], from[1 % WORDS]);
        else
            *reinterpret_cast<uint4 *>(to) = make_uint4(from[0], from[1 % WORDS], from[2 % WORDS], from[3 % WORDS]);
    }
};

/* Elements [i, end) of a chunk to codes at `at` and up. */
template <tp_dtype TYPE>
__device__ void encode_chunk(const Job &job, const Encoder &encoder, const Chunk<TYPE> &x, int64_t at, int64_t n) {
    Codes<Chunk<TYPE>::COUNT> codes;
#pragma unroll
    for (int k = 0; k < Chunk<TYPE>::COUNT; k++) codes.set(k, encoder(x[k]));
    codes.store(job.codes, at, n, job.plan.four_bits);
}

/* The value of code number `at`, less the zero point, times the scale. */
__device__ inline float decode(const Job &job, int64_t at, float scale, float zero) {
    return ((float)tp_code_value(job.plan.out_type, tp_code_at(&job.plan, job.codes, at)) - zero) * scale;
}

}  // namespace
}  // namespace tp

#endif
