/* Many small decompositions, by one-sided Jacobi: a block for each matrix. */
#ifndef TP_CUDA_SVD_SMALL_CUH
#define TP_CUDA_SVD_SMALL_CUH

#include "cuda/svd/common.cuh"

namespace tp {
namespace {

/* Of the largest block. */
enum { SMALL_THREADS = 256 };

enum : unsigned { FOUND_ODD = 1, FOUND_NO_END = 2 };

/*
 * For matrices with sides of at most `side`. Rows are paired as players of a round-robin tournament are, so that each pair of a round has lanes of its own
 * (Brent and Luk 1985), all pairs meet in side - 1 rounds, and a barrier is between rounds. The pitch of rows lets two pairs that share the
 * banks use different halves (or quarters) of them.
 */
template <int side, int lanes> struct Small {
    enum { THREADS = side / 2 * lanes, PITCH = side + lanes, ROWS = side };
    double x[side][PITCH]; /* rows of the matrix, or of its transposed */
    double turned[side][PITCH];
    double norms[side];
    double signs[side];
    double found[THREADS / TP_WARP];
    int order[side];
};

/* What takes the sum of `lanes` neighbours to each of them. */
template <int lanes> __device__ __forceinline__ double sum_of_lanes(double x) {
#pragma unroll
    for (int step = 1; step < lanes; step *= 2) x += __shfl_xor_sync(TP_ALL_LANES, x, step);
    return x;
}

/* Element i of the input. */
template <class T> __device__ __forceinline__ double small_input(const T *a, int r, int c, int64_t stride) { return (double)a[r * stride + c]; }

/*
 * Vectors of zero singular values, by one warp: rows order[known] .. order[n - 1] of x become unit vectors that are orthogonal to the others. Each begins as
 * the unit vector that is farthest from the rows before it, and Gram and Schmidt do the rest, twice.
 */
template <int side, int pitch> __device__ __forceinline__ void complete(double (*x)[pitch], const int *order, int known, int n, int m) {
    const int lane = threadIdx.x, slots = (side + TP_WARP - 1) / TP_WARP;
    for (int p = known; p < n; p++) {
        double own[slots], most = -1;
        int best = 0;
#pragma unroll
        for (int h = 0; h < slots; h++) {
            const int c = lane + h * TP_WARP;
            double rest = 1;
            for (int r = 0; r < p && c < m; r++) rest -= x[order[r]][c] * x[order[r]][c];
            if (c < m && rest > most) most = rest, best = c;
        }
#pragma unroll
        for (int step = 1; step < TP_WARP; step *= 2) {
            const double other = __shfl_xor_sync(TP_ALL_LANES, most, step);
            const int place = __shfl_xor_sync(TP_ALL_LANES, best, step);
            if (other > most || (other == most && place < best)) most = other, best = place;
        }
#pragma unroll
        for (int h = 0; h < slots; h++) own[h] = lane + h * TP_WARP == best;
        for (int turn = 0; turn < 2 * p; turn++) {
            const double *row = x[order[turn % p]];
            double along = 0;
#pragma unroll
            for (int h = 0; h < slots; h++)
                if (lane + h * TP_WARP < m) along = fma(row[lane + h * TP_WARP], own[h], along);
            along = sum_of_lanes<TP_WARP>(along);
#pragma unroll
            for (int h = 0; h < slots; h++)
                if (lane + h * TP_WARP < m) own[h] = fma(-along, row[lane + h * TP_WARP], own[h]);
        }
        double square = 0;
#pragma unroll
        for (int h = 0; h < slots; h++) square = fma(own[h], own[h], square);
        const double norm = sqrt(sum_of_lanes<TP_WARP>(square));
#pragma unroll
        for (int h = 0; h < slots; h++)
            if (lane + h * TP_WARP < m) x[order[p]][lane + h * TP_WARP] = own[h] / norm;
        __syncwarp();
    }
}

/* Makes rows of x orthogonal, those of `turned` going along; false if `sweeps` do not suffice. */
template <int side, int lanes>
__device__ __forceinline__ bool orthogonalize(Small<side, lanes> &s, int n, int m, double tolerance, double negligible, int sweeps) {
    const int pair = threadIdx.x / lanes, lane = threadIdx.x % lanes, players = n + n % 2;
    const int first_of_warp = threadIdx.x / TP_WARP * (TP_WARP / lanes);
    for (int sweep = 0;; sweep++) {
        bool more = false;
        for (int round = 0; round < players - 1; round++) {
            /* The last player stays, the others go round. */
            const int a = pair == 0 ? players - 1 : (round + pair) % (players - 1);
            const int b = pair == 0 ? round : (round + players - 1 - pair) % (players - 1);
            const int p = a < b ? a : b, q = a < b ? b : a;
            const bool plays = pair < players / 2 && q < n;
            if (first_of_warp < players / 2) {
                double pp = 0, qq = 0, pq = 0, c, t, change;
                for (int i = lane; plays && i < m; i += lanes) {
                    const double u = s.x[p][i], v = s.x[q][i];
                    pp = fma(u, u, pp);
                    qq = fma(v, v, qq);
                    pq = fma(u, v, pq);
                }
                pp = sum_of_lanes<lanes>(pp);
                qq = sum_of_lanes<lanes>(qq);
                pq = sum_of_lanes<lanes>(pq);
                if (plays && tp_rotation(pp, qq, pq, tolerance, negligible, &c, &t, &change)) {
                    more = true;
                    if (sweep < sweeps) {
                        for (int i = lane; i < m; i += lanes) {
                            const double u = s.x[p][i], v = s.x[q][i];
                            s.x[p][i] = c * u - t * v;
                            s.x[q][i] = fma(c, v, t * u);
                        }
                        for (int i = lane; i < n; i += lanes) {
                            const double u = s.turned[p][i], v = s.turned[q][i];
                            s.turned[p][i] = c * u - t * v;
                            s.turned[q][i] = fma(c, v, t * u);
                        }
                    }
                }
            }
            __syncthreads();
        }
        if (!__syncthreads_or(more)) return true;
        if (sweep == sweeps) return false;
    }
}

template <class T, int side, int lanes>
TP_KERNEL(SMALL_THREADS) decompose_small(int rows, int cols, int64_t in_stride, int sweeps, int64_t begin, int64_t end,
                                                         const T *__restrict__ in, int64_t in_step, T *__restrict__ u, T *__restrict__ values,
                                                         T *__restrict__ vt, unsigned *__restrict__ flags) {
    using Shared = Small<side, lanes>;
    enum { THREADS = Shared::THREADS, WARPS = THREADS / TP_WARP };
    TP_DYNAMIC_SHARED(Shared, shared);
    Shared &s = *shared;
    const int n = rows < cols ? rows : cols, m = rows + cols - n, thread = threadIdx.x;
    const bool tall = rows >= cols;
    const double negligible = 0x1p-930, tolerance = sizeof(T) == 4 ? 1e-9 : 4 * U * sqrt((double)m);
    for (int64_t item = begin + blockIdx.x; item < end; item += gridDim.x) {
        const T *a = in + item * in_step;
        double largest = 0;
        bool odd = false;
        __syncthreads(); /* the one before is written */
        for (int e = thread; e < rows * cols; e += THREADS) {
            const int r = e / cols, c = e % cols;
            const double v = small_input(a, r, c, in_stride);
            s.x[tall ? c : r][tall ? r : c] = v;
            largest = fabs(v) > largest ? fabs(v) : largest;
            odd |= !(v - v == 0);
        }
        for (int step = 1; step < TP_WARP; step *= 2) {
            const double other = __shfl_xor_sync(TP_ALL_LANES, largest, step);
            largest = other > largest ? other : largest;
        }
        if (thread % TP_WARP == 0) s.found[thread / TP_WARP] = largest;
        if (__syncthreads_or(odd)) {
            if (thread == 0) atomicOr(flags, (unsigned)FOUND_ODD);
            continue;
        }
        for (int w = 0; w < WARPS; w++) largest = s.found[w] > largest ? s.found[w] : largest;
        const int64_t exponent = tp_binary_exponent(largest);
        const double down = tp_power_of_two(-exponent), up = tp_power_of_two(exponent);
        for (int e = thread; e < n * m; e += THREADS) s.x[e / m][e % m] *= down;
        for (int e = thread; e < n * n; e += THREADS) s.turned[e / n][e % n] = e / n == e % n;
        __syncthreads();
        if (!orthogonalize(s, n, m, tolerance, negligible, sweeps)) {
            if (thread == 0) atomicOr(flags, (unsigned)FOUND_NO_END);
            continue;
        }
        for (int p = thread / lanes; p < side; p += THREADS / lanes) {
            double square = 0;
            for (int i = thread % lanes; p < n && i < m; i += lanes) square = fma(s.x[p][i], s.x[p][i], square);
            square = sum_of_lanes<lanes>(square);
            if (thread % lanes == 0 && p < n) s.norms[p] = square > negligible ? sqrt(square) : 0;
        }
        __syncthreads();
        for (int p = thread; p < n; p += THREADS) {
            int place = 0;
            for (int q = 0; q < n; q++) place += s.norms[q] > s.norms[p] || (s.norms[q] == s.norms[p] && q < p);
            s.order[place] = p;
        }
        for (int e = thread; e < n * m; e += THREADS)
            if (s.norms[e / m] > 0) s.x[e / m][e % m] *= 1 / s.norms[e / m];
        __syncthreads();
        if (thread < TP_WARP) {
            int known = 0;
            while (known < n && s.norms[s.order[known]] > 0) known++;
            complete<side, Shared::PITCH>(s.x, s.order, known, n, m);
        }
        __syncthreads();
        const double(*left)[Shared::PITCH] = tall ? s.x : s.turned, (*right)[Shared::PITCH] = tall ? s.turned : s.x;
        for (int p = thread; p < n; p += THREADS) {
            const double *row = left[s.order[p]];
            double most = 0;
            bool negative = false;
            for (int c = 0; c < rows; c++)
                if (fabs(row[c]) > most) most = fabs(row[c]), negative = row[c] < 0;
            s.signs[p] = negative ? -1 : 1;
            values[item * n + p] = (T)(s.norms[s.order[p]] * up);
        }
        __syncthreads();
        for (int e = thread; e < rows * n; e += THREADS)
            u[item * rows * n + e] = (T)(s.signs[e % n] * left[s.order[e % n]][e / n]);
        for (int e = thread; e < n * cols; e += THREADS)
            vt[item * n * cols + e] = (T)(s.signs[e / cols] * right[s.order[e / cols]][e % cols]);
    }
}

template <class T, int side, int lanes>
cudaError_t launch_small_sided(cudaStream_t stream, const tp_small &s, int64_t begin, int64_t end, const T *in, int64_t in_step, T *u, T *values,
                               T *vt, unsigned *flags, int multiprocessors) {
    using Shared = Small<side, lanes>;
    const auto kernel = decompose_small<T, side, lanes>;
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)sizeof(Shared));
    if (error != cudaSuccess) return error;
    return tp_launch(stream, kernel, grid_for(end - begin, multiprocessors), Shared::THREADS, sizeof(Shared), (int)s.rows, (int)s.cols, s.in_stride,
                     (int)s.sweeps, begin, end, in, in_step, u, values, vt, flags);
}

/* The smallest block that holds the matrices. */
template <class T>
cudaError_t launch_small(cudaStream_t stream, const tp_small &s, int64_t begin, int64_t end, const T *in, int64_t in_step, T *u, T *values, T *vt,
                         unsigned *flags, int multiprocessors) {
    const int64_t most = s.rows > s.cols ? s.rows : s.cols;
    if (most <= 16) return launch_small_sided<T, 16, 4>(stream, s, begin, end, in, in_step, u, values, vt, flags, multiprocessors);
    if (most <= 32) return launch_small_sided<T, 32, 8>(stream, s, begin, end, in, in_step, u, values, vt, flags, multiprocessors);
    return launch_small_sided<T, 64, 8>(stream, s, begin, end, in, in_step, u, values, vt, flags, multiprocessors);
}

}  // namespace
}  // namespace tp

#endif
