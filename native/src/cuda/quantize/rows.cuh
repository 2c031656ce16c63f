/*
 * Lines that are rows. A row that fits in registers, or a block of one, is read once: extremes, scale, codes. Longer rows and
 * whole tensors are read a second time, with scales that other kernels made.
 */
#ifndef TP_CUDA_QUANTIZE_ROWS_CUH
#define TP_CUDA_QUANTIZE_ROWS_CUH

#include "cuda/quantize/job.cuh"

namespace tp {
namespace {

enum { THREADS = 256, WARPS = THREADS / TP_WARP, ROW_CHUNKS = 8, SLICE_CHUNKS = 4 };

/* Elements that a team of threads holds in registers. */
template <tp_dtype TYPE> constexpr int64_t row_in_registers(int team) { return (int64_t)team * ROW_CHUNKS * Chunk<TYPE>::COUNT; }

/*
 * Blocks of rows. A group has a team of lanes, each with two chunks; the next team has the next group, of whichever line. `team`
 * is a power of two up to a warp.
 */
template <tp_dtype TYPE> TP_KERNEL(THREADS) quantize_row_blocks(Job job, int64_t begin, int64_t end, int team) {
    const tp_plan &p = job.plan;
    const int lane = (int)threadIdx.x % team, teams = THREADS / team;
    const int64_t count = (end - begin) * p.groups;
    for (int64_t first = (int64_t)blockIdx.x * teams; first < count; first += (int64_t)gridDim.x * teams) {
        const int64_t task = first + threadIdx.x / team;
        const bool mine = task < count;
        int64_t n = 0, i0 = 0, i1 = 0;
        const int64_t line = begin + (mine ? divide(task, p.groups, &n) : 0);
        if (mine) i0 = n * p.group, i1 = smaller(i0 + p.group, p.length);
        const char *row = job.in + line * p.in_stride * Chunk<TYPE>::SIZE;
        Chunk<TYPE> x[2];
        Extremes extremes;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            x[k].load(row, i0 + (lane + k * team) * Chunk<TYPE>::COUNT, i1);
            x[k].add_to(extremes);
        }
        float scale = 1, zero = 0;
        if (job.given) {
            if (mine) use_scale(job, line, n, &scale, &zero);
        } else {
            if (!extremes.finite) atomicOr(job.flags, FOUND_NONFINITE);
            extremes.reduce(team);
            tp_scale(&p, extremes.low, extremes.high, 1, &scale, &zero);
            if (mine && lane == 0) store_scale(job, line, n, scale, zero);
        }
        if (!job.whole_bytes || !mine) continue;
        const Encoder encoder(p, scale, zero);
        const int64_t to = n == p.groups - 1 ? p.padded : i1;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const int64_t i = i0 + (lane + k * team) * Chunk<TYPE>::COUNT;
            if (i < to) encode_chunk(job, encoder, x[k], line * p.out_stride + i, to - i);
        }
    }
}

/* Whole rows of at most row_in_registers(TEAM) elements; a warp or a block for each. */
template <tp_dtype TYPE, int TEAM> TP_KERNEL(THREADS) quantize_rows(Job job, int64_t begin, int64_t end) {
    TP_SHARED(float, lows, [WARPS]);
    TP_SHARED(float, highs, [WARPS]);
    const tp_plan &p = job.plan;
    const int lane = (int)threadIdx.x % TEAM, teams = THREADS / TEAM, warp = (int)threadIdx.x / TP_WARP;
    for (int64_t line = begin + (int64_t)blockIdx.x * teams + threadIdx.x / TEAM; line < end; line += (int64_t)gridDim.x * teams) {
        const char *row = job.in + line * p.in_stride * Chunk<TYPE>::SIZE;
        Chunk<TYPE> x[ROW_CHUNKS];
        Extremes extremes;
#pragma unroll
        for (int k = 0; k < ROW_CHUNKS; k++) x[k].load(row, (int64_t)(lane + k * TEAM) * Chunk<TYPE>::COUNT, p.length);
#pragma unroll
        for (int k = 0; k < ROW_CHUNKS; k++) x[k].add_to(extremes);
        float scale, zero;
        if (job.given) {
            use_scale(job, line, 0, &scale, &zero);
        } else {
            if (!extremes.finite) atomicOr(job.flags, FOUND_NONFINITE);
            extremes.reduce(TP_WARP);
            if (TEAM > TP_WARP) {
                if (threadIdx.x % TP_WARP == 0) lows[warp] = extremes.low, highs[warp] = extremes.high;
                __syncthreads();
#pragma unroll
                for (int w = 0; w < WARPS; w++) {
                    extremes.low = fminf(extremes.low, lows[w]);
                    extremes.high = fmaxf(extremes.high, highs[w]);
                }
                __syncthreads(); /* before the next row writes there */
            }
            tp_scale(&p, extremes.low, extremes.high, 1, &scale, &zero);
            if (lane == 0) store_scale(job, line, 0, scale, zero);
        }
        if (!job.whole_bytes) continue;
        const Encoder encoder(p, scale, zero);
#pragma unroll
        for (int k = 0; k < ROW_CHUNKS; k++) x[k].forget();
#pragma unroll
        for (int k = 0; k < ROW_CHUNKS; k++) {
            const int64_t i = (int64_t)(lane + k * TEAM) * Chunk<TYPE>::COUNT;
            if (i < p.length) encode_chunk(job, encoder, x[k], line * p.out_stride + i, p.length - i);
        }
    }
}

