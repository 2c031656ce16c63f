/* Devices: which there are, opening and closing one, its memory, its errors and times. */
#include "cuda/device.h"

#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <string.h>

#include <new>

#include "core/checks.h"

using namespace tp;

namespace {

enum { OLDEST_MAJOR = 8 };

/* What the last function without a tp_cuda met. */
thread_local char last_message[256];

void say(char (&to)[256], cudaError_t error, const char *what) {
    const char *end = strchr(what, '(');
    snprintf(to, sizeof to, "%s: %s (%.*s)", cudaGetErrorName(error), cudaGetErrorString(error),
             (int)(end ? end - what : (long)strlen(what)), what);
}

int32_t state_of(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return TP_CUDA_USABLE;
    /* Without a driver the runtime finds version 0 of it. */
    case cudaErrorInsufficientDriver: {
        int version = 0;
        return cudaDriverGetVersion(&version) == cudaSuccess && version ? TP_CUDA_OLD_DRIVER : TP_CUDA_NO_DRIVER;
    }
    case cudaErrorNoDevice: return TP_CUDA_NO_DEVICE;
    default: return TP_CUDA_BROKEN;
    }
}

/* The number of devices, and what keeps them from being used. */
int32_t probe(int *count) {
    *count = 0;
    last_message[0] = 0;
    const cudaError_t error = cudaGetDeviceCount(count);
    if (error != cudaSuccess) {
        cudaGetLastError();
        *count = 0;
        say(last_message, error, "cudaGetDeviceCount");
    } else if (*count == 0) {
        return TP_CUDA_NO_DEVICE;
    }
    return state_of(error);
}

int32_t describe(int32_t index, tp_cuda_device *d) {
    int count;
    const int32_t state = probe(&count);
    if (state != TP_CUDA_USABLE) return state;
    if (index < 0 || index >= count) return TP_CUDA_NO_DEVICE;
    cudaDeviceProp properties;
    cudaError_t error = cudaGetDeviceProperties(&properties, index);
    if (error == cudaSuccess) {
        snprintf(d->name, sizeof d->name, "%s", properties.name);
        d->major = properties.major;
        d->minor = properties.minor;
        d->multiprocessors = properties.multiProcessorCount;
        d->memory_bytes = (int64_t)properties.totalGlobalMem;
        d->l2_bytes = properties.l2CacheSize;
        error = cudaDriverGetVersion(&d->driver);
    }
    if (error == cudaSuccess) error = cudaRuntimeGetVersion(&d->runtime);
    if (error == cudaSuccess && d->major < OLDEST_MAJOR) return TP_CUDA_OLD_DEVICE;
    size_t free = 0, total;
    if (error == cudaSuccess) error = cudaSetDevice(index);
    if (error == cudaSuccess) error = cudaMemGetInfo(&free, &total);
    d->free_bytes = (int64_t)free;
    if (error != cudaSuccess) {
        cudaGetLastError();
        say(last_message, error, "cudaGetDeviceProperties");
    }
    return error == cudaSuccess ? TP_CUDA_USABLE : TP_CUDA_BROKEN;
}

}  // namespace

/* ---- errors ---- */

/* What CUDA says may be of an earlier kernel: if the streams end well, the device goes on working. */
tp_status tp_cuda::fail(cudaError_t error, const char *what) {
    say(message, error, what);
    cudaGetLastError();
    for (cudaStream_t stream : streams)
        if (stream && cudaStreamSynchronize(stream) != cudaSuccess) lost = true;
    cudaGetLastError();
    return lost ? TP_ERR_DEVICE_LOST : error == cudaErrorMemoryAllocation ? TP_ERR_MEMORY : TP_ERR_DEVICE;
}

tp_status tp_cuda::out_of_memory(int64_t bytes) {
    snprintf(message, sizeof message, "%lld bytes of device memory do not fit: %lld of %lld are taken", (long long)bytes, (long long)now,
             (long long)budget);
    return TP_ERR_MEMORY;
}

/* ---- memory ---- */

