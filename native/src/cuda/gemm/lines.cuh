/*
 * Tiles of operands for tensor cores in shared memory: lines of 64 bytes of k, 64 elements of int8 or 16 of f32. Registers of
 * tensor cores hold words of four bytes of k. As sums of products have no order there, lanes may give each other's k to
 * both operands: lane t of a group of four takes the 16 bytes of chunk t, one load of shared memory for two instructions.
 *
 * Chunk c of a line is at place c ^ mix(line): so no two of eight lanes meet in a bank, whether they read the chunks of two lines,
 * copy them from rows, or store what they have transposed.
 */
#ifndef TP_CUDA_GEMM_LINES_CUH
#define TP_CUDA_GEMM_LINES_CUH

#include "cuda/gemm/product.cuh"

namespace tp {

enum { TENSOR_THREADS = 256, LINE_CHUNKS = 4, STAGES = 3 };

__device__ inline int place_of(int line, int chunk) { return line * LINE_CHUNKS + (chunk ^ ((line >> 1 ^ line >> 3) & 3)); }

/* Lines of a tile on their way to shared memory; elements of SIZE bytes. What is not there is 0. */
template <int LINES, int SIZE, bool COLUMNS> struct Lines;

/* Lines that are rows are copied chunk by chunk, past the registers; chunks at the edge, and those that are not aligned, byte by byte. */
template <int LINES, int SIZE> struct Lines<LINES, SIZE, false> {
    static constexpr int CHUNKS = LINES * LINE_CHUNKS, EACH = CHUNKS / TENSOR_THREADS, COUNT = 16 / SIZE;

    __device__ void fetch(const Operand &from, int64_t first_line, int64_t k, int64_t k_end, uint4 *tile) {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int item = (int)threadIdx.x + e * TENSOR_THREADS, line = item / LINE_CHUNKS, chunk = item % LINE_CHUNKS;
            const int64_t l = first_line + line, depth = k + chunk * COUNT, left = l < from.end ? k_end - depth : 0;
            const char *at = static_cast<const char *>(from.base) + (l * from.stride + depth) * SIZE;
            uint4 *to = tile + place_of(line, chunk);
            if (from.aligned && left >= COUNT)
                tp_copy_async16(to, at);
            else
                *to = gather(at, left);
        }
    }

    __device__ void deliver(uint4 *) const {}

  private:
    static __device__ uint4 gather(const char *at, int64_t left) {
        uint32_t words[4] = {};
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            if (i >= left) break;
            if (SIZE == 4)
                words[i % 4] = reinterpret_cast<const uint32_t *>(at)[i];
            else
                words[i / 4] |= (uint32_t)reinterpret_cast<const uint8_t *>(at)[i] << i % 4 * 8;
        }
        return make_uint4(words[0], words[1], words[2], words[3]);
    }
};

/* Lines that are columns of f32: a thread fetches four rows of one, and makes a chunk of them. */
template <int LINES> struct Lines<LINES, 4, true> {
    static constexpr int CHUNKS = LINES * LINE_CHUNKS, EACH = CHUNKS / TENSOR_THREADS;
    uint32_t held[EACH][4];

    __device__ void fetch(const Operand &from, int64_t first_line, int64_t k, int64_t k_end, uint4 *) {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int item = (int)threadIdx.x + e * TENSOR_THREADS;
            const int64_t l = first_line + item % LINES, depth = k + item / LINES * 4, left = l < from.end ? k_end - depth : 0;
            const uint32_t *at = static_cast<const uint32_t *>(from.base) + depth * from.stride + l;
#pragma unroll
            for (int i = 0; i < 4; i++) held[e][i] = i < left ? at[i * from.stride] : 0;
        }
    }

    __device__ void deliver(uint4 *tile) const {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int item = (int)threadIdx.x + e * TENSOR_THREADS;
            tile[place_of(item % LINES, item / LINES)] = make_uint4(held[e][0], held[e][1], held[e][2], held[e][3]);
        }
    }
};

/*
 * Lines that are columns of bytes: a thread fetches a word of four lines from each of four rows, and transposes them. A warp has 32
 * lines and a chunk: four lanes one below the other, so that it fetches whole sectors of 32 bytes, and stores to all banks.
 */
template <int LINES> struct Lines<LINES, 1, true> {
    static constexpr int CHUNKS = LINES * LINE_CHUNKS, EACH = CHUNKS / TENSOR_THREADS;
    uint32_t held[EACH][4];

    static __device__ int line_of(int item) { return item / TP_WARP % (LINES / TP_WARP) * TP_WARP + item % TP_WARP / 4 * 4; }
    static __device__ int chunk_of(int item) { return item / TP_WARP / (LINES / TP_WARP); }

    __device__ void fetch(const Operand &from, int64_t first_line, int64_t k, int64_t k_end, uint4 *) {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int item = (int)threadIdx.x + e * TENSOR_THREADS;
            const int64_t l = first_line + line_of(item), depth = k + chunk_of(item) * 16 + item % 4 * 4, there = from.end - l;
            const uint8_t *at = static_cast<const uint8_t *>(from.base) + depth * from.stride + l;
#pragma unroll
            for (int i = 0; i < 4; i++, at += from.stride) {
                held[e][i] = 0;
                if (depth + i >= k_end) continue;
                if (from.aligned && there >= 4) {
                    held[e][i] = *reinterpret_cast<const uint32_t *>(at);
                } else {
#pragma unroll
                    for (int b = 0; b < 4; b++)
                        if (b < there) held[e][i] |= (uint32_t)at[b] << 8 * b;
                }
            }
        }
    }

    __device__ void deliver(uint4 *tile) const {
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int item = (int)threadIdx.x + e * TENSOR_THREADS, line = line_of(item), odd = item / 4 % 2;
            const uint32_t(&w)[4] = held[e];
            const uint32_t low01 = __byte_perm(w[0], w[1], 0x5140), low23 = __byte_perm(w[2], w[3], 0x5140);
            const uint32_t high01 = __byte_perm(w[0], w[1], 0x7362), high23 = __byte_perm(w[2], w[3], 0x7362);
            const uint32_t of_line[4] = {__byte_perm(low01, low23, 0x5410), __byte_perm(low01, low23, 0x7632),
                                         __byte_perm(high01, high23, 0x5410), __byte_perm(high01, high23, 0x7632)};
#pragma unroll
            for (int i = 0; i < 4; i++) { /* neighbours store their even and odd lines in turns */
                uint32_t *to = reinterpret_cast<uint32_t *>(tile + place_of(line + (i ^ odd), chunk_of(item)));
                to[item % 4] = odd ? of_line[i ^ 1] : of_line[i];
            }
        }
    }
};

