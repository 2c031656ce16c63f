/* The emulator finds faults: kernels that are right pass for many seeds, and each fault planted in one is found within a few. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

#include "cuda/kernel.cuh"
#include "nvtx3/nvToolsExt.h"

extern "C" {
#include "support.h"
}

namespace {

/* ---- what tests need ---- */

/* Device memory of n elements. */
template <class T> struct Device {
    T *p = nullptr;
    size_t bytes;
    explicit Device(size_t n) : bytes(n * sizeof(T)) { cudaMalloc(&p, bytes); }
    Device(const std::vector<T> &host) : Device(host.size()) { cudaMemcpy(p, host.data(), bytes, cudaMemcpyHostToDevice); }
    ~Device() { cudaFree(p); }
    /* Zeros if it failed. */
    std::vector<T> read() const {
        std::vector<T> host(bytes / sizeof(T));
        cudaMemcpy(host.data(), p, bytes, cudaMemcpyDeviceToHost);
        return host;
    }
};

struct Version {
    const char *fault;
    bool (*run)();
    bool preempt = false;
};

/* Whether a run gives what it should, without a fault. Then the device is as new. */
bool holds(const Version &v, uint64_t seed) {
    emulator::start("print=0");
    emulator::settings.seed = seed;
    emulator::settings.preempt = v.preempt;
    const bool right = v.run() && cudaDeviceSynchronize() == cudaSuccess;
    cudaDeviceReset();
    return right;
}

/* The first version is right, and holds for 50 seeds; in each other one a fault is planted, which is found within three. */
void planted(const char *name, std::initializer_list<Version> versions) {
    for (const Version &v : versions) {
        const bool right = v.run == versions.begin()->run;
        int held = 0, seeds = right ? 50 : 3;
        for (int seed = 1; seed <= seeds; seed++) held += holds(v, (uint64_t)seed);
        if (right) CHECK(held == seeds, "%s holds for %d of %d seeds: %s", name, held, seeds, emulator::last_fault().c_str());
        if (!right) CHECK(held < seeds, "%s: %s is not found", name, v.fault);
    }
}

/* ---- what is right, unless it has a FAULT ---- */

template <int FAULT> TP_KERNEL(128) sum_kernel(const int *in, int *out, int n) {
    TP_SHARED(int, part, [4]);
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const unsigned mask = FAULT == 4 ? TP_ALL_LANES & ~(1u << 7) : FAULT == 5 && lane == 3 ? TP_ALL_LANES >> 1 : TP_ALL_LANES;
    int sum = 0;
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += (int)(gridDim.x * blockDim.x)) sum += in[i + (FAULT == 3)];
    if (FAULT == 6 && lane == 31) return;
    for (int by = 16; by; by /= 2) sum += __shfl_down_sync(mask, sum, (unsigned)by);
    if (lane == 0) part[warp + (FAULT == 2)] = sum;
    if (FAULT != 1) __syncthreads();
    if (threadIdx.x == 0) atomicAdd(&out[FAULT == 7], part[0] + part[1] + part[2] + part[3]);
    if (FAULT == 8 && threadIdx.x == 0) out[-1] = 0;
}

template <int FAULT> bool run_sum() {
    std::vector<int> in(500);
    int expected = 0;
    for (int i = 0; i < 500; i++) expected += in[(size_t)i] = i * 7 % 1000 - 300;
    Device<int> device(in), out(std::vector<int>(4));
    tp_launch(nullptr, sum_kernel<FAULT>, dim3(3), 128, 0, (const int *)device.p, out.p, 500);
    return out.read()[0] == expected;
}

template <int FAULT> TP_KERNEL(256) transpose_kernel(const float *in, float *out, int rows, int columns) {
    TP_SHARED(float, tile, [16][17]);
    const int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16;
    const int row = (int)blockIdx.y * 16, column = (int)blockIdx.x * 16;
    if (row + y < rows && column + x < columns) tile[y][x + (FAULT == 2)] = in[(row + y) * columns + column + x];
    if (FAULT != 1) __syncthreads();
    if (column + y < columns && row + x < rows) out[(column + y) * rows + row + x + (FAULT == 3)] = tile[x][y];
}

template <int FAULT> bool run_transpose() {
    const int rows = 36, columns = 21;
    std::vector<float> in((size_t)(rows * columns));
    for (size_t i = 0; i < in.size(); i++) in[i] = (float)i;
    Device<float> device(in), out(in.size());
    tp_launch(nullptr, transpose_kernel<FAULT>, dim3(2, 3), 256, 0, (const float *)device.p, out.p, rows, columns);
    const std::vector<float> found = out.read();
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            if (found[(size_t)(c * rows + r)] != in[(size_t)(r * columns + c)]) return false;
    return true;
}

template <int FAULT> TP_KERNEL(64) scan_kernel(int *data) {
    TP_DYNAMIC_SHARED(int, s);
    const int i = (int)threadIdx.x;
    s[i + (FAULT == 3)] = data[i];
    for (int by = 1; by < 64; by *= 2) {
        if (FAULT != 1) __syncthreads();
        const int left = i >= by ? s[i - by] : 0;
        if (FAULT != 2) __syncthreads();
        s[i] += left;
    }
    data[i] = s[i];
}

