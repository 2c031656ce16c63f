/*
 * Clip search: for each step, the squared error that a group has under the scale of that step, in f32 over runs of 256 elements in
 * order and in f64 over runs. Steps are independent of each other, so threads share (run, step) pairs; each goes through its run alone.
 */
#ifndef TP_CUDA_QUANTIZE_SEARCH_CUH
#define TP_CUDA_QUANTIZE_SEARCH_CUH

#include "cuda/quantize/rows.cuh"

namespace tp {
namespace {

enum { RUN = 256, MOST_RUNS = 16, RUN_PITCH = RUN + 1, MOST_STEPS = 64, STEPS_EACH = MOST_STEPS / WARPS };

/* Runs that a block works on at a time, one thread for each step of each. */
__host__ __device__ inline int runs_at_once(int steps) { return THREADS / steps < MOST_RUNS ? THREADS / steps : MOST_RUNS; }

/* What of a step its inner loop needs. */
struct Step {
    float scale, inverse, low, high;

    __device__ Step() {}
    __device__ Step(const tp_plan &p, float min, float max, int number) {
        float zero;
        tp_scale(&p, min, max, tp_ratio(&p, number), &scale, &zero);
        inverse = 1.0f / scale;
        low = p.qmin - zero;
        high = p.qmax - zero;
    }
    /* In units of the scale. */
    __device__ float square(float x) const {
        const float t = x * inverse, e = t - tp_round(tp_clamp(t, low, high));
        return e * e;
    }
    /* A scale that scale_type cannot hold loses against any other. */
    __device__ double error(double sum) const { return tp_is_finite(scale) ? sum * ((double)scale * scale) : (double)INFINITY; }
};

/* Of element i of a line and those after it. */
template <bool COUNTS> __device__ float run_error(const Job &job, const float *run, int64_t line, int64_t i, int count, const Step &step) {
    float sum = 0;
    if (!COUNTS) {
        for (int k = 0; k < count; k++) sum += step.square(run[k]);
        return sum;
    }
    const bool by_line = job.plan.part == 0;
    const float *importance = by_line ? job.plan.importance + line : tp_importance_of(&job.plan, line) + i;
    for (int k = 0; k < count; k++) sum += step.square(run[k]) * importance[by_line ? 0 : k];
    return sum;
}

__device__ inline void store_step(const Job &job, int64_t line, int64_t n, float min, float max, int number) {
    float scale, zero;
    tp_scale(&job.plan, min, max, tp_ratio(&job.plan, number), &scale, &zero);
    store_scale(job, line, n, scale, zero);
}

/* Scales of blocks of rows, each of which is one run. */
template <tp_dtype TYPE, bool COUNTS> TP_KERNEL(THREADS) search_row_blocks(Job job, int64_t begin, int64_t end) {
    TP_SHARED(float, tile, [MOST_RUNS][RUN_PITCH]);
    TP_SHARED(int, lows, [MOST_RUNS]);
    TP_SHARED(int, highs, [MOST_RUNS]);
    TP_SHARED(double, errors, [THREADS]);
    const tp_plan &p = job.plan;
    const int steps = p.clip_steps, runs = runs_at_once(steps), run = (int)threadIdx.x / steps, number = (int)threadIdx.x % steps;
    const int64_t count = (end - begin) * p.groups;
    for (int64_t first = (int64_t)blockIdx.x * runs; first < count; first += (int64_t)gridDim.x * runs) {
        if (threadIdx.x < MOST_RUNS) lows[threadIdx.x] = highs[threadIdx.x] = 0;
        __syncthreads();
        for (int r = 0; r < runs && first + r < count; r++) {
            int64_t n;
            const int64_t line = begin + divide(first + r, p.groups, &n), i = n * p.group + threadIdx.x;
            Extremes extremes;
            if (threadIdx.x < p.group && i < p.length) {
                const float x = load_element<TYPE>(job.in, line * p.in_stride + i);
                tile[r][threadIdx.x] = x;
                extremes.add(x);
            }
            collect(job, extremes, &lows[r], &highs[r]);
        }
        __syncthreads();
        int64_t n = 0;
        const bool mine = run < runs && first + run < count;
        const int64_t line = begin + (mine ? divide(first + run, p.groups, &n) : 0);
        if (mine) {
            const Step step(p, of_ordered(lows[run]), of_ordered(highs[run]), number);
            const int length = (int)smaller(p.group, p.length - n * p.group);
            errors[threadIdx.x] = step.error((double)run_error<COUNTS>(job, tile[run], line, n * p.group, length, step));
        }
        __syncthreads();
        if (mine && number == 0) {
            int best = 0;
            for (int s = 1; s < steps; s++)
                if (errors[threadIdx.x + s] < errors[threadIdx.x + best]) best = s;
            store_step(job, line, n, of_ordered(lows[run]), of_ordered(highs[run]), best);
        }
        __syncthreads();
    }
}

/*
 * Whole rows, or a whole tensor (`one` group): sums of runs [u0, u1) to sums[(u - u0) * steps + step]. Run u is number u % (runs of a
 * row) of row begin + u / (runs of a row). Extremes are there, of the group of row begin at [0].
 */
template <tp_dtype TYPE, bool COUNTS>
TP_KERNEL(THREADS) search_runs(Job job, int64_t begin, bool one, const int *lows, const int *highs, int64_t u0, int64_t u1, float *sums) {
    TP_SHARED(float, tile, [MOST_RUNS][RUN_PITCH]);
    const tp_plan &p = job.plan;
    const int steps = p.clip_steps, runs = runs_at_once(steps), run = (int)threadIdx.x / steps, number = (int)threadIdx.x % steps;
    const int64_t in_row = pieces_of(p.length, RUN);
    for (int64_t first = u0 + (int64_t)blockIdx.x * runs; first < u1; first += (int64_t)gridDim.x * runs) {
        for (int r = 0; r < runs && first + r < u1; r++) {
            int64_t n;
            const int64_t line = begin + divide(first + r, in_row, &n), i = n * RUN + threadIdx.x;
            if (i < p.length) tile[r][threadIdx.x] = load_element<TYPE>(job.in, line * p.in_stride + i);
        }
        __syncthreads();
        if (run < runs && first + run < u1) {
            int64_t n;
            const int64_t line = divide(first + run, in_row, &n), group = one ? 0 : line;
            const int length = (int)smaller(RUN, p.length - n * RUN);
            const Step step(p, of_ordered(lows[group]), of_ordered(highs[group]), number);
            sums[(first + run - u0) * steps + number] = run_error<COUNTS>(job, tile[run], begin + line, n * RUN, length, step);
        }
        __syncthreads();
    }
}

/* Adds the sums of runs [u0, u1) to the totals of their groups, in order: a thread for each step of each group that has such runs. */
TP_KERNEL(THREADS) add_runs(Job job, bool one, int64_t u0, int64_t u1, const float *sums, double *totals) {
    const int steps = job.plan.clip_steps;
    const int64_t in_row = pieces_of(job.plan.length, RUN), group0 = one ? 0 : u0 / in_row, group1 = one ? 1 : (u1 - 1) / in_row + 1;
    for (int64_t task = (int64_t)blockIdx.x * THREADS + threadIdx.x; task < (group1 - group0) * steps; task += (int64_t)gridDim.x * THREADS) {
        int64_t number;
        const int64_t group = group0 + divide(task, steps, &number);
        int64_t u = u0, to = u1;
        if (!one) {
            u = u < group * in_row ? group * in_row : u;
            to = smaller(to, (group + 1) * in_row);
        }
        double total = u == (one ? 0 : group * in_row) ? 0 : totals[group * steps + number];
        for (; u < to; u++) total += sums[(u - u0) * steps + number];
        totals[group * steps + number] = total;
    }
}

/* The best step of each group, the first among equals. */
TP_KERNEL(THREADS) choose_steps(Job job, int64_t begin, int64_t groups, const int *lows, const int *highs, const double *totals) {
    const int steps = job.plan.clip_steps;
    for (int64_t g = (int64_t)blockIdx.x * THREADS + threadIdx.x; g < groups; g += (int64_t)gridDim.x * THREADS) {
        const float min = of_ordered(lows[g]), max = of_ordered(highs[g]);
        int best = 0;
        double least = Step(job.plan, min, max, 0).error(totals[g * steps]);
        for (int s = 1; s < steps; s++) {
            const double error = Step(job.plan, min, max, s).error(totals[g * steps + s]);
            if (error < least) least = error, best = s;
        }
        store_step(job, begin + g, 0, min, max, best);
    }
}

/*
 * Scales of columns, whole ones or blocks. A block of threads has as many columns as a warp has lanes; each warp has every eighth step,
 * and goes down the columns with them. The grid is panels of columns times groups.
 */
template <tp_dtype TYPE, bool COUNTS> TP_KERNEL(THREADS) search_columns(Job job, int64_t begin, int64_t end) {
    TP_SHARED(int, lows, [TP_WARP]);
    TP_SHARED(int, highs, [TP_WARP]);
    TP_SHARED(double, errors, [WARPS][TP_WARP]);
    TP_SHARED(int, numbers, [WARPS][TP_WARP]);
    const tp_plan &p = job.plan;
    const int lane = (int)threadIdx.x % TP_WARP, warp = (int)threadIdx.x / TP_WARP;
    const int64_t line = begin + (int64_t)blockIdx.x * TP_WARP + lane;
    const bool mine = line < end;
    for (int64_t n = blockIdx.y; n < p.groups; n += gridDim.y) {
        const int64_t i0 = n * p.group, i1 = n == p.groups - 1 ? p.length : i0 + p.group;
        if (warp == 0) lows[lane] = highs[lane] = 0;
        __syncthreads();
        if (mine) {
            Extremes extremes;
#pragma unroll 4
            for (int64_t i = i0 + warp; i < i1; i += WARPS) extremes.add(load_element<TYPE>(job.in, i * p.in_stride + line));
            if (!extremes.finite) atomicOr(job.flags, FOUND_NONFINITE);
            atomicMin(&lows[lane], ordered_bits(extremes.low));
            atomicMax(&highs[lane], ordered_bits(extremes.high));
        }
        __syncthreads();
        const float min = of_ordered(lows[lane]), max = of_ordered(highs[lane]);
        Step steps[STEPS_EACH];
        double totals[STEPS_EACH];
#pragma unroll
        for (int k = 0; k < STEPS_EACH; k++) {
            steps[k] = Step(p, min, max, smaller(warp + k * WARPS, p.clip_steps - 1));
            totals[k] = 0;
        }
        for (int64_t start = i0; start < i1 && mine; start += RUN) {
            const int64_t to = smaller(start + RUN, i1);
            float sums[STEPS_EACH] = {};
            for (int64_t i = start; i < to; i++) {
                const float x = load_element<TYPE>(job.in, i * p.in_stride + line), importance = COUNTS ? p.importance[i] : 0;
#pragma unroll
                for (int k = 0; k < STEPS_EACH; k++)
                    if (warp + k * WARPS < p.clip_steps) sums[k] += COUNTS ? steps[k].square(x) * importance : steps[k].square(x);
            }
#pragma unroll
            for (int k = 0; k < STEPS_EACH; k++) totals[k] += sums[k];
        }
        double least = steps[0].error(totals[0]);
        int best = warp;
#pragma unroll
        for (int k = 1; k < STEPS_EACH; k++) {
            const double error = steps[k].error(totals[k]);
            if (warp + k * WARPS < p.clip_steps && error < least) least = error, best = warp + k * WARPS;
        }
        errors[warp][lane] = warp < p.clip_steps ? least : (double)INFINITY;
        numbers[warp][lane] = best;
        __syncthreads();
        if (warp == 0 && mine) {
            for (int w = 1; w < WARPS; w++) {
                const double error = errors[w][lane];
                if (error < least || (error == least && numbers[w][lane] < best)) least = error, best = numbers[w][lane];
            }
            store_step(job, line, n, min, max, best);
        }
        __syncthreads();
    }
}

}  // namespace
}  // namespace tp

#endif
