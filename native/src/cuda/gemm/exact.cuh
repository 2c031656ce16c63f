/*
 * Products of floats whose every bit the header fixes: sums of 256 products by fused multiply-add in order of k, added in order. So
 * each sum is one thread's; a thread has a square of them in registers, and the operands' tiles pass through shared memory, two buffers each.
 * The totals of the blocks of 256 are in C itself, which is read and written once per block: that is cheap, and leaves the registers to the sums.
 */
#ifndef TP_CUDA_GEMM_EXACT_CUH
#define TP_CUDA_GEMM_EXACT_CUH

#include "cuda/gemm/product.cuh"

namespace tp {

enum { EXACT_THREADS = 256, DEPTH = 8 };

__device__ inline float fused(float x, float y, float sum) { return fmaf(x, y, sum); }
__device__ inline double fused(double x, double y, double sum) { return fma(x, y, sum); }

/*
 * A tile of LINES x DEPTH on its way from global to shared memory, where it is [DEPTH][LINES + padding]. The padding puts a warp's
 * stores of lines that are rows into different banks. Elements that are not there are 0: they only ever reach sums of lines that are not there.
 */
template <class T, int LINES, bool COLUMNS> struct Passage {
    static constexpr int SIDE = Chunk<T>::COUNT, PITCH = LINES + SIDE, CHUNKS = LINES * DEPTH / SIDE,
                         EACH = (CHUNKS + EXACT_THREADS - 1) / EXACT_THREADS;
    Chunk<T> held[EACH] = {};

    static __device__ bool has(int chunk) { return CHUNKS % EXACT_THREADS == 0 || chunk < CHUNKS; }
    static __device__ int line_of(int chunk) { return COLUMNS ? chunk % (LINES / SIDE) * SIDE : chunk / (DEPTH / SIDE); }
    static __device__ int depth_of(int chunk) { return COLUMNS ? chunk / (LINES / SIDE) : chunk % (DEPTH / SIDE) * SIDE; }

    /* Where this thread's chunks come from, for the tile at hand, and how many of the chunk's lines there are. */
    const T *at[EACH];
    int lines[EACH];

    __device__ Passage(const Operand &from, int64_t first_line) {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int chunk = (int)threadIdx.x + e * EXACT_THREADS;
            const int64_t line = first_line + line_of(chunk), depth = depth_of(chunk), left = from.end - line;
            at[e] = static_cast<const T *>(from.base) + (COLUMNS ? depth * from.stride + line : line * from.stride + depth);
            lines[e] = left < 0 ? 0 : left < SIDE ? (int)left : SIDE;
        }
    }

    /* Loads the next tile, of which `left` of the DEPTH are there. */
    __device__ void load(const Operand &from, int left) {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int chunk = (int)threadIdx.x + e * EXACT_THREADS;
            if (!has(chunk)) break;
            const int depth = left - depth_of(chunk), there = COLUMNS ? (depth > 0 ? lines[e] : 0) : lines[e] ? depth : 0;
            if (from.aligned && there >= SIDE) {
                held[e] = *reinterpret_cast<const Chunk<T> *>(at[e]);
            } else {
#pragma unroll
                for (int i = 0; i < SIDE; i++) held[e].x[i] = i < there ? at[e][i] : T(0);
            }
            at[e] += DEPTH * (COLUMNS ? from.stride : 1);
        }
    }

    __device__ void store(T *tile) const {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int chunk = (int)threadIdx.x + e * EXACT_THREADS;
            if (!has(chunk)) break;
            T *at = tile + depth_of(chunk) * PITCH + line_of(chunk);
            if (COLUMNS) {
                *reinterpret_cast<Chunk<T> *>(at) = held[e];
            } else {
#pragma unroll
                for (int i = 0; i < SIDE; i++) at[i * PITCH] = held[e].x[i];
            }
        }
    }
};

/*
 * Eight warps, 4 x 2, have parts of the tile of C; a warp's lanes are 4 x 8, and each has DOWN x ACROSS chunks of sums, squares of
 * CHUNK x CHUNK as far from each other as the warp's part allows, so that lanes side by side read adjacent chunks.
 */
template <class T, int DOWN, int ACROSS> struct ExactTile {
    static constexpr int SIDE = Chunk<T>::COUNT, ROWS = 4 * 4 * SIDE * DOWN, COLUMNS = 2 * 8 * SIDE * ACROSS;
};