template <int FAULT> bool run_scan() {
    std::vector<int> in(64);
    for (int i = 0; i < 64; i++) in[(size_t)i] = i * i % 17 + 1;
    Device<int> data(in);
    tp_launch(nullptr, scan_kernel<FAULT>, dim3(1), 64, 256, data.p);
    int sum = 0;
    const std::vector<int> found = data.read();
    for (int i = 0; i < 64; i++)
        if (found[(size_t)i] != (sum += in[(size_t)i])) return false;
    return true;
}

/* A [16, 32] by B [32, 8], through shared memory and tensor cores. */
template <int FAULT> TP_KERNEL(32) product_kernel(const int8_t *a, const int8_t *b_columns, int *d) {
    TP_SHARED(uint32_t, tile, [24][8]);
    const int lane = (int)threadIdx.x, g = lane / 4, t = lane % 4;
    for (int i = lane; i < 128; i += 32) tile[i / 8][i % 8] = reinterpret_cast<const uint32_t *>(a)[i];
    for (int i = lane; i < 64; i += 32) tile[16 + i / 8][i % 8] = reinterpret_cast<const uint32_t *>(b_columns)[i];
    if (FAULT != 1) __syncwarp();
    if (FAULT == 2 && lane == 9) return;
    const uint32_t af[4] = {tile[g][t], tile[g + 8][t], tile[g][t + 4], tile[g + 8][t + (FAULT == 3 ? 3 : 4)]}, bf[2] = {tile[16 + g][t], tile[16 + g][t + 4]};
    int32_t sum[4] = {1, 1, 1, 1};
    tp_mma_s8(sum, af, bf);
    for (int i = 0; i < 4; i++) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sum[i];
}

template <int FAULT> bool run_product() {
    std::vector<int8_t> a(16 * 32), b(8 * 32);
    for (size_t i = 0; i < a.size(); i++) a[i] = (int8_t)(i * 37 + 11);
    for (size_t i = 0; i < b.size(); i++) b[i] = (int8_t)(i * 91 + 5);
    Device<int8_t> da(a), db(b);
    Device<int> d(128);
    tp_launch(nullptr, product_kernel<FAULT>, dim3(1), 32, 0, (const int8_t *)da.p, (const int8_t *)db.p, d.p);
    const std::vector<int> found = d.read();
    for (size_t row = 0; row < 16; row++) {
        for (size_t column = 0; column < 8; column++) {
            int sum = 1;
            for (size_t k = 0; k < 32; k++) sum += a[row * 32 + k] * b[column * 32 + k];
            if (found[row * 8 + column] != sum) return false;
        }
    }
    return true;
}

/* Sums of columns, 64 of 16 bytes, through two buffers: thread i copies chunk i and adds what thread 63 - i copied. */
template <int FAULT> TP_KERNEL(64) pipeline_kernel(const int4 *in, int *out, int rows) {
    TP_SHARED(int4, buffer, [2][64]);
    const int i = (int)threadIdx.x;
    int sum = 0;
    tp_copy_async16(&buffer[0][i], &in[i]);
    tp_copy_async_commit();
    for (int row = 0; row < rows; row++) {
        if (row + 1 < rows) tp_copy_async16(&buffer[(row + 1) % 2][i], &in[(row + 1) * 64 + i]);
        if (FAULT != 2) tp_copy_async_commit();
        if (FAULT != 1) tp_copy_async_wait<FAULT == 3 ? 2 : 1>();
        if (FAULT != 4) __syncthreads();
        const int4 v = buffer[row % 2][63 - i];
        sum += v.x + v.y + v.z + v.w;
        if (FAULT != 5) __syncthreads();
    }
    out[i] = sum;
}

template <int FAULT> bool run_pipeline() {
    const int rows = 5;
    std::vector<int4> in((size_t)rows * 64);
    for (int i = 0; i < rows * 64; i++) in[(size_t)i] = make_int4(i, i * 3, i * i, 1);
    Device<int4> device(in);
    Device<int> out(64);
    tp_launch(nullptr, pipeline_kernel<FAULT>, dim3(1), 64, 0, (const int4 *)device.p, out.p, rows);
    const std::vector<int> found = out.read();
    for (size_t i = 0; i < 64; i++) {
        int sum = 0;
        for (size_t row = 0; row < rows; row++) {
            const int4 v = in[row * 64 + 63 - i];
            sum += v.x + v.y + v.z + v.w;
        }
        if (found[i] != sum) return false;
    }
    return true;
}

/* The last block adds up what the others left, and counts with atomic operations. */
template <int FAULT> TP_KERNEL(32) last_block_kernel(int *parts, unsigned *count, int *out) {
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = (int)blockIdx.x + 1;
        __threadfence();
        const unsigned before = FAULT == 1 ? blockIdx.x : atomicAdd(count, 1u);
        if (before + 1 == gridDim.x) {
            int sum = 0;
            for (unsigned b = 0; b < gridDim.x; b++) sum += parts[b];
            *out = sum;
        }
    }
}

