/* Products in f64 on tensor cores. */
#ifndef TP_CUDA_SVD_PRODUCT_CUH
#define TP_CUDA_SVD_PRODUCT_CUH

#include "cuda/svd/common.cuh"

namespace tp {
namespace {

/*
 * A block makes a tile of C; each of its warps a square of 32 x 32, in products of 8 x 8 x 4. Sums run over k within segments, and
 * segment after segment, whether one block does them all or each has a block of its own (then what a segment gives waits in
 * memory): the bits are the same.
 */
enum { PRODUCT_THREADS = 256, TILE_M = 128, TILE_N = 64, TILE_K = 16, WARP_TILE = 32, SEGMENT = 1024 };

/* Element p of line i (a row of A, a column of B) is at i * line + p * step, one of which is 1. */
struct Operand {
    const void *base;
    int64_t line, step;
    tp_dtype type;
};

struct Product {
    Operand a, b;
    double *c;
    int64_t c_stride;
    int64_t begin, end, n, k; /* rows of C, columns, terms */
    bool lower;
    double alpha, beta;
};

/* What a kernel is told of the operands, whose types it knows. */
template <class A, class B> struct Typed {
    const A *a;
    const B *b;
    int64_t a_pitch, b_pitch; /* the one of line and step that is not 1 */
};

/*
 * A strip of `lines` lines and TILE_K terms, on its way from global to shared memory. Along: the elements of a line are contiguous,
 * else those of one term. Either way threads read what is contiguous, and the pitch in shared memory is 4 modulo 16, so that the 16 lanes
 * that read together, 4 lines and 4 terms, do so from 16 banks.
 */
template <class T, bool along, int lines> struct Strip {
    enum { COUNT = lines * TILE_K / PRODUCT_THREADS, PITCH = along ? TILE_K + 4 : lines + 4, SIZE = PITCH * (along ? lines : TILE_K) };
    T held[COUNT];

    static __device__ __forceinline__ int at(int line, int term) { return along ? line * PITCH + term : term * PITCH + line; }
    /* The first element of this thread; the others are whole lines or terms further. */
    static __device__ __forceinline__ int line() { return along ? threadIdx.x / TILE_K : threadIdx.x % lines; }
    static __device__ __forceinline__ int term() { return along ? threadIdx.x % TILE_K : threadIdx.x / lines; }
    enum { LINE_STEP = along ? PRODUCT_THREADS / TILE_K : 0, TERM_STEP = along ? 0 : PRODUCT_THREADS / lines };

    /* From the thread's first element on; what is not one of so many lines and terms is 0. */
    __device__ __forceinline__ void load(const T *from, int64_t pitch, int lines_left, int terms_left) {
        const int64_t step = (int64_t)(LINE_STEP + TERM_STEP) * pitch;
#pragma unroll
        for (int r = 0; r < COUNT; r++, from += step)
            held[r] = line() + r * LINE_STEP < lines_left && term() + r * TERM_STEP < terms_left ? *from : (T)0;
    }
    __device__ __forceinline__ void store(double *shared) const {
#pragma unroll
        for (int r = 0; r < COUNT; r++) shared[at(line() + r * LINE_STEP, term() + r * TERM_STEP)] = (double)held[r];
    }
};

/* The lesser of an int64_t and a tile's side. */
__device__ __forceinline__ int left_of(int64_t n, int most) { return n < most ? (int)n : most; }

/* C = beta C + x, without fused operations. */
__device__ __forceinline__ double updated(double c, double x, double beta) { return beta == 1 ? c + x : beta * c + x; }

/*
 * Segments [first_segment, first_segment + gridDim.y * each) of a product, block y doing `each` of them. Without `parts` they are added to C, the
 * very first one to beta C. With it each is 1, and alpha times the sum goes to parts[y, end - begin, n].
 */
template <class A, bool a_along, class B, bool b_along>
TP_KERNEL(PRODUCT_THREADS) multiply_f64(Typed<A, B> s, double *c, int64_t c_stride, int64_t begin, int64_t end, int64_t n, int64_t k, int lower,
                                    double alpha, double beta, int64_t first_segment, int64_t each, double *parts) {
    using StripA = Strip<A, a_along, TILE_M>;
    using StripB = Strip<B, b_along, TILE_N>;
    TP_SHARED(double, shared_a, [StripA::SIZE]);
    TP_SHARED(double, shared_b, [StripB::SIZE]);
    const int64_t across = (n + TILE_N - 1) / TILE_N;
    const int64_t i0 = begin + (int64_t)blockIdx.x / across * TILE_M, j0 = (int64_t)blockIdx.x % across * TILE_N;
    if (lower && j0 > i0 + TILE_M - 1) return;
    const int lane = threadIdx.x % TP_WARP, warp = threadIdx.x / TP_WARP, g = lane / 4, t = lane % 4;
    const int wi = warp / (TILE_N / WARP_TILE) * WARP_TILE, wj = warp % (TILE_N / WARP_TILE) * WARP_TILE;
    const bool wanted = i0 + wi < end && j0 + wj < n && !(lower && j0 + wj > i0 + wi + WARP_TILE - 1);
    const int a_lines = left_of(end - i0, TILE_M), b_lines = left_of(n - j0, TILE_N);
    const int64_t last_segment = first_segment + ((int64_t)blockIdx.y + 1) * each;
    for (int64_t segment = first_segment + (int64_t)blockIdx.y * each; segment < last_segment; segment++) {
        const int64_t p_begin = segment * SEGMENT, p_end = p_begin + SEGMENT < k ? p_begin + SEGMENT : k;
        double d[4][4][2] = {};
        StripA strip_a;
        StripB strip_b;
        const A *a_from = s.a + (a_along ? (i0 + StripA::line()) * s.a_pitch + p_begin + StripA::term()
                                         : (p_begin + StripA::term()) * s.a_pitch + i0 + StripA::line());
        const B *b_from = s.b + (b_along ? (j0 + StripB::line()) * s.b_pitch + p_begin + StripB::term()
                                         : (p_begin + StripB::term()) * s.b_pitch + j0 + StripB::line());
        strip_a.load(a_from, s.a_pitch, a_lines, left_of(p_end - p_begin, TILE_K));
        strip_b.load(b_from, s.b_pitch, b_lines, left_of(p_end - p_begin, TILE_K));
        for (int64_t p0 = p_begin; p0 < p_end; p0 += TILE_K) {
            __syncthreads(); /* the strips before have been used */
            strip_a.store(shared_a);
            strip_b.store(shared_b);
            __syncthreads();
            /* The next ones are on their way meanwhile. */
            if (p0 + TILE_K < p_end) {
                const int terms = left_of(p_end - p0 - TILE_K, TILE_K);
                a_from += TILE_K * (a_along ? 1 : s.a_pitch);
                b_from += TILE_K * (b_along ? 1 : s.b_pitch);
                strip_a.load(a_from, s.a_pitch, a_lines, terms);
                strip_b.load(b_from, s.b_pitch, b_lines, terms);
            }
            if (!wanted) continue;
#pragma unroll
            for (int p = 0; p < TILE_K; p += 4) {
                double a[4], b[4];
#pragma unroll
                for (int x = 0; x < 4; x++) {
                    a[x] = shared_a[StripA::at(wi + x * 8 + g, p + t)];
                    b[x] = shared_b[StripB::at(wj + x * 8 + g, p + t)];
                }
#pragma unroll
                for (int x = 0; x < 4; x++)
#pragma unroll
                    for (int y = 0; y < 4; y++) tp_mma_f64(d[x][y], a[x], b[y]);
            }
        }
        if (!wanted) continue;
        const double own_beta = segment == 0 ? beta : 1;
#pragma unroll
        for (int x = 0; x < 4; x++) {
            const int64_t i = i0 + wi + x * 8 + g;
            const int64_t last = lower && i + 1 < n ? i + 1 : n;
            double *to = parts ? parts + ((int64_t)blockIdx.y * (end - begin) + i - begin) * n : c + i * c_stride;
#pragma unroll
            for (int y = 0; y < 8; y++) {
                const int64_t j = j0 + wj + y / 2 * 8 + 2 * t + y % 2;
                if (i >= end || j >= last) continue;
                const double value = alpha * d[x][y / 2][y % 2];
                to[j] = parts || own_beta == 0 ? value : updated(to[j], value, own_beta);
            }
        }
    }
}

/* C = beta C + the parts [count, end - begin, n], one after the other. */
TP_KERNEL(PRODUCT_THREADS) add_parts(double *__restrict__ c, int64_t c_stride, int64_t begin, int64_t end, int64_t n, int lower, double beta,
                                     int64_t count, const double *__restrict__ parts) {
    const int64_t size = (end - begin) * n, step = (int64_t)gridDim.x * PRODUCT_THREADS;
    for (int64_t e = (int64_t)blockIdx.x * PRODUCT_THREADS + threadIdx.x; e < size; e += step) {
        const int64_t i = begin + e / n, j = e % n;
        if (lower && j > i) continue;
        double *to = c + i * c_stride + j;
        if (count == 0) {
            *to = beta == 0 ? 0 : beta * *to;
            continue;
        }
        double sum = beta == 0 ? parts[e] : updated(*to, parts[e], beta);
        for (int64_t s = 1; s < count; s++) sum += parts[s * size + e];
        *to = sum;
    }
}

/* Segments that have a block of their own at a time; 1: one block does them all. Of tiles alone there may be too few to keep a device busy. */
int64_t segments_apart(int64_t rows, int64_t n, int64_t k, int multiprocessors) {
    const int64_t tiles = ceil_div(rows, TILE_M) * ceil_div(n, TILE_N), segments = ceil_div(k, SEGMENT), busy = 2 * (int64_t)multiprocessors;
    if (segments <= 1 || tiles >= busy) return 1;
    const int64_t apart = ceil_div(2 * busy, tiles);
    return apart < segments ? apart : segments;
}

/* Doubles that launch_product needs for that. */
int64_t parts_size(int64_t rows, int64_t n, int64_t apart) { return apart > 1 ? apart * rows * n : 0; }

template <class A, bool a_along, class B, bool b_along>
cudaError_t launch_typed(cudaStream_t stream, const Product &s, int64_t apart, double *parts, int multiprocessors) {
    const Typed<A, B> operands = {static_cast<const A *>(s.a.base), static_cast<const B *>(s.b.base), a_along ? s.a.line : s.a.step,
                                  b_along ? s.b.line : s.b.step};
    const int64_t rows = s.end - s.begin, segments = ceil_div(s.k, SEGMENT);
    const unsigned tiles = (unsigned)(ceil_div(rows, TILE_M) * ceil_div(s.n, TILE_N));
    if (segments == 1 || apart == 1)
        return tp_launch(stream, multiply_f64<A, a_along, B, b_along>, dim3(tiles), PRODUCT_THREADS, 0, operands, s.c, s.c_stride, s.begin, s.end, s.n,
                         s.k, (int)s.lower, s.alpha, s.beta, (int64_t)0, segments, (double *)nullptr);
    for (int64_t first = 0; first < segments; first += apart) {
        const int64_t count = apart < segments - first ? apart : segments - first;
        cudaError_t error = tp_launch(stream, multiply_f64<A, a_along, B, b_along>, dim3(tiles, (unsigned)count), PRODUCT_THREADS, 0, operands, s.c,
                                      s.c_stride, s.begin, s.end, s.n, s.k, (int)s.lower, s.alpha, s.beta, first, (int64_t)1, parts);
        if (error == cudaSuccess)
            error = tp_launch(stream, add_parts, grid_for(ceil_div(rows * s.n, PRODUCT_THREADS), multiprocessors), PRODUCT_THREADS, 0, s.c,
                              s.c_stride, s.begin, s.end, s.n, (int)s.lower, first == 0 ? s.beta : 1, count, (const double *)parts);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

/* Rows [begin, end) of C = alpha A B + beta C. */
cudaError_t launch_product(cudaStream_t stream, const Product &s, int64_t apart, double *parts, int multiprocessors) {
    if (s.begin >= s.end || s.n == 0) return cudaSuccess;
    if (s.k == 0)
        return tp_launch(stream, add_parts, grid_for(ceil_div((s.end - s.begin) * s.n, PRODUCT_THREADS), multiprocessors), PRODUCT_THREADS, 0, s.c,
                         s.c_stride, s.begin, s.end, s.n, (int)s.lower, s.beta, (int64_t)0, (const double *)nullptr);
    const bool a_along = s.a.step == 1, b_along = s.b.step == 1;
    return with_type(s.a.type, [&](auto a) {
        return with_type(s.b.type, [&](auto b) {
            using A = decltype(a);
            using B = decltype(b);
            return a_along ? b_along ? launch_typed<A, true, B, true>(stream, s, apart, parts, multiprocessors)
                                     : launch_typed<A, true, B, false>(stream, s, apart, parts, multiprocessors)
                   : b_along ? launch_typed<A, false, B, true>(stream, s, apart, parts, multiprocessors)
                             : launch_typed<A, false, B, false>(stream, s, apart, parts, multiprocessors);
        });
    });
}

}  // namespace
}  // namespace tp

#endif