/* Parts of a tile of C that a warp has: 2 x 4 warps, each DOWN times 16 rows and ACROSS times 8 columns. */
template <int DOWN, int ACROSS> struct TensorTile {
    static constexpr int ROWS = 2 * 16 * DOWN, COLUMNS = 4 * 8 * ACROSS;
    static constexpr unsigned STAGE_BYTES = STAGES * (ROWS + COLUMNS) * 64;
};

/* The block's tile. It is in shared memory so that the compiler does not work out early, and keep in registers, what the end alone needs. */
#define TP_PLACE(p, rows, columns)                                                                                    \
    TP_SHARED(Tile, place, [1]);                                                                                      \
    if (threadIdx.x == 0) place[0] = tile_of_block(p, rows, columns);                                                 \
    __syncthreads()

/*
 * Goes along k: calls multiply(tile of A, tile of B) for each 64 bytes of it. Two tiles are on their way while one is worked on. A
 * barrier at the start of a step says that its tiles are there for all threads, and that all have left the step before,
 * whose stage is the next to be filled.
 */
template <int SIZE, class A, class B, class Multiply>
__device__ void along_k(const Product &p, const Tile *place, uint4 *stages, Multiply multiply) {
    constexpr int STEP = 64 / SIZE, A_CHUNKS = A::CHUNKS, B_CHUNKS = B::CHUNKS;
    uint4 *const a_stages = stages, *const b_stages = stages + STAGES * A_CHUNKS;
    A a;
    B b;
    for (int s = 0; s < STAGES - 1; s++) {
        if (s * STEP < p.k) {
            a.fetch(p.a, place->row, s * STEP, p.k, a_stages + s * A_CHUNKS);
            b.fetch(p.b, place->column, s * STEP, p.k, b_stages + s * B_CHUNKS);
            a.deliver(a_stages + s * A_CHUNKS);
            b.deliver(b_stages + s * B_CHUNKS);
        }
        tp_copy_async_commit();
    }
    int stage = 0;
    for (int64_t k = 0; k < p.k; k += STEP) {
        const int filled = stage == 0 ? STAGES - 1 : stage - 1;
        const int64_t ahead = k + (STAGES - 1) * STEP;
        tp_copy_async_wait<STAGES - 2>();
        __syncthreads();
        if (ahead < p.k) {
            a.fetch(p.a, place->row, ahead, p.k, a_stages + filled * A_CHUNKS);
            b.fetch(p.b, place->column, ahead, p.k, b_stages + filled * B_CHUNKS);
        }
        tp_copy_async_commit();
        multiply(a_stages + stage * A_CHUNKS, b_stages + stage * B_CHUNKS);
        if (ahead < p.k) {
            a.deliver(a_stages + filled * A_CHUNKS);
            b.deliver(b_stages + filled * B_CHUNKS);
        }
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }
}

/* Queues a kernel with its stages, which for large tiles are more than a block may have unasked. */
template <class Sizes, class... Arguments>
cudaError_t launch_tiles(const Product &p, cudaStream_t stream, void (*kernel)(Arguments...), const Arguments &...arguments) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)Sizes::STAGE_BYTES);
    const dim3 grid((unsigned)count_tiles(p, Sizes::ROWS, Sizes::COLUMNS));
    return error == cudaSuccess ? tp_launch(stream, kernel, grid, TENSOR_THREADS, Sizes::STAGE_BYTES, arguments...) : error;
}

/* Calls store(row, column, i, j, e) for the pairs of C that this lane has: element e and e + 1 of part i, j, see tp_mma_s8. */
template <int DOWN, int ACROSS, class Store>
__device__ void each_pair(const Product &p, const Tile *place, Store store) {
    using Sizes = TensorTile<DOWN, ACROSS>;
    const int warp = threadIdx.x / TP_WARP, lane = threadIdx.x % TP_WARP;
#pragma unroll
    for (int i = 0; i < DOWN; i++) {
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
            const int64_t row = place->row + warp / 4 * (Sizes::ROWS / 2) + i * 16 + lane / 4 + e * 4;
            if (row >= p.a.end) continue;
#pragma unroll
            for (int j = 0; j < ACROSS; j++) {
                const int64_t column = place->column + warp % 4 * (Sizes::COLUMNS / 4) + j * 8 + lane % 4 * 2;
                if (column < p.b.end) store(row, column, i, j, e);
            }
        }
    }
}

}  // namespace tp

#endif