template <int FAULT> bool run_last_block() {
    Device<int> parts(10), out(1);
    Device<unsigned> count(std::vector<unsigned>(1));
    tp_launch(nullptr, last_block_kernel<FAULT>, dim3(10), 32, 0, parts.p, count.p, out.p);
    return out.read()[0] == 55;
}

/* A counter behind a lock; threads lose the processor at fences. */
template <int FAULT> TP_KERNEL(64) lock_kernel(int *count, int *lock) {
    if (FAULT != 1)
        while (atomicCAS(lock, 0, 1)) {}
    const int seen = *count;
    __threadfence();
    *count = seen + 1;
    __threadfence();
    atomicExch(lock, 0);
}

template <int FAULT> bool run_lock() {
    Device<int> count(std::vector<int>(2));
    tp_launch(nullptr, lock_kernel<FAULT>, dim3(2), 64, 0, count.p, count.p + 1);
    return count.read()[0] == 128;
}

/* Two streams that hand data to each other, and a pinned buffer that is used for two things. */
TP_KERNEL(32) add_kernel(int *data, int by) { data[threadIdx.x] += by; }

template <int FAULT> bool run_streams() {
    cudaStream_t copies, kernels;
    cudaEvent_t copied, done;
    cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&kernels, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&copied, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
    int *pinned, *data;
    cudaMallocHost(&pinned, 128);
    cudaMalloc(&data, 128);
    bool right = true;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 32; i++) pinned[i] = i + round;
        if (FAULT == 5) cudaEventRecord(copied, copies);
        cudaMemcpyAsync(data, pinned, 128, cudaMemcpyHostToDevice, copies);
        if (FAULT != 5) cudaEventRecord(copied, copies);
        if (FAULT != 1) cudaStreamWaitEvent(kernels, copied);
        tp_launch(kernels, add_kernel, dim3(1), 32, 0, data, 100);
        cudaEventRecord(done, kernels);
        if (FAULT != 2) cudaEventSynchronize(copied);
        memset(pinned, 0, 128);
        if (FAULT != 3) cudaStreamWaitEvent(copies, done);
        cudaMemcpyAsync(pinned, data, 128, cudaMemcpyDeviceToHost, copies);
        if (FAULT != 4) cudaStreamSynchronize(copies);
        for (int i = 0; i < 32; i++) right &= pinned[i] == i + round + 100;
    }
    return right;
}

/* ---- what ends a launch ---- */