tp_status tp_cuda::take(int64_t bytes, bool pinned, char **memory) {
    *memory = nullptr;
    if (bytes <= 0) bytes = 1;
    for (Block &b : blocks) {
        if (!b.used && b.pinned == pinned && b.bytes >= bytes && b.bytes - bytes <= bytes / 4) {
            b.used = true;
            *memory = b.memory;
            return TP_OK;
        }
    }
    blocks.reserve(blocks.size() + 1); /* before there is memory to lose */
    if (!pinned && bytes > budget - now) release_unused();
    if (!pinned && bytes > budget - now) return out_of_memory(bytes);
    void *got = nullptr;
    cudaError_t error = pinned ? cudaMallocHost(&got, (size_t)bytes) : cudaMalloc(&got, (size_t)bytes);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        release_unused();
        error = pinned ? cudaMallocHost(&got, (size_t)bytes) : cudaMalloc(&got, (size_t)bytes);
    }
    if (error != cudaSuccess) return fail(error, pinned ? "cudaMallocHost" : "cudaMalloc");
    blocks.push_back({static_cast<char *>(got), bytes, true, pinned});
    if (!pinned) {
        now += bytes;
        most = now > most ? now : most;
    }
    *memory = static_cast<char *>(got);
    return TP_OK;
}

void tp_cuda::give(void *memory) {
    for (Block &b : blocks)
        if (b.memory == memory) b.used = false;
    if (!keep) release_unused();
}

void tp_cuda::release_unused() {
    size_t kept = 0;
    for (const Block &b : blocks) {
        if (b.used) {
            blocks[kept++] = b;
            continue;
        }
        if (!lost && (b.pinned ? cudaFreeHost(b.memory) : cudaFree(b.memory)) != cudaSuccess) cudaGetLastError();
        if (!b.pinned) now -= b.bytes;
    }
    blocks.resize(kept);
}

/* ---- times ---- */

cudaError_t tp_cuda::begin_span(int stream) {
    if (!timed) return cudaSuccess;
    Span span = {stream, nullptr, nullptr};
    for (cudaEvent_t *e : {&span.begin, &span.end}) {
        const size_t used = spans.size() * 2 + (e == &span.end);
        if (used == events.size()) {
            events.push_back(nullptr);
            const cudaError_t error = cudaEventCreate(&events.back());
            if (error != cudaSuccess) {
                events.pop_back();
                return error;
            }
        }
        *e = events[used];
    }
    spans.push_back(span);
    return cudaEventRecord(span.begin, streams[stream]);
}

cudaError_t tp_cuda::end_span(int stream) {
    if (!timed) return cudaSuccess;
    for (size_t i = spans.size(); i-- > 0;)
        if (spans[i].stream == stream) return cudaEventRecord(spans[i].end, streams[stream]);
    return cudaSuccess;
}

tp_status tp_cuda::add_times() {
    for (const Span &span : spans) {
        float milliseconds;
        TRY_CUDA(this, cudaEventElapsedTime(&milliseconds, span.begin, span.end));
        double *sum = span.stream == IN ? &times.in_seconds : span.stream == OUT ? &times.out_seconds : &times.kernel_seconds;
        *sum += milliseconds * 1e-3;
    }
    return TP_OK;
}

/* ---- opening and closing ---- */

