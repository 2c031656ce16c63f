/* Codes back to f32, and the errors of codes. */
#ifndef TP_CUDA_QUANTIZE_DECODE_CUH
#define TP_CUDA_QUANTIZE_DECODE_CUH

#include "cuda/quantize/columns.cuh"

namespace tp {
namespace {

/* Codes that a thread decodes at a time: those of 16 bytes of f32. */
enum { QUAD = 4 };

/* The values of codes `at` to at + n, n being up to QUAD, four to a word. */
__device__ inline uint32_t load_codes(const Job &job, int64_t at, int64_t n) {
    uint32_t word = 0;
    if (!job.plan.four_bits) {
        const uint8_t *from = job.codes + at;
        if (n >= QUAD && (uintptr_t)from % QUAD == 0) return *reinterpret_cast<const uint32_t *>(from);
#pragma unroll
        for (int k = 0; k < QUAD; k++)
            if (k < n) word |= (uint32_t)from[k] << k * 8;
        return word;
    }
    if (n >= QUAD && at % 2 == 0 && (uintptr_t)(job.codes + at / 2) % 2 == 0) {
        const uint32_t two = *reinterpret_cast<const uint16_t *>(job.codes + at / 2);
        word = (two & 0x000f) | (two & 0x00f0) << 4 | (two & 0x0f00) << 8 | (two & 0xf000) << 12;
    } else {
#pragma unroll
        for (int k = 0; k < QUAD; k++)
            if (k < n) word |= (uint32_t)(tp_nibble(TP_U4, job.codes, at + k)) << k * 8;
    }
    /* (v ^ 8) - 8 in each byte, none of which borrows from the next one: 0x80 is set above it for the time being. */
    if (job.plan.out_type == TP_I4) word = (((word ^ 0x08080808u) | 0x80808080u) - 0x08080808u) ^ 0x80808080u;
    return word;
}

__device__ inline float decode_byte(const Job &job, uint32_t word, int k, float scale, float zero) {
    return ((float)tp_code_value(job.plan.out_type, (uint8_t)(word >> k * 8)) - zero) * scale;
}

__device__ inline void store_quad(float *to, const float (&values)[QUAD], int64_t n) {
    if (n >= QUAD && (uintptr_t)to % 16 == 0) {
        *reinterpret_cast<float4 *>(to) = make_float4(values[0], values[1], values[2], values[3]);
        return;
    }
#pragma unroll
    for (int k = 0; k < QUAD; k++)
        if (k < n) to[k] = values[k];
}

TP_KERNEL(THREADS) dequantize_rows(Job job, int64_t begin, int64_t end) {
    const tp_plan &p = job.plan;
    const int64_t quads = pieces_of(p.length, QUAD), count = (end - begin) * quads;
    for (int64_t task = (int64_t)blockIdx.x * THREADS + threadIdx.x; task < count; task += (int64_t)gridDim.x * THREADS) {
        int64_t c, rest;
        const int64_t line = begin + divide(task, quads, &c), i = c * QUAD, n = smaller(QUAD, p.length - i);
        float scale, zero, values[QUAD];
        load_scale(job, line, p.groups == 1 ? 0 : divide(i, p.group, &rest), &scale, &zero);
        const uint32_t codes = load_codes(job, line * p.out_stride + i, n);
#pragma unroll
        for (int k = 0; k < QUAD; k++) values[k] = decode_byte(job, codes, k, scale, zero);
        store_quad(reinterpret_cast<float *>(job.in) + line * p.in_stride + i, values, n);
    }
}

/* Tiles of PANEL columns and as many rows; the grid is tiles across times tiles down. */
TP_KERNEL(THREADS) dequantize_columns(Job job, int64_t begin, int64_t end) {
    TP_SHARED(uint32_t, tile, [PANEL][PANEL_PITCH / 4]); /* a line of codes in each row */
    enum { QUADS = PANEL / QUAD, ROWS = THREADS / QUADS };
    const tp_plan &p = job.plan;
    const int64_t panel = begin + (int64_t)blockIdx.x * PANEL;
    const int quad = (int)threadIdx.x % QUADS, row = (int)threadIdx.x / QUADS;
    const int64_t line = panel + quad * QUAD, n = smaller(QUAD, end - line);
    for (int64_t base = (int64_t)blockIdx.y * PANEL; base < p.length; base += (int64_t)gridDim.y * PANEL) {
        if (p.code_lines) {
            const int64_t i = base + quad * QUAD;
            for (int l = row; l < PANEL; l += ROWS)
                if (panel + l < end && i < p.length)
                    tile[l][quad] = load_codes(job, (panel + l) * p.out_stride + i, smaller(QUAD, p.length - i));
            __syncthreads();
        }
        for (int r = row; r < PANEL && base + r < p.length && n > 0; r += ROWS) {
            const int64_t i = base + r;
            int64_t rest;
            const int64_t group = p.groups == 1 ? 0 : divide(i, p.group, &rest);
            uint32_t codes = 0;
            if (!p.code_lines) codes = load_codes(job, i * p.out_stride + line, n);
            float values[QUAD];
#pragma unroll
            for (int k = 0; k < QUAD; k++) {
                if (k >= n) continue;
                float scale, zero;
                load_scale(job, line + k, group, &scale, &zero);
                if (p.code_lines) codes = reinterpret_cast<const uint8_t *>(&tile[quad * QUAD + k][0])[r] << k * 8;
                values[k] = decode_byte(job, codes, k, scale, zero);
            }
            store_quad(reinterpret_cast<float *>(job.in) + i * p.in_stride + line, values, n);
        }
        __syncthreads();
    }
}

/* The error of an element whose code is number `at`. */
template <tp_dtype TYPE>
__device__ void terms(const Job &job, int64_t from, int64_t at, float scale, float zero, double *error, double *square, double *max) {
    const double x = load_element<TYPE>(job.in, from), d = x - decode(job, at, scale, zero);
    *error = d * d;
    *square = x * x;
    *max = fabs(d) > *max ? fabs(d) : *max;
}

/*
 * Errors of rows, of line `first` at [0]. Sixteen threads for each, since sixteen partial sums is what the order of additions allows.
 */
template <tp_dtype TYPE> TP_KERNEL(THREADS) errors_of_rows(Job job, int64_t begin, int64_t end, tp_error *errors, int64_t first) {
    enum { LANES = 16, ROWS = THREADS / LANES };
    const tp_plan &p = job.plan;
    const int lane = (int)threadIdx.x % LANES;
    for (int64_t l = begin + (int64_t)blockIdx.x * ROWS; l < end; l += (int64_t)gridDim.x * ROWS) {
        const int64_t line = l + threadIdx.x / LANES;
        double error = 0, square = 0, max = 0;
        if (line < end) {
            for (int64_t n = 0; n < p.groups && p.length; n++) {
                const int64_t i1 = n == p.groups - 1 ? p.length : (n + 1) * p.group;
                float scale, zero;
                load_scale(job, line, n, &scale, &zero);
#pragma unroll 8
                for (int64_t i = n * p.group + lane; i < i1; i += LANES) {
                    double e, s;
                    terms<TYPE>(job, line * p.in_stride + i, line * p.out_stride + i, scale, zero, &e, &s, &max);
                    error += e;
                    square += s;
                }
            }
        }
        for (int apart = LANES / 2; apart; apart /= 2) {
            error += __shfl_down_sync(TP_ALL_LANES, error, apart, LANES);
            square += __shfl_down_sync(TP_ALL_LANES, square, apart, LANES);
            const double other = __shfl_down_sync(TP_ALL_LANES, max, apart, LANES);
            max = other > max ? other : max;
        }
        if (lane == 0 && line < end) errors[line - first] = tp_error_of(error, square, max);
    }
}

/*
 * Errors of columns. All warps of a block make the terms of a tile, side by side; then two of them add up its columns, in order, one
 * the squared errors and one the squares.
 */
template <tp_dtype TYPE> TP_KERNEL(THREADS) errors_of_columns(Job job, int64_t begin, int64_t end, tp_error *errors, int64_t first) {
    enum { ROWS = 64, PITCH = TP_WARP + 1 };
    TP_SHARED(double, error_terms, [ROWS][PITCH]);
    TP_SHARED(double, square_terms, [ROWS][PITCH]);
    TP_SHARED(double, maxima, [WARPS][TP_WARP]);
    TP_SHARED(double, squares, [TP_WARP]);
    const tp_plan &p = job.plan;
    const int lane = (int)threadIdx.x % TP_WARP, warp = (int)threadIdx.x / TP_WARP;
    for (int64_t panel = begin + (int64_t)blockIdx.x * TP_WARP; panel < end; panel += (int64_t)gridDim.x * TP_WARP) {
        const int64_t line = panel + lane;
        double sum = 0, max = 0;
        for (int64_t base = 0; base < p.length; base += ROWS) {
            const int high = (int)smaller(ROWS, p.length - base);
            if (line < end) {
#pragma unroll
                for (int r = warp; r < ROWS; r += WARPS) {
                    if (r >= high) continue;
                    int64_t rest;
                    float scale, zero;
                    load_scale(job, line, p.groups == 1 ? 0 : divide(base + r, p.group, &rest), &scale, &zero);
                    terms<TYPE>(job, (base + r) * p.in_stride + line, tp_code_index(&p, line, base + r), scale, zero, &error_terms[r][lane],
                                &square_terms[r][lane], &max);
                }
            }
            __syncthreads();
            if (warp < 2 && line < end)
                for (int r = 0; r < high; r++) sum += warp ? square_terms[r][lane] : error_terms[r][lane];
            __syncthreads();
        }
        maxima[warp][lane] = max;
        if (warp == 1) squares[lane] = sum;
        __syncthreads();
        if (warp == 0 && line < end) {
            for (int w = 1; w < WARPS; w++) max = maxima[w][lane] > max ? maxima[w][lane] : max;
            errors[line - first] = tp_error_of(sum, squares[lane], max);
        }
        __syncthreads();
    }
}

}  // namespace
}  // namespace tp

#endif