enum Way {
    READ_BEHIND, WRITE_BEFORE, HOST_POINTER, TOUCH_FREED, TOUCH_NULL, MISALIGNED, MISALIGNED_ASYNC, SHARED_BEHIND, SHARED_JUST_BEHIND, SHARED_LARGE, DIVERGENT,
    NOT_IN_MASK, MASKS_DIFFER, OPERATIONS_DIFFER, LANE_ENDED, LANE_AT_BARRIER, LANE_NOT_THERE, OUTSIDE_OF_MASK, STACK, DIVISION, TRAP
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winfinite-recursion"
__attribute__((noinline)) int deep(volatile int *p) {
    volatile int here[256];
    here[0] = *p;
    return deep(here) + here[0];
}
#pragma GCC diagnostic pop

TP_KERNEL(64) wrong_kernel(Way way, int *p, int zero) {
    TP_DYNAMIC_SHARED(char, bytes);
    const int thread = (int)threadIdx.x;
    switch (way) {
    case READ_BEHIND: p[0] = p[4 + zero]; break;
    case WRITE_BEFORE: p[-1 - zero] = 0; break;
    case HOST_POINTER:
    case TOUCH_FREED: p[0] = 1; break;
    case TOUCH_NULL: *p = 1; break;
    case MISALIGNED: *reinterpret_cast<int4 *>(p + 1) = make_int4(0, 0, 0, 0); break;
    case MISALIGNED_ASYNC: tp_copy_async16(bytes + 4, p); break;
    case SHARED_BEHIND: bytes[32] = 1; break;
    case SHARED_JUST_BEHIND: bytes[20] = 1; break;
    case SHARED_LARGE: {
        TP_SHARED(char, first, [40 << 10]);
        TP_SHARED(char, second, [9 << 10]);
        first[0] = second[0] = 0;
        break;
    }
    case DIVERGENT:
        if (thread < 40)
            __syncthreads();
        else
            __syncthreads();
        break;
    case NOT_IN_MASK: __syncwarp(1); break;
    case MASKS_DIFFER: __syncwarp(thread == 5 ? 0xfffffffe : TP_ALL_LANES); break;
    case OPERATIONS_DIFFER:
        if (thread == 6)
            __syncwarp();
        else
            p[0] = __any_sync(TP_ALL_LANES, thread);
        break;
    case LANE_ENDED:
        if (thread != 7) __syncwarp();
        break;
    case LANE_AT_BARRIER:
        if (thread == 8) __syncthreads();
        if (thread != 8) p[0] = __shfl_sync(TP_ALL_LANES, thread, 0);
        break;
    case LANE_NOT_THERE: __syncwarp(); break;
    case OUTSIDE_OF_MASK:
        if (thread < 16) p[0] = __shfl_sync(0xffff, thread, 16);
        break;
    case STACK: p[0] = deep(p); break;
    case DIVISION: p[0] = p[1] / zero; break;
    case TRAP: __trap();
    }
}

/* The launch ends with this error, which stays, and with a fault whose text has these words in it. */
void check_fault(Way way, int threads, const char *words, cudaError_t error) {
    emulator::start("print=0");
    int *p = nullptr;
    int host[4];
    if (way != TOUCH_NULL) cudaMalloc(&p, 16);
    if (way == HOST_POINTER) p = host;
    if (way == TOUCH_FREED) cudaFree(p);
    CHECK(tp_launch(nullptr, wrong_kernel, dim3(1), (unsigned)threads, 20, way, p, 0) == cudaSuccess, "%s: the launch itself is right", words);
    const cudaError_t found = cudaDeviceSynchronize();
    CHECK(found == error, "%s: %s instead of %s", words, cudaGetErrorName(found), cudaGetErrorName(error));
    const std::string text = emulator::last_fault();
    CHECK(text.find(words) != std::string::npos && text.find("wrong_kernel") != std::string::npos, "\"%s\" is not in \"%s\"", words, text.c_str());
    CHECK(cudaGetLastError() == error && cudaGetLastError() == error && cudaMalloc(&p, 16) == error, "%s: the error stays", words);
    CHECK(cudaDeviceReset() == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess && cudaGetLastError() == cudaSuccess, "%s: reset", words);
}

void check_faults() {
    const cudaError_t address = cudaErrorIllegalAddress, misaligned = cudaErrorMisalignedAddress, failure = cudaErrorLaunchFailure;
    check_fault(READ_BEHIND, 1, "0 bytes behind device memory of 16 bytes", address);
    check_fault(WRITE_BEFORE, 1, "wrote outside of device memory of 16 bytes", address);
    check_fault(HOST_POINTER, 1, "is no memory of a device", address);
    check_fault(TOUCH_FREED, 1, "inside of freed device memory", address);
    check_fault(MISALIGNED, 1, "misaligned access", misaligned);
    check_fault(MISALIGNED_ASYNC, 1, "not 16-byte aligned", misaligned);
    check_fault(SHARED_BEHIND, 1, "behind shared memory", address);
    check_fault(SHARED_JUST_BEHIND, 1, "wrote outside of shared array", address);
    check_fault(SHARED_LARGE, 1, "50176 bytes of static shared memory", failure);
    check_fault(DIVERGENT, 64, "the barrier diverges", failure);
    check_fault(NOT_IN_MASK, 2, "lane 1 is not in its mask 00000001", failure);
    check_fault(MASKS_DIFFER, 32, "for lane 5, which waits in __syncwarp", failure);
    check_fault(OPERATIONS_DIFFER, 32, "for lane 6, which waits in __syncwarp", failure);
    check_fault(LANE_ENDED, 32, "for lane 7, which has ended", failure);
    check_fault(LANE_AT_BARRIER, 32, "for lane 8, which waits in __syncthreads", failure);
    check_fault(LANE_NOT_THERE, 16, "for lane 16, which is not there", failure);
    check_fault(OUTSIDE_OF_MASK, 32, "reads lane 16, which mask 0000ffff leaves out", failure);
    check_fault(STACK, 1, "the end of its stack", address);
    check_fault(TRAP, 1, "__trap", failure);
#ifndef __SANITIZE_ADDRESS__ /* whose undefined behaviour is a trap of its own */
    check_fault(TOUCH_NULL, 1, "writes (nil)", address);
    check_fault(DIVISION, 1, "integer division", failure);
#endif
}

/* ---- what operations give ---- */

TP_KERNEL(32) lanes_kernel(unsigned *out) {
    const unsigned lane = threadIdx.x, all = TP_ALL_LANES;
    unsigned *o = out + lane * 32;
    *o++ = __shfl_sync(all, lane, 5);
    *o++ = __shfl_sync(all, lane, 9, 8);
    *o++ = __shfl_up_sync(all, lane, 3, 16);
    *o++ = __shfl_down_sync(all, lane, 3, 16);
    *o++ = __shfl_xor_sync(all, lane, 5);
    *o++ = __shfl_xor_sync(all, lane, 8, 8);
    *o++ = (unsigned)(__shfl_sync(all, (long long)lane << 33, 7) >> 33);
    *o++ = (unsigned)__shfl_xor_sync(all, lane + 0.5, 1);
    *o++ = __ballot_sync(all, lane % 3 == 0);
    *o++ = (unsigned)__any_sync(all, lane == 4);
    *o++ = (unsigned)__all_sync(all, lane < 31);
    *o++ = __reduce_add_sync(all, lane);
    *o++ = (unsigned)__reduce_min_sync(all, (int)lane - 9);
    *o++ = __reduce_max_sync(all, lane);
    *o++ = __reduce_xor_sync(all, 1u << lane | 1u);
    *o++ = __match_any_sync(all, lane / 2);
    *o++ = (unsigned)__syncthreads_count(lane % 5 == 0);
    *o++ = (unsigned)__syncthreads_or(lane == 9);
    *o++ = (unsigned)__syncthreads_and(lane != 9);
    *o++ = lane < 8 ? __reduce_or_sync(0xff, 1u << lane) : __reduce_and_sync(0xffffff00, ~lane);
}

void check_lanes() {
    emulator::start("");
    std::vector<unsigned> found;
    {
        Device<unsigned> out(32 * 32);
        tp_launch(nullptr, lanes_kernel, dim3(1), 32, 0, out.p);
        found = out.read();
    }
    for (unsigned l = 0; l < 32; l++) {
        const unsigned expected[] = {5,
                                     l / 8 * 8 + 1,
                                     l % 16 < 3 ? l : l - 3,
                                     l % 16 > 12 ? l : l + 3,
                                     l ^ 5,
                                     l / 8 % 2 ? l ^ 8 : l,
                                     7,
                                     l ^ 1,
                                     0x49249249,
                                     1,
                                     0,
                                     496,
                                     (unsigned)-9,
                                     31,
                                     0xfffffffe,
                                     3u << l / 2 * 2,
                                     7,
                                     1,
                                     0,
                                     l < 8 ? 0xff : ~31u};
        for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++)
            CHECK(found[l * 32 + i] == expected[i], "lane %u, result %u: %x instead of %x", l, i, found[l * 32 + i], expected[i]);
    }
}

