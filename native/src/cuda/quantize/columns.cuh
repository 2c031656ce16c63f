/*
 * Lines that are columns. A block of threads has a panel of neighbouring columns, so that memory is read along rows. Blocks of
 * columns are read for their extremes, and again for their codes while they are in the caches; whole columns too if they are as short.
 */
#ifndef TP_CUDA_QUANTIZE_COLUMNS_CUH
#define TP_CUDA_QUANTIZE_COLUMNS_CUH

#include "cuda/quantize/rows.cuh"

namespace tp {
namespace {

/* A tile of codes is PANEL columns wide and as high; its pitch keeps lines apart from each other in the banks. */
enum { PANEL = TP_PANEL, PANEL_PITCH = PANEL + 4, SHORT_COLUMN = 256, COLUMN_SLAB = 1024 };

/* How the threads of a block share a panel: each has the columns of one chunk, in every ROWS-th row. */
template <tp_dtype TYPE> struct Panel {
    enum { CHUNKS = PANEL / Chunk<TYPE>::COUNT, ROWS = THREADS / CHUNKS };
};

/* Extremes of columns [line, line + COUNT) in rows [i0, i1), into those of the panel, which are shared. */
template <tp_dtype TYPE>
__device__ void panel_extremes(const Job &job, int64_t line, int64_t end, int64_t i0, int64_t i1, int *lows, int *highs) {
    enum { COUNT = Chunk<TYPE>::COUNT, UNROLL = 4 };
    const int64_t step = job.plan.in_stride * Chunk<TYPE>::SIZE;
    Extremes extremes[COUNT];
    bool finite = true;
    if (line < end) {
        for (int64_t i = i0 + threadIdx.x / Panel<TYPE>::CHUNKS; i < i1; i += Panel<TYPE>::ROWS * UNROLL) {
            Chunk<TYPE> x[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; u++) {
                const int64_t row = i + u * Panel<TYPE>::ROWS;
                x[u].load(job.in + row * step, line, row < i1 ? end : line);
            }
#pragma unroll
            for (int u = 0; u < UNROLL; u++) {
#pragma unroll
                for (int k = 0; k < COUNT; k++) extremes[k].add(x[u][k]);
            }
        }
#pragma unroll
        for (int k = 0; k < COUNT; k++) {
            const int column = (int)(threadIdx.x % Panel<TYPE>::CHUNKS) * COUNT + k;
            atomicMin(&lows[column], ordered_bits(extremes[k].low));
            atomicMax(&highs[column], ordered_bits(extremes[k].high));
            finite = finite && extremes[k].finite;
        }
    }
    if (!finite) atomicOr(job.flags, FOUND_NONFINITE);
}

/*
 * Scales and codes of blocks of columns, or, if scales are given, codes alone, of slabs of columns. `slab` is then any number of rows,
 * else that of a group. The grid is panels times slabs.
 */
template <tp_dtype TYPE> TP_KERNEL(THREADS) quantize_columns(Job job, int64_t begin, int64_t end, int64_t slab) {
    enum { COUNT = Chunk<TYPE>::COUNT, CHUNKS = Panel<TYPE>::CHUNKS, ROWS = Panel<TYPE>::ROWS, TURNS = PANEL / ROWS };
    TP_SHARED(int, lows, [PANEL]);
    TP_SHARED(int, highs, [PANEL]);
    TP_SHARED(float, scales, [PANEL]);
    TP_SHARED(float, zeros, [PANEL]);
    TP_SHARED(float, inverses, [PANEL]);
    TP_SHARED(uint32_t, tile, [PANEL][PANEL_PITCH / 4]);
    const tp_plan &p = job.plan;
    const int64_t panel = begin + (int64_t)blockIdx.x * PANEL, slabs = pieces_of(p.length, slab);
    const int chunk = (int)threadIdx.x % CHUNKS, row = (int)threadIdx.x / CHUNKS;
    const int64_t line = panel + chunk * COUNT;
    for (int64_t n = blockIdx.y; n < slabs; n += gridDim.y) {
        const int64_t i0 = n * slab, i1 = smaller(i0 + slab, p.length), to = n == slabs - 1 ? p.padded : i1;
        const int64_t group = p.groups == 1 ? 0 : n;
        const int64_t own = panel + threadIdx.x; /* of the first PANEL threads */
        if (!job.given) {
            if (threadIdx.x < PANEL) lows[threadIdx.x] = highs[threadIdx.x] = 0;
            __syncthreads();
            panel_extremes<TYPE>(job, line, end, i0, i1, lows, highs);
            __syncthreads();
        }
        if (threadIdx.x < PANEL) {
            float scale = 1, zero = 0;
            if (own < end && job.given) {
                use_scale(job, own, group, &scale, &zero);
            } else if (own < end) {
                tp_scale(&p, of_ordered(lows[threadIdx.x]), of_ordered(highs[threadIdx.x]), 1, &scale, &zero);
                store_scale(job, own, group, scale, zero);
            }
            scales[threadIdx.x] = scale;
            zeros[threadIdx.x] = zero;
            inverses[threadIdx.x] = 1.0f / scale;
        }
        __syncthreads();
        for (int64_t base = i0; base < to && job.whole_bytes; base += PANEL) {
            const int64_t high = smaller(PANEL, to - base);
            Chunk<TYPE> x[TURNS];
#pragma unroll
            for (int u = 0; u < TURNS; u++) {
                const int64_t i = base + row + u * ROWS;
                x[u].load(job.in + i * p.in_stride * Chunk<TYPE>::SIZE, line, i < i1 ? end : line);
            }
            Codes<COUNT> codes[TURNS];
#pragma unroll
            for (int k = 0; k < COUNT; k++) {
                const int column = chunk * COUNT + k;
                const Encoder encoder(p, scales[column], zeros[column], inverses[column]);
#pragma unroll
                for (int u = 0; u < TURNS; u++) codes[u].set(k, encoder(x[u][k]));
            }
#pragma unroll
            for (int u = 0; u < TURNS; u++) {
                if (!p.code_lines) {
                    if (row + u * ROWS < high && line < end)
                        codes[u].store(job.codes, (base + row + u * ROWS) * p.out_stride + line, end - line, p.four_bits);
                } else {
#pragma unroll
                    for (int w = 0; w < COUNT / 4; w++) tile[row + u * ROWS][chunk * (COUNT / 4) + w] = codes[u].words[w];
                }
            }
            if (!p.code_lines) continue;
            __syncthreads();
            /* A quarter of a line each. */
            const int64_t out = panel + threadIdx.x / 4;
            const int quarter = (int)threadIdx.x % 4 * 16;
            if (out < end && quarter < high) {
                const uint8_t *bytes = reinterpret_cast<const uint8_t *>(&tile[0][0]) + threadIdx.x / 4;
                Codes<16> run;
#pragma unroll
                for (int k = 0; k < 16; k++) run.set(k, bytes[(quarter + k) * PANEL_PITCH]);
                run.store(job.codes, out * p.out_stride + base + quarter, high - quarter, p.four_bits);
            }
            __syncthreads();
        }
        __syncthreads();
    }
}

/* Extremes of long columns, of column `first` at [0]; the grid is panels times slabs of COLUMN_SLAB rows. */
template <tp_dtype TYPE> TP_KERNEL(THREADS) extremes_of_columns(Job job, int64_t begin, int64_t end, int *lows, int *highs, int64_t first) {
    TP_SHARED(int, panel_lows, [PANEL]);
    TP_SHARED(int, panel_highs, [PANEL]);
    const int64_t panel = begin + (int64_t)blockIdx.x * PANEL;
    const int64_t line = panel + (int)(threadIdx.x % Panel<TYPE>::CHUNKS) * Chunk<TYPE>::COUNT;
    if (threadIdx.x < PANEL) panel_lows[threadIdx.x] = panel_highs[threadIdx.x] = 0;
    __syncthreads();
    for (int64_t i = (int64_t)blockIdx.y * COLUMN_SLAB; i < job.plan.length; i += (int64_t)gridDim.y * COLUMN_SLAB)
        panel_extremes<TYPE>(job, line, end, i, smaller(i + COLUMN_SLAB, job.plan.length), panel_lows, panel_highs);
    __syncthreads();
    if (threadIdx.x < PANEL && panel + threadIdx.x < end) {
        atomicMin(&lows[panel + threadIdx.x - first], panel_lows[threadIdx.x]);
        atomicMax(&highs[panel + threadIdx.x - first], panel_highs[threadIdx.x]);
    }
}

}  // namespace
}  // namespace tp

#endif