/* Codes of long rows whose scales are there. The grid is slices of a row times rows. */
template <tp_dtype TYPE> TP_KERNEL(THREADS) encode_rows(Job job, int64_t begin, int64_t end) {
    const tp_plan &p = job.plan;
    const int64_t start = ((int64_t)blockIdx.x * THREADS * SLICE_CHUNKS + threadIdx.x) * Chunk<TYPE>::COUNT;
    for (int64_t line = begin + blockIdx.y; line < end; line += gridDim.y) {
        const char *row = job.in + line * p.in_stride * Chunk<TYPE>::SIZE;
        float scale, zero;
        Chunk<TYPE> x[SLICE_CHUNKS];
#pragma unroll
        for (int k = 0; k < SLICE_CHUNKS; k++) x[k].load(row, start + k * THREADS * Chunk<TYPE>::COUNT, p.length);
        use_scale(job, line, 0, &scale, &zero);
        if (!job.whole_bytes) continue;
        const Encoder encoder(p, scale, zero);
#pragma unroll
        for (int k = 0; k < SLICE_CHUNKS; k++) {
            const int64_t i = start + k * THREADS * Chunk<TYPE>::COUNT;
            if (i < p.length) encode_chunk(job, encoder, x[k], line * p.out_stride + i, p.length - i);
        }
    }
}

/* Before atomics collect extremes. */
TP_KERNEL(THREADS) start_extremes(int *lows, int *highs, int64_t n, float low, float high) {
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (int64_t)gridDim.x * THREADS) {
        lows[i] = ordered_bits(low);
        highs[i] = ordered_bits(high);
    }
}

/* Of all lanes of a warp. Atomics on integers, so that the order does not show. */
__device__ inline void collect(const Job &job, Extremes extremes, int *low, int *high) {
    if (!extremes.finite) atomicOr(job.flags, FOUND_NONFINITE);
    extremes.reduce(TP_WARP);
    if (threadIdx.x % TP_WARP) return;
    atomicMin(low, ordered_bits(extremes.low));
    atomicMax(high, ordered_bits(extremes.high));
}

/* Extremes of long rows, of row `first` at [0]; the grid is as for encode_rows. */
template <tp_dtype TYPE> TP_KERNEL(THREADS) extremes_of_rows(Job job, int64_t begin, int64_t end, int *lows, int *highs, int64_t first) {
    const tp_plan &p = job.plan;
    const int64_t start = ((int64_t)blockIdx.x * THREADS * SLICE_CHUNKS + threadIdx.x) * Chunk<TYPE>::COUNT;
    for (int64_t line = begin + blockIdx.y; line < end; line += gridDim.y) {
        const char *row = job.in + line * p.in_stride * Chunk<TYPE>::SIZE;
        Extremes extremes;
        Chunk<TYPE> x[SLICE_CHUNKS];
#pragma unroll
        for (int k = 0; k < SLICE_CHUNKS; k++) x[k].load(row, start + k * THREADS * Chunk<TYPE>::COUNT, p.length);
#pragma unroll
        for (int k = 0; k < SLICE_CHUNKS; k++) x[k].add_to(extremes);
        collect(job, extremes, lows + (line - first), highs + (line - first));
    }
}