TP_KERNEL(32) tensor_kernel(const float *a, const float *b, float *d, const double *a64, const double *b64, double *d64) {
    const int lane = (int)threadIdx.x, g = lane / 4, t = lane % 4;
    const uint32_t af[4] = {__float_as_uint(a[g * 8 + t]), __float_as_uint(a[(g + 8) * 8 + t]), __float_as_uint(a[g * 8 + t + 4]),
                            __float_as_uint(a[(g + 8) * 8 + t + 4])};
    const uint32_t bf[2] = {__float_as_uint(b[t * 8 + g]), __float_as_uint(b[(t + 4) * 8 + g])};
    float sum[4] = {1, 1, 1, 1};
    tp_mma_tf32(sum, af, bf);
    for (int i = 0; i < 4; i++) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sum[i];
    double sum64[2] = {1, 1};
    tp_mma_f64(sum64, a64[g * 4 + t], b64[t * 8 + g]);
    d64[g * 8 + 2 * t] = sum64[0];
    d64[g * 8 + 2 * t + 1] = sum64[1];
}

/* Integers, so that every order of sums gives the same; bits that TF32 lacks are ignored. */
void check_tensors() {
    emulator::start("");
    std::vector<float> a(16 * 8), b(8 * 8), d;
    std::vector<double> a64(8 * 4), b64(4 * 8), d64;
    for (float &x : a) x = (float)random_below(1000);
    for (float &x : b) x = (float)random_below(1000);
    for (double &x : a64) x = (double)random_below(1000000);
    for (double &x : b64) x = (double)random_below(1000000);
    std::vector<float> more = a;
    for (float &x : more) x = __uint_as_float(__float_as_uint(x) | 0x1fff);
    {
        Device<float> da(more), db(b), dd(16 * 8);
        Device<double> da64(a64), db64(b64), dd64(64);
        tp_launch(nullptr, tensor_kernel, dim3(1), 32, 0, (const float *)da.p, (const float *)db.p, dd.p, (const double *)da64.p, (const double *)db64.p, dd64.p);
        d = dd.read();
        d64 = dd64.read();
    }
    for (size_t r = 0; r < 16; r++) {
        for (size_t c = 0; c < 8; c++) {
            double sum = 1, sum64 = 1;
            for (size_t k = 0; k < 8; k++) sum += a[r * 8 + k] * b[k * 8 + c];
            for (size_t k = 0; k < 4 && r < 8; k++) sum64 += a64[r * 4 + k] * b64[k * 8 + c];
            CHECK(d[r * 8 + c] == sum, "tf32 [%zu, %zu]: %g instead of %g", r, c, d[r * 8 + c], sum);
            if (r < 8) CHECK(d64[r * 8 + c] == sum64, "f64 [%zu, %zu]: %g instead of %g", r, c, d64[r * 8 + c], sum64);
        }
    }
}

