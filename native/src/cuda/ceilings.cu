/* What no kernel of this device can pass: its memory, and its tensor cores. */
#include <algorithm>

#include "core/checks.h"
#include "cuda/device.h"

using namespace tp;

namespace {

enum { THREADS = 256, ROUNDS = 9, PRODUCTS = 8, STEPS = 4096, PRODUCT_OPERATIONS = 2 * 16 * 8 * 32 };

TP_KERNEL(THREADS) copy_16_bytes(const uint4 *__restrict__ in, uint4 *__restrict__ out, int64_t n) {
    const int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += step) out[i] = in[i];
}

/* Independent products, enough that none waits for another one. */
TP_KERNEL(THREADS) multiply_in_registers(int steps, int32_t *out) {
    int32_t d[PRODUCTS][4] = {};
    uint32_t a[4], b[2];
    for (int i = 0; i < 4; i++) a[i] = threadIdx.x * 0x01010101u + i;
    for (int i = 0; i < 2; i++) b[i] = threadIdx.x + i;
    for (int s = 0; s < steps; s++) {
#pragma unroll
        for (int p = 0; p < PRODUCTS; p++) tp_mma_s8(d[p], a, b);
    }
    int32_t sum = 0;
#pragma unroll
    for (int p = 0; p < PRODUCTS; p++) sum += d[p][0] + d[p][1] + d[p][2] + d[p][3];
    out[(int64_t)blockIdx.x * THREADS + threadIdx.x] = sum; /* so that the compiler keeps it */
}

/* The median time of what `queue` does, after once for nothing. */
template <class Queue> tp_status median(tp_cuda *cuda, cudaEvent_t (&events)[2], Queue queue, double *seconds) {
    float times[ROUNDS];
    cudaStream_t stream = cuda->streams[tp_cuda::COMPUTE];
    TRY_CUDA(cuda, queue(stream, 0));
    for (int i = 0; i < ROUNDS; i++) {
        TRY_CUDA(cuda, cudaEventRecord(events[0], stream));
        TRY_CUDA(cuda, queue(stream, i));
        TRY_CUDA(cuda, cudaEventRecord(events[1], stream));
        TRY_CUDA(cuda, cudaEventSynchronize(events[1]));
        TRY_CUDA(cuda, cudaEventElapsedTime(&times[i], events[0], events[1]));
    }
    std::sort(times, times + ROUNDS);
    *seconds = times[ROUNDS / 2] * 1e-3;
    return TP_OK;
}

/* Both figures with memory of `bytes` each for what is read and written. */
tp_status measure(tp_cuda *cuda, char *in, char *out, int64_t bytes, cudaEvent_t (&events)[2], double *copy_bytes,
                  double *int8_operations) {
    const unsigned blocks = (unsigned)cuda->multiprocessors * 8;
    double seconds = 0;
    TRY_CUDA(cuda, cudaMemsetAsync(in, 0, (size_t)bytes, cuda->streams[tp_cuda::COMPUTE]));
    TRY(median(cuda, events, [&](cudaStream_t stream, int) {
        return tp_launch(stream, copy_16_bytes, dim3(blocks), THREADS, 0, reinterpret_cast<const uint4 *>(in), reinterpret_cast<uint4 *>(out),
                         bytes / 16);
    }, &seconds));
    *copy_bytes = 2.0 * (double)bytes / seconds;
    const int steps = (int)std::clamp<int64_t>(bytes >> 18, 1, STEPS);
    TRY(median(cuda, events, [&](cudaStream_t stream, int) {
        return tp_launch(stream, multiply_in_registers, dim3(blocks), THREADS, 0, steps, reinterpret_cast<int32_t *>(out));
    }, &seconds));
    *int8_operations = (double)blocks * (THREADS / TP_WARP) * steps * PRODUCTS * PRODUCT_OPERATIONS / seconds;
    return TP_OK;
}

}  // namespace

tp_status tp_cuda_ceilings(tp_cuda *cuda, double *copy_bytes, double *int8_operations) {
    if (!cuda || !copy_bytes || !int8_operations) return TP_ERR_ARGUMENT;
    if (cuda->lost) return TP_ERR_DEVICE_LOST;
    return guarded([&] {
        TRY_CUDA(cuda, cudaSetDevice(cuda->index));
        /* Far beyond the cache, if there is so much; the results of the products have to fit as well. */
        const int64_t least = (int64_t)cuda->multiprocessors * 8 * THREADS * 4;
        const int64_t bytes = std::max(least, std::min<int64_t>(INT64_C(1) << 30, (cuda->budget - cuda->now) / 4)) / 16 * 16;
        cudaEvent_t events[2] = {};
        char *in = nullptr, *out = nullptr;
        tp_status status = cuda->take(bytes, false, &in);
        if (status == TP_OK) status = cuda->take(bytes, false, &out);
        for (cudaEvent_t &event : events) {
            const cudaError_t error = status == TP_OK ? cudaEventCreate(&event) : cudaSuccess;
            if (error != cudaSuccess) status = cuda->fail(error, "cudaEventCreate");
        }
        if (status == TP_OK) status = measure(cuda, in, out, bytes, events, copy_bytes, int8_operations);
        for (cudaEvent_t event : events)
            if (event) cudaEventDestroy(event);
        if (in) cuda->give(in);
        if (out) cuda->give(out);
        return status;
    });
}