/* Extremes of all rows together; zero is not one of them unless it is there. */
template <tp_dtype TYPE> TP_KERNEL(THREADS) extremes_of_matrix(Job job, int64_t begin, int64_t end, int *low, int *high) {
    const tp_plan &p = job.plan;
    const int64_t chunks = pieces_of(p.length, Chunk<TYPE>::COUNT), count = (end - begin) * chunks;
    Extremes extremes;
    extremes.low = INFINITY;
    extremes.high = -INFINITY;
    for (int64_t first = (int64_t)blockIdx.x * THREADS * SLICE_CHUNKS; first < count; first += (int64_t)gridDim.x * THREADS * SLICE_CHUNKS) {
        Chunk<TYPE> x[SLICE_CHUNKS];
        int64_t left[SLICE_CHUNKS];
#pragma unroll
        for (int k = 0; k < SLICE_CHUNKS; k++) {
            const int64_t task = first + threadIdx.x + k * THREADS;
            left[k] = 0;
            if (task >= count) continue;
            int64_t c;
            const int64_t line = begin + divide(task, chunks, &c);
            x[k].load(job.in + line * p.in_stride * Chunk<TYPE>::SIZE, c * Chunk<TYPE>::COUNT, p.length);
            left[k] = p.length - c * Chunk<TYPE>::COUNT;
        }
#pragma unroll
        for (int k = 0; k < SLICE_CHUNKS; k++) {
#pragma unroll
            for (int e = 0; e < Chunk<TYPE>::COUNT; e++)
                if (e < left[k]) extremes.add(x[k][e]);
        }
    }
    collect(job, extremes, low, high);
}

/* What collect() left in two integers, as floats; -0 becomes +0. */
TP_KERNEL(TP_WARP) end_extremes(const int *low, const int *high, float *floats) {
    if (threadIdx.x) return;
    floats[0] = of_ordered(*low) + 0.0f;
    floats[1] = of_ordered(*high) + 0.0f;
}

/*
 * Scales of whole lines by their extremes, those of line `first` at [0]; of lines without elements if there are none (null). Where
 * scales are given it looks at them.
 */
TP_KERNEL(THREADS) scale_lines(Job job, int64_t begin, int64_t end, const int *lows, const int *highs, int64_t first) {
    for (int64_t line = begin + (int64_t)blockIdx.x * THREADS + threadIdx.x; line < end; line += (int64_t)gridDim.x * THREADS) {
        float scale, zero;
        if (job.given) {
            use_scale(job, line, 0, &scale, &zero);
        } else {
            tp_scale(&job.plan, lows ? of_ordered(lows[line - first]) : 0, highs ? of_ordered(highs[line - first]) : 0, 1, &scale, &zero);
            store_scale(job, line, 0, scale, zero);
        }
    }
}

template <tp_dtype TYPE> __device__ uint32_t encode_element(const Job &job, int64_t line, int64_t i) {
    const tp_plan &p = job.plan;
    float scale, zero;
    load_scale(job, line, p.groups == 1 ? 0 : i / p.group, &scale, &zero);
    const float x = i < p.length ? load_element<TYPE>(job.in, tp_in_index(&p, line, i)) : 0.0f;
    return Encoder(p, scale, zero)(x) & 15;
}

/*
 * 4-bit codes with an odd out_stride, by scales that are there. Rows of codes begin and end within bytes, so a thread makes a byte, whichever
 * codes are in it; those that are not of this piece stay. A row of codes is a line, or goes across the lines.
 */
template <tp_dtype TYPE> TP_KERNEL(THREADS) encode_bytes(Job job, int64_t begin, int64_t end) {
    const tp_plan &p = job.plan;
    const bool by_line = p.code_lines;
    const int64_t r0 = by_line ? begin : 0, r1 = by_line ? end : p.padded, j0 = by_line ? 0 : begin, j1 = by_line ? p.padded : end;
    const bool joined = j0 == 0 && j1 == p.out_stride; /* each row of codes begins where the one before it ends */
    const int64_t width = (j1 - j0) / 2 + 1, count = j0 < j1 ? (r1 - r0) * width : 0;
    for (int64_t task = (int64_t)blockIdx.x * THREADS + threadIdx.x; task < count; task += (int64_t)gridDim.x * THREADS) {
        int64_t k;
        const int64_t r = r0 + divide(task, width, &k), start = r * p.out_stride;
        const int64_t byte = (start + j0) / 2 + k, j = 2 * byte - start; /* of the low code; that of a row's first may be -1 */
        if (j >= j1) continue;
        uint32_t low, high;
        const uint8_t old = job.codes[byte];
        if (j >= j0)
            low = encode_element<TYPE>(job, by_line ? r : j, by_line ? j : r);
        else if (joined && r > r0)
            low = encode_element<TYPE>(job, by_line ? r - 1 : j1 - 1, by_line ? j1 - 1 : r - 1);
        else
            low = old & 15;
        if (j + 1 < j1)
            high = encode_element<TYPE>(job, by_line ? r : j + 1, by_line ? j + 1 : r);
        else if (joined && r + 1 < r1)
            continue; /* the next row's first byte */
        else
            high = old >> 4;
        job.codes[byte] = (uint8_t)(low | high << 4);
    }
}

}  // namespace
}  // namespace tp

#endif