/* By the CUDA Math API's words. */
void check_functions() {
    CHECK(__byte_perm(0x33221100, 0x77665544, 0x7402) == 0x77440022 && __byte_perm(0x33221100, 0x77665544, 0xf531) == 0x77553311, "__byte_perm");
    CHECK(__funnelshift_l(0x80000001, 0x12345678, 4) == 0x23456788 && __funnelshift_l(1, 2, 32) == 2, "__funnelshift_l");
    CHECK(__funnelshift_r(0x80000001, 0x12345678, 4) == 0x88000000 && __funnelshift_r(1, 2, 32) == 1, "__funnelshift_r");
    CHECK(__brev(0x80000006) == 0x60000001, "__brev");
    CHECK(__clz(0) == 32 && __clz(1) == 31 && __clz(-1) == 0 && __clzll(1) == 63 && __clzll(0) == 64, "__clz");
    CHECK(__ffs(0) == 0 && __ffs(8) == 4 && __ffsll(1ll << 40) == 41 && __popc(0xf0f) == 8 && __popcll(~0ull) == 64, "__ffs, __popc");
    CHECK(__dp4a(0x01ff7f80, 0x02037f80, 5) == 2 - 3 + 127 * 127 + 128 * 128 + 5, "__dp4a");
    CHECK(__dp4a(0x01ff7f80u, 0x02037f80u, 5u) == 2 + 255 * 3 + 127 * 127 + 128 * 128 + 5, "__dp4a of unsigned");
    CHECK(__umulhi(0xffffffff, 0xffffffff) == 0xfffffffe && __mulhi(-1, 1) == -1 && __umul64hi(~0ull, 2) == 1, "__umulhi");
    CHECK(__mul24(0x1000003, -2) == -6 && __mul24(0xffffff, 3) == -3, "__mul24");
    CHECK(__float2int_rn(2.5f) == 2 && __float2int_rn(-3.5f) == -4 && __float2int_rz(-3.9f) == -3 && __float2int_rd(-3.1f) == -4, "__float2int");
    CHECK(__float2int_rn(3e9f) == 0x7fffffff && __float2int_rn(-INFINITY) == -0x7fffffff - 1 && __float2int_rn(NAN) == 0, "__float2int at its ends");
    CHECK(__float2uint_rn(-1) == 0 && __float2uint_rn(5e9f) == 0xffffffff && __float2uint_rn(4294967040.0f) == 4294967040u, "__float2uint_rn");
    CHECK(__double2ll_rn(1e19) == INT64_MAX && __double2ll_rn(-1e19) == INT64_MIN && __double2ll_rn(NAN) == INT64_MIN && __double2ll_rn(0x1p62) == 1ll << 62,
          "__double2ll_rn");
    CHECK(__double2int_rn(2147483647.5) == 0x7fffffff && __double2int_rn(-2147483648.0) == -0x7fffffff - 1, "__double2int_rn");
    CHECK(__saturatef(NAN) == 0 && __saturatef(2) == 1 && __saturatef(0.25f) == 0.25f && max(NAN, 1.0f) == 1 && min(-1, 2) == -1, "limits");
    CHECK(__fmaf_rn(1 + 0x1p-12f, 1 + 0x1p-12f, -1) == 0x1p-11f + 0x1p-24f, "__fmaf_rn");
    CHECK(__hiloint2double(__double2hiint(-0.1), __double2loint(-0.1)) == -0.1 && __longlong_as_double(__double_as_longlong(0.3)) == 0.3, "halves");
}

/* ---- the runtime ---- */

void check_devices() {
    int n = -1;
    emulator::start("devices=2,cc=7.5,sms=3,memory=1M");
    cudaDeviceProp p;
    CHECK(cudaGetDeviceCount(&n) == cudaSuccess && n == 2 && cudaSetDevice(1) == cudaSuccess && cudaSetDevice(2) == cudaErrorInvalidDevice, "two devices");
    CHECK(cudaGetDeviceProperties(&p, 1) == cudaSuccess && p.major == 7 && p.minor == 5 && p.multiProcessorCount == 3 && p.totalGlobalMem == 1 << 20,
          "properties");
    cudaSetDevice(0);
    emulator::start("devices=0");
    CHECK(cudaGetDeviceCount(&n) == cudaErrorNoDevice && n == 0, "no device");
    emulator::start("driver=0");
    CHECK(cudaGetDeviceCount(&n) == cudaErrorInsufficientDriver && cudaDriverGetVersion(&n) == cudaSuccess && n == 0, "no driver");
    emulator::start("driver=old");
    CHECK(cudaFree(nullptr) == cudaErrorInsufficientDriver && cudaDriverGetVersion(&n) == cudaSuccess && n == 11080, "old driver");
    for (const char *visible : {"", "-1", "0", "1,0", "1,5,0", "nonsense"}) {
        setenv("CUDA_VISIBLE_DEVICES", visible, 1);
        emulator::start("devices=2");
        cudaGetDeviceCount(&n);
        const int expected = !strcmp(visible, "1,0") ? 2 : *visible == '0' || *visible == '1';
        CHECK(n == expected, "CUDA_VISIBLE_DEVICES=%s: %d devices", visible, n);
    }
    unsetenv("CUDA_VISIBLE_DEVICES");
    emulator::start("");
}

