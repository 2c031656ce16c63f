/*
 * What device code is written in. Kernels use CUDA C++ as it is, but for what the emulator in native/test/emulator cannot know by
 * name: shared memory is declared through TP_SHARED and TP_DYNAMIC_SHARED, instructions of PTX are behind the inline functions
 * here, and launches go through tp_launch. So the same files compile as C++ for the processor, where tests run them.
 */
#ifndef TP_CUDA_KERNEL_CUH
#define TP_CUDA_KERNEL_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include <utility>

#include "core/scalar.h"

enum { TP_WARP = 32 };
constexpr unsigned TP_ALL_LANES = 0xffffffffu;

/* A kernel for blocks of so many threads; docs/cuda-kernels.md has a line for each. */
#define TP_KERNEL(threads) __global__ void __launch_bounds__(threads)

#ifdef TP_CUDA_EMULATED
#include "emulator.h"
#else

/* Shared memory of a block: TP_SHARED(float, tile, [8][33]). */
#define TP_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
/* The shared memory whose size the launch says, 16-byte aligned, as an array of `type`. */
#define TP_DYNAMIC_SHARED(type, name)                                                                                 \
    extern __shared__ __align__(16) unsigned char tp_dynamic_shared[];                                                \
    type *const name = reinterpret_cast<type *>(tp_dynamic_shared)

/* Starts a copy of 16 bytes from global to shared memory, both 16-byte aligned; it is there after commit and wait, and to the
   other threads of the block after a barrier behind that. */
__device__ __forceinline__ void tp_copy_async16(void *shared, const void *global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(shared)), "l"(global)
                 : "memory");
}
__device__ __forceinline__ void tp_copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until all but the last `pending` groups of this thread are there. */
template <int pending> __device__ __forceinline__ void tp_copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/*
 * d += A B on tensor cores, by all lanes of a warp: A [16, 32] and B [32, 8] of int8, d [16, 8] of int32, exact modulo 2^32.
 * Lane l has, with g = l / 4 and t = l % 4, four elements to a register: a[0], a[2] of row g, a[1], a[3] of row g + 8, columns
 * 4 t .. (a[0], a[1]) and 16 + 4 t .. (a[2], a[3]); b[0], b[1] of column g, rows 4 t .. and 16 + 4 t ..; d[0], d[1] of row g and
 * d[2], d[3] of row g + 8, columns 2 t and 2 t + 1. (PTX ISA, mma.m16n8k32)
 */
__device__ __forceinline__ void tp_mma_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/*
 * d += A B: A [16, 8] and B [8, 8] of TF32 (the bits of an f32, whose lower 13 are ignored), d [16, 8] of f32. Lane l has, with g
 * and t as above, a[0] = A[g, t], a[1] = A[g + 8, t], a[2] = A[g, t + 4], a[3] = A[g + 8, t + 4]; b[0] = B[t, g],
 * b[1] = B[t + 4, g]; d as above. Order and rounding of the sum are the hardware's. (PTX ISA, mma.m16n8k8)
 */
__device__ __forceinline__ void tp_mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/*
 * d += A B in f64: A [8, 4], B [4, 8], d [8, 8]. Lane l has a = A[g, t], b = B[t, g], d[0], d[1] = D[g, 2 t], D[g, 2 t + 1].
 * (PTX ISA, mma.m8n8k4)
 */
__device__ __forceinline__ void tp_mma_f64(double (&d)[2], double a, double b) {
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
                 : "+d"(d[0]), "+d"(d[1])
                 : "d"(a), "d"(b));
}

#endif

/* An f16 as f32 in one instruction; which NaN a NaN becomes is its choice. */
__device__ __forceinline__ float tp_widen_f16(uint16_t h) {
#ifdef TP_CUDA_EMULATED
    return tp_f32_of_f16(h);
#else
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
#endif
}

/* From here on the compiler knows nothing of x: what it has made of it is made again and not held in registers. */
__device__ __forceinline__ void tp_forget(uint32_t &x) {
#ifdef TP_CUDA_EMULATED
    (void)x;
#else
    asm volatile("" : "+r"(x));
#endif
}

/* Queues a kernel; what is wrong with the launch itself is the result. */
template <class... Parameters, class... Arguments>
cudaError_t tp_launch(cudaStream_t stream, void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared_bytes,
                      Arguments &&...arguments) {
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

#endif