tp_status tp_cuda::open() {
    TRY_CUDA(this, cudaSetDevice(index));
    for (cudaStream_t &stream : streams) TRY_CUDA(this, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (auto &pair : ready)
        for (cudaEvent_t &event : pair) TRY_CUDA(this, cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    char *memory;
    TRY(take(sizeof *flags, false, &memory));
    flags = reinterpret_cast<unsigned *>(memory);
    TRY(take(sizeof *flags_read, true, &memory));
    flags_read = reinterpret_cast<unsigned *>(memory);
    return TP_OK;
}

/* Of a lost device nothing can be given back one by one: it is gone with its context. */
void tp_cuda::close() {
    cudaSetDevice(index);
    for (cudaStream_t stream : streams)
        if (stream) cudaStreamSynchronize(stream);
    for (Block &b : blocks) b.used = false;
    release_unused();
    for (cudaEvent_t event : events) cudaEventDestroy(event);
    for (auto &pair : ready)
        for (cudaEvent_t event : pair)
            if (event) cudaEventDestroy(event);
    for (cudaStream_t stream : streams)
        if (stream) cudaStreamDestroy(stream);
    cudaGetLastError();
}

int32_t tp_cuda_abi_version(void) { return TP_ABI_VERSION; }

tp_status tp_cuda_probe(int32_t *count, int32_t *state) {
    if (!count || !state) return TP_ERR_ARGUMENT;
    int found;
    *state = probe(&found);
    *count = found;
    return TP_OK;
}

tp_status tp_cuda_describe(int32_t index, tp_cuda_device *device) {
    if (!device) return TP_ERR_ARGUMENT;
    memset(device, 0, sizeof *device);
    device->state = describe(index, device);
    return TP_OK;
}

tp_status tp_cuda_open(int32_t index, int64_t budget_bytes, tp_cuda **cuda) {
    if (!cuda) return TP_ERR_ARGUMENT;
    *cuda = nullptr;
    if (budget_bytes < 0) return TP_ERR_ARGUMENT;
    return guarded([&] {
        tp_cuda_device facts = {};
        const int32_t state = describe(index, &facts);
        if (state != TP_CUDA_USABLE) {
            if (!last_message[0]) snprintf(last_message, sizeof last_message, "device %d cannot be used (state %d)", (int)index, (int)state);
            return (tp_status)TP_ERR_DEVICE;
        }
        tp_cuda *opened = new tp_cuda;
        opened->index = index;
        opened->multiprocessors = facts.multiprocessors;
        opened->budget = budget_bytes ? budget_bytes : facts.free_bytes / 10 * 9;
        const tp_status status = opened->open();
        if (status != TP_OK) {
            memcpy(last_message, opened->message, sizeof last_message);
            tp_cuda_close(opened);
            return status;
        }
        *cuda = opened;
        return (tp_status)TP_OK;
    });
}

void tp_cuda_close(tp_cuda *cuda) {
    if (!cuda) return;
    cuda->close();
    delete cuda;
}

const char *tp_cuda_message(const tp_cuda *cuda) { return cuda ? cuda->message : last_message; }

tp_status tp_cuda_allocate(tp_cuda *cuda, int64_t bytes, void **memory) {
    if (!cuda || !memory) return TP_ERR_ARGUMENT;
    *memory = nullptr;
    if (bytes < 0) return TP_ERR_SHAPE;
    if (cuda->lost) return TP_ERR_DEVICE_LOST;
    return guarded([&] {
        TRY_CUDA(cuda, cudaSetDevice(cuda->index));
        char *got;
        TRY(cuda->take(bytes, false, &got));
        *memory = got;
        return (tp_status)TP_OK;
    });
}

tp_status tp_cuda_free(tp_cuda *cuda, void *memory) {
    if (!cuda) return TP_ERR_ARGUMENT;
    if (!memory) return TP_OK;
    for (const tp_cuda::Block &b : cuda->blocks) {
        if (b.memory != memory || !b.used || b.pinned || memory == cuda->flags) continue;
        if (!cuda->lost) TRY_CUDA(cuda, cudaSetDevice(cuda->index));
        cuda->give(memory);
        return TP_OK;
    }
    return TP_ERR_ARGUMENT;
}

tp_status tp_cuda_copy(tp_cuda *cuda, void *to, const void *from, int64_t bytes) {
    if (!cuda || (bytes > 0 && (!to || !from))) return TP_ERR_ARGUMENT;
    if (bytes < 0) return TP_ERR_SHAPE;
    if (cuda->lost) return TP_ERR_DEVICE_LOST;
    if (bytes == 0) return TP_OK;
    TRY_CUDA(cuda, cudaSetDevice(cuda->index));
    TRY_CUDA(cuda, cudaMemcpy(to, from, (size_t)bytes, cudaMemcpyDefault));
    return TP_OK;
}

tp_status tp_cuda_memory(const tp_cuda *cuda, int64_t *now, int64_t *most) {
    if (!cuda || !now || !most) return TP_ERR_ARGUMENT;
    *now = cuda->now;
    *most = cuda->most;
    return TP_OK;
}

tp_status tp_cuda_timing(tp_cuda *cuda, int32_t on) {
    if (!cuda || (on != 0 && on != 1)) return TP_ERR_ARGUMENT;
    cuda->timed = on;
    return TP_OK;
}

tp_status tp_cuda_last(const tp_cuda *cuda, tp_cuda_times *times) {
    if (!cuda || !times) return TP_ERR_ARGUMENT;
    *times = cuda->times;
    return TP_OK;
}

void tp_cuda_range(const char *name) {
    if (name)
        nvtxRangePushA(name);
    else
        nvtxRangePop();
}

#ifdef TP_CUDA_EMULATED
/* Tests see a fault at the very end of an array only if each has memory of its own. */
extern "C" TP_API void tp_cuda_keep(tp_cuda *cuda, int32_t keep) { cuda->keep = keep; }
#endif