void check_errors() {
    void *p, *q;
    emulator::start("memory=1M,print=0");
    CHECK(cudaMalloc(&p, 600 << 10) == cudaSuccess && cudaMalloc(&q, 600 << 10) == cudaErrorMemoryAllocation && !q, "memory ends");
    size_t free, total;
    CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess && free == 424 << 10 && total == 1 << 20, "free memory");
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess, "the last error");
    CHECK(cudaFreeHost(p) == cudaErrorInvalidValue && cudaFree(p) == cudaSuccess && cudaFree(p) == cudaErrorInvalidValue, "freeing");
    emulator::start("fail=2");
    CHECK(cudaMalloc(&p, 16) == cudaSuccess && cudaMalloc(&q, 16) == cudaErrorMemoryAllocation && cudaMalloc(&q, 16) == cudaSuccess, "the second call fails");
    CHECK(emulator::calls() == 3 && emulator::live() == 2, "%ld calls, %ld live", emulator::calls(), emulator::live());
    emulator::start("lost=2");
    CHECK(cudaFree(p) == cudaSuccess && cudaDeviceSynchronize() == cudaErrorECCUncorrectable, "the second call finds the device lost");
    CHECK(cudaFree(q) == cudaErrorECCUncorrectable && emulator::live() == 0, "what is given back is gone");
    CHECK(cudaGetLastError() == cudaErrorECCUncorrectable && cudaStreamSynchronize(nullptr) == cudaErrorECCUncorrectable, "and stays lost");
    emulator::start("print=0");
    int *in, host[8];
    cudaMalloc(&in, 32);
    CHECK(cudaMemcpyAsync(in, host, 32, cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "pageable");
    CHECK(emulator::last_fault().find("is not pinned") != std::string::npos, "%s", emulator::last_fault().c_str());
    emulator::settings.pageable = true;
    CHECK(cudaMemcpyAsync(in, host, 32, cudaMemcpyHostToDevice) == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess, "pageable, let through");
    CHECK(cudaMemcpy(in, host, 33, cudaMemcpyHostToDevice) == cudaErrorInvalidValue && cudaMemcpy(in + 8, host, 1, cudaMemcpyDefault) == cudaErrorInvalidValue &&
              cudaMemset(in + 1, 0, 32) == cudaErrorInvalidValue, "copies past the end");
    CHECK(cudaMemcpy(in, host, 8, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue && cudaMemcpy(host, host + 4, 8, cudaMemcpyHostToDevice) == cudaErrorInvalidValue,
          "copies the wrong way");
    CHECK(tp_launch(nullptr, add_kernel, dim3(0), 32, 0, in, 1) == cudaErrorInvalidConfiguration && tp_launch(nullptr, add_kernel, dim3(1), 1025, 0, in, 1) == cudaErrorInvalidConfiguration &&
              tp_launch(nullptr, add_kernel, dim3(1, 65536), 32, 0, in, 1) == cudaErrorInvalidConfiguration, "sizes of launches");
#ifdef __x86_64__
    cudaFuncAttributes attributes;
    CHECK(tp_launch(nullptr, wrong_kernel, dim3(1), 65, 0, TRAP, in, 0) == cudaErrorInvalidValue && cudaFuncGetAttributes(&attributes, sum_kernel<1>) == cudaSuccess &&
              attributes.maxThreadsPerBlock == 128, "more threads than a kernel is made for");
#endif
    const size_t most = 227 << 10;
    CHECK(tp_launch(nullptr, add_kernel, dim3(1), 8, most, in, 1) == cudaErrorInvalidValue, "shared memory that was not asked for");
    CHECK(cudaFuncSetAttribute(add_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)most + 1) == cudaErrorInvalidValue, "too much shared memory");
    CHECK(cudaFuncSetAttribute(add_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)most) == cudaSuccess &&
              tp_launch(nullptr, add_kernel, dim3(1), 8, most, in, 1) == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess, "shared memory that was asked for");
    cudaStream_t stream;
    cudaStreamCreate(&stream);
    CHECK(cudaStreamDestroy(stream) == cudaSuccess && cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle, "a stream that is gone");
    cudaDeviceReset();
    CHECK(emulator::live() == 0 && emulator::launches() == 1, "%ld live, %ld launches", emulator::live(), emulator::launches());
    CHECK(!strcmp(cudaGetErrorName(cudaErrorIllegalAddress), "cudaErrorIllegalAddress") && !strcmp(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory"), "names");
}

void check_streams() {
    emulator::start("");
    int *pinned, *data;
    cudaStream_t stream;
    cudaEvent_t begin, end, untimed;
    cudaStreamCreate(&stream);
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming);
    cudaMallocHost(&pinned, 128);
    cudaMalloc(&data, 128);
    memset(pinned, 0, 128);
    CHECK(cudaEventQuery(begin) == cudaSuccess, "an event that was never recorded");
    cudaEventRecord(begin, stream);
    cudaMemsetAsync(data, 1, 128, stream);
    cudaMemcpyAsync(pinned, data, 128, cudaMemcpyDeviceToHost, stream);
    cudaEventRecord(end, stream);
    CHECK(pinned[0] == 0, "nothing runs before it is waited for");
    CHECK(cudaStreamQuery(stream) == cudaErrorNotReady && cudaEventQuery(end) == cudaErrorNotReady && cudaGetLastError() == cudaSuccess, "not ready");
    while (cudaEventQuery(end) == cudaErrorNotReady) {}
    float time = -1;
    CHECK(pinned[31] == 0x01010101 && cudaEventElapsedTime(&time, begin, end) == cudaSuccess && time >= 0, "ready after %g ms", time);
    cudaEventRecord(untimed, stream);
    CHECK(cudaEventElapsedTime(&time, begin, untimed) == cudaErrorInvalidResourceHandle, "an event without a time");
    for (int i = 0; i < 20; i++) { /* the default stream and those that block take turns */
        tp_launch(nullptr, add_kernel, dim3(1), 32, 0, data, 1);
        cudaMemcpyAsync(pinned, data, 128, cudaMemcpyDeviceToHost, stream);
        cudaStreamSynchronize(stream);
        CHECK(pinned[5] == 0x01010102 + i, "the default stream went first");
        cudaMemsetAsync(data, 2, 128, stream);
        cudaMemcpy(pinned, data, 128, cudaMemcpyDeviceToHost);
        CHECK(pinned[5] == 0x02020202, "the other stream went first");
        cudaMemset(data, 1, 128);
        tp_launch(nullptr, add_kernel, dim3(1), 32, 0, data, i + 1);
    }
    cudaPointerAttributes at;
    CHECK(cudaPointerGetAttributes(&at, data + 31) == cudaSuccess && at.type == cudaMemoryTypeDevice && at.device == 0 && at.devicePointer == data + 31, "device");
    CHECK(cudaPointerGetAttributes(&at, pinned) == cudaSuccess && at.type == cudaMemoryTypeHost && at.hostPointer == pinned, "pinned");
    CHECK(cudaPointerGetAttributes(&at, &at) == cudaSuccess && at.type == cudaMemoryTypeUnregistered, "neither");
    cudaMemcpy2D(pinned, 16, data, 32, 8, 4, cudaMemcpyDeviceToHost);
    CHECK(pinned[4] == 0x01010115 && pinned[2] == 0x02020202, "rows: %x, between them %x", pinned[4], pinned[2]);
    /* The host may not look at the device's memory. */
    const pid_t child = fork();
    if (!child) {
        signal(SIGSEGV, [](int) { _exit(99); });
        _exit(*(volatile int *)data & 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 99, "the host reads memory of the device");
    cudaDeviceReset();
}

/* Several threads of the host, each with a stream of its own. */
void check_threads() {
    emulator::start("");
    auto body = [](void *) -> void * {
        bool right = true;
        for (int i = 0; i < 20; i++) right &= run_pipeline<0>() && run_sum<0>();
        return right ? nullptr : const_cast<char *>("wrong");
    };
    pthread_t threads[4];
    for (pthread_t &t : threads) pthread_create(&t, nullptr, body, nullptr);
    for (pthread_t &t : threads) {
        void *wrong;
        pthread_join(t, &wrong);
        CHECK(!wrong, "threads of the host");
    }
    cudaDeviceReset();
}

void check_ranges() {
    emulator::start("");
    CHECK(nvtxRangePushA("outer") == 0 && nvtxRangePushA("inner") == 1 && nvtxRangePop() == 1 && nvtxRangePop() == 0 && nvtxRangePop() < 0, "depths");
    CHECK((emulator::ranges() == std::vector<std::string>{"outer", "inner", "/", "/"}), "names");
}

}  // namespace