template <class T, int DOWN, int ACROSS, bool A_COLUMNS, bool B_COLUMNS> TP_KERNEL(EXACT_THREADS)
exact_product(const Product p) {
    using Sizes = ExactTile<T, DOWN, ACROSS>;
    using PassA = Passage<T, Sizes::ROWS, A_COLUMNS>;
    using PassB = Passage<T, Sizes::COLUMNS, B_COLUMNS>;
    constexpr int SIDE = Sizes::SIDE;
    TP_SHARED(Chunk<T>, a_tiles, [2][DEPTH * PassA::PITCH / SIDE]);
    TP_SHARED(Chunk<T>, b_tiles, [2][DEPTH * PassB::PITCH / SIDE]);

    TP_SHARED(Tile, place, [1]);
    const Tile tile = tile_of_block(p, Sizes::ROWS, Sizes::COLUMNS);
    if (threadIdx.x == 0) place[0] = tile;
    const int warp = threadIdx.x / TP_WARP, lane = threadIdx.x % TP_WARP;
    const int row = warp / 2 * (Sizes::ROWS / 4) + lane / 8 * SIDE, column = warp % 2 * (Sizes::COLUMNS / 2) + lane % 8 * SIDE;
    constexpr int ROW_STEP = 4 * SIDE, COLUMN_STEP = 8 * SIDE;

    T sums[DOWN * SIDE][ACROSS * SIDE] = {};
    const auto multiply = [&](const Chunk<T> *a, const Chunk<T> *b, int kk) {
        Chunk<T> x[DOWN], y[ACROSS];
#pragma unroll
        for (int i = 0; i < DOWN; i++) x[i] = a[(kk * PassA::PITCH + row + i * ROW_STEP) / SIDE];
#pragma unroll
        for (int j = 0; j < ACROSS; j++) y[j] = b[(kk * PassB::PITCH + column + j * COLUMN_STEP) / SIDE];
#pragma unroll
        for (int i = 0; i < DOWN * SIDE; i++)
#pragma unroll
            for (int j = 0; j < ACROSS * SIDE; j++)
                sums[i][j] = fused(x[i / SIDE].x[i % SIDE], y[j / SIDE].x[j % SIDE], sums[i][j]);
    };
    /* The end of a block of 256: the sums go to C, and begin anew. Where that is, is read from shared memory: else the compiler would
       work out the addresses early and keep them in registers all the time. */
    const auto flush = [&](bool add) {
        const int64_t row0 = place[0].row + row, column0 = place[0].column + column;
#pragma unroll
        for (int i = 0; i < DOWN * SIDE; i++) {
            const int64_t r = row0 + i / SIDE * ROW_STEP + i % SIDE;
#pragma unroll
            for (int j = 0; j < ACROSS; j++) {
                const int64_t c = column0 + j * COLUMN_STEP, left = r < p.a.end ? p.b.end - c : 0;
                T *at = static_cast<T *>(p.c) + r * p.c_stride + c;
                if (p.c_aligned && left >= SIDE) {
                    Chunk<T> total;
                    if (add) total = *reinterpret_cast<const Chunk<T> *>(at);
#pragma unroll
                    for (int e = 0; e < SIDE; e++) {
                        const T sum = sums[i][j * SIDE + e];
                        total.x[e] = add ? total.x[e] + sum : sum;
                    }
                    *reinterpret_cast<Chunk<T> *>(at) = total;
                } else {
#pragma unroll
                    for (int e = 0; e < SIDE; e++)
                        if (e < left) at[e] = add ? at[e] + sums[i][j * SIDE + e] : sums[i][j * SIDE + e];
                }
            }
        }
#pragma unroll
        for (int i = 0; i < DOWN * SIDE; i++)
#pragma unroll
            for (int j = 0; j < ACROSS * SIDE; j++) sums[i][j] = 0;
    };

    PassA a(p.a, tile.row);
    PassB b(p.b, tile.column);
    const int first = p.k < DEPTH ? (int)p.k : DEPTH;
    a.load(p.a, first);
    b.load(p.b, first);
    a.store(a_tiles[0]->x);
    b.store(b_tiles[0]->x);
    __syncthreads();
    int buffer = 0;
    for (int64_t k = 0; k < p.k; k += DEPTH, buffer ^= 1) {
        const int64_t left = p.k - k;
        const bool more = left > DEPTH;
        if (more) {
            const int next = left < 2 * DEPTH ? (int)left - DEPTH : DEPTH;
            a.load(p.a, next);
            b.load(p.b, next);
        }
        if (left >= DEPTH) {
#pragma unroll 4
            for (int kk = 0; kk < DEPTH; kk++) multiply(a_tiles[buffer], b_tiles[buffer], kk);
        } else {
            /* No products with zeros behind the end: they would turn a sum that is -0 into 0. */
#pragma unroll 1
            for (int kk = 0; kk < (int)left; kk++) multiply(a_tiles[buffer], b_tiles[buffer], kk);
        }
        if (!more || (k + DEPTH) % TP_GEMM_BLOCK == 0) flush(p.accumulate || k >= TP_GEMM_BLOCK);
        if (more) {
            a.store(a_tiles[buffer ^ 1]->x);
            b.store(b_tiles[buffer ^ 1]->x);
        }
        __syncthreads();
    }
    if (p.k == 0) flush(p.accumulate);
}

template <class T, int DOWN, int ACROSS> cudaError_t queue_exact_tiles(const Product &p, int32_t form, cudaStream_t stream) {
    using Sizes = ExactTile<T, DOWN, ACROSS>;
    const dim3 grid((unsigned)count_tiles(p, Sizes::ROWS, Sizes::COLUMNS));
    switch (form) {
    case TP_GEMM_AB: return tp_launch(stream, exact_product<T, DOWN, ACROSS, false, true>, grid, EXACT_THREADS, 0, p);
    case TP_GEMM_ATB: return tp_launch(stream, exact_product<T, DOWN, ACROSS, true, true>, grid, EXACT_THREADS, 0, p);
    default: return tp_launch(stream, exact_product<T, DOWN, ACROSS, false, false>, grid, EXACT_THREADS, 0, p);
    }
}

template <class T, int DOWN, int ACROSS>
cudaError_t queue_exact(const Product &p, int32_t form, int multiprocessors, cudaStream_t stream) {
    using Sizes = ExactTile<T, DOWN, ACROSS>;
    return count_tiles(p, Sizes::ROWS, Sizes::COLUMNS) >= multiprocessors
               ? queue_exact_tiles<T, DOWN, ACROSS>(p, form, stream)
               : queue_exact_tiles<T, DOWN / 2, ACROSS / 2>(p, form, stream);
}

}  // namespace tp

#endif