int main() {
    test_start("test_emulator");
    planted("sum", {{"", run_sum<0>},
                    {"a barrier that is missing", run_sum<1>},
                    {"an index of shared memory, shifted", run_sum<2>},
                    {"an index of what is read, shifted", run_sum<3>},
                    {"a lane that the mask lacks", run_sum<4>},
                    {"a mask that differs", run_sum<5>},
                    {"a lane that ended", run_sum<6>},
                    {"an index of what is written, shifted", run_sum<7>},
                    {"a write in front of an array", run_sum<8>}});
    planted("transpose", {{"", run_transpose<0>},
                          {"a barrier that is missing", run_transpose<1>},
                          {"an index of shared memory, shifted", run_transpose<2>},
                          {"an index of what is written, shifted", run_transpose<3>}});
    planted("scan", {{"", run_scan<0>},
                     {"no barrier before reading", run_scan<1>},
                     {"no barrier before writing", run_scan<2>},
                     {"an index of shared memory, shifted", run_scan<3>}});
    planted("product", {{"", run_product<0>},
                        {"no barrier of the warp", run_product<1>},
                        {"a lane that ended", run_product<2>},
                        {"an index of shared memory, shifted", run_product<3>}});
    planted("pipeline", {{"", run_pipeline<0>},
                         {"no wait for the copy", run_pipeline<1>},
                         {"no commit", run_pipeline<2>},
                         {"a wait that leaves one more", run_pipeline<3>},
                         {"no barrier behind the wait", run_pipeline<4>},
                         {"a buffer that is filled too early", run_pipeline<5>}});
    planted("last block", {{"", run_last_block<0>}, {"an order of blocks that is taken for granted", run_last_block<1>}});
    planted("lock", {{"", run_lock<0>, true}, {"no lock", run_lock<1>, true}});
    planted("streams", {{"", run_streams<0>},
                        {"a kernel that does not wait for its input", run_streams<1>},
                        {"a buffer that is used again too early", run_streams<2>},
                        {"a copy that does not wait for the kernel", run_streams<3>},
                        {"a result that is read too early", run_streams<4>},
                        {"an event that is recorded too early", run_streams<5>}});
    check_faults();
    check_lanes();
    check_tensors();
    check_functions();
    check_devices();
    check_errors();
    check_streams();
    check_threads();
    check_ranges();
    return test_end();
}
