/*
 * The CUDA runtime, as far as this project calls it, on the processor: found in the place of the toolkit's when TP_CUDA_EMULATED is
 * defined. Names and numbers are the toolkit's. What differs, so that faults show that a GPU hides or shows at random:
 *   - what is queued on a stream runs when the host waits for something, not before; between streams in an order that the seed shuffles;
 *   - each allocation ends at a page that cannot be touched;
 *   - copies are checked against allocations, and asynchronous ones need pinned memory.
 */
#ifndef TP_EMULATOR_CUDA_RUNTIME_H
#define TP_EMULATOR_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static_assert(false, "shared memory is declared through TP_SHARED and TP_DYNAMIC_SHARED");
#define __forceinline__ inline __attribute__((always_inline))
/* The number of threads, in units of 32, is that of the instructions at the beginning of the kernel that do nothing. */
#ifdef __x86_64__
#define __launch_bounds__(threads, ...) __attribute__((patchable_function_entry(((threads) + 31) / 32)))
#else
#define __launch_bounds__(...)
#endif
#define __align__(n) __attribute__((aligned(n)))

/* ---- vector types ---- */

#define TP_VECTOR2(type, name, alignment)                                                                             \
    struct alignas(alignment) name##2 { type x, y; };                                                                 \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }
#define TP_VECTOR3(type, name)                                                                                        \
    struct name##3 { type x, y, z; };                                                                                 \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }
#define TP_VECTOR4(type, name, alignment)                                                                             \
    struct alignas(alignment) name##4 { type x, y, z, w; };                                                           \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
TP_VECTOR2(signed char, char, 2)
TP_VECTOR2(unsigned char, uchar, 2)
TP_VECTOR2(short, short, 4)
TP_VECTOR2(unsigned short, ushort, 4)
TP_VECTOR2(int, int, 8)
TP_VECTOR2(unsigned, uint, 8)
TP_VECTOR2(float, float, 8)
TP_VECTOR2(long long, longlong, 16)
TP_VECTOR2(unsigned long long, ulonglong, 16)
TP_VECTOR2(double, double, 16)
TP_VECTOR3(int, int)
TP_VECTOR3(unsigned, uint)
TP_VECTOR3(float, float)
TP_VECTOR4(signed char, char, 4)
TP_VECTOR4(unsigned char, uchar, 4)
TP_VECTOR4(short, short, 8)
TP_VECTOR4(unsigned short, ushort, 8)
TP_VECTOR4(int, int, 16)
TP_VECTOR4(unsigned, uint, 16)
TP_VECTOR4(float, float, 16)
#undef TP_VECTOR2
#undef TP_VECTOR3
#undef TP_VECTOR4

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

/* Of the thread that runs. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

/* ---- errors ---- */

#define TP_CUDA_ERRORS(X)                                                                                             \
    X(cudaSuccess, 0, "no error")                                                                                     \
    X(cudaErrorInvalidValue, 1, "invalid argument")                                                                   \
    X(cudaErrorMemoryAllocation, 2, "out of memory")                                                                  \
    X(cudaErrorInitializationError, 3, "initialization error")                                                        \
    X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                                             \
    X(cudaErrorInvalidMemcpyDirection, 21, "invalid copy direction for memcpy")                                       \
    X(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for CUDA runtime version")                \
    X(cudaErrorDevicesUnavailable, 46, "CUDA-capable device(s) is/are busy or unavailable")                           \
    X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                                                   \
    X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                                          \
    X(cudaErrorNoKernelImageForDevice, 209, "no kernel image is available for execution on the device")               \
    X(cudaErrorECCUncorrectable, 214, "uncorrectable ECC error encountered")                                          \
    X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                                 \
    X(cudaErrorNotReady, 600, "device not ready")                                                                     \
    X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                                       \
    X(cudaErrorLaunchOutOfResources, 701, "too many resources requested for launch")                                  \
    X(cudaErrorMisalignedAddress, 716, "misaligned address")                                                          \
    X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                                      \
    X(cudaErrorNotSupported, 801, "operation not supported")                                                          \
    X(cudaErrorUnknown, 999, "unknown error")
#define X(name, number, text) name = number,
enum cudaError { TP_CUDA_ERRORS(X) };
#undef X
typedef enum cudaError cudaError_t;

const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

/* ---- devices ---- */

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerMultiprocessor, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, l2CacheSize, warpSize, maxThreadsPerBlock;
};
enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1,
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrL2CacheSize = 38,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaDeviceReset();

/* ---- memory ---- */

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
struct cudaPointerAttributes {
    cudaMemoryType type;
    int device;
    void *devicePointer, *hostPointer;
};
enum { cudaHostAllocDefault, cudaHostAllocPortable, cudaHostAllocMapped, cudaHostAllocWriteCombined = 4 };

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;

cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags);
cudaError_t cudaMallocHost(void **memory, size_t bytes, unsigned flags = cudaHostAllocDefault);
cudaError_t cudaFreeHost(void *memory);
template <class T> cudaError_t cudaMalloc(T **memory, size_t bytes) { return cudaMalloc(reinterpret_cast<void **>(memory), bytes); }
template <class T> cudaError_t cudaMallocHost(T **memory, size_t bytes, unsigned flags = cudaHostAllocDefault) {
    return cudaMallocHost(reinterpret_cast<void **>(memory), bytes, flags);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer);

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = nullptr);
cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height, cudaMemcpyKind kind);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void *memory, int byte, size_t bytes);
cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t stream = nullptr);

/* ---- streams and events ---- */

enum { cudaStreamDefault, cudaStreamNonBlocking };
enum { cudaEventDefault, cudaEventBlockingSync, cudaEventDisableTiming };

cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaEventDestroy(cudaEvent_t event);

/* ---- kernels ---- */

struct cudaLaunchAttribute {
    int id;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8, cudaFuncAttributePreferredSharedMemoryCarveout = 9 };
struct cudaFuncAttributes {
    size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
    int maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion, maxDynamicSharedSizeBytes;
};

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel);
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int threads, size_t dynamic_bytes);
template <class... P> cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value) {
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}
template <class... P> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, void (*kernel)(P...)) {
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(kernel));
}
template <class... P>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void (*kernel)(P...), int threads, size_t dynamic_bytes) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, reinterpret_cast<const void *>(kernel), threads, dynamic_bytes);
}

namespace emulator {
/* Queues a kernel; `pointers` are those of its arguments that are pointers: they must be memory that a device sees. */
cudaError_t launch(const cudaLaunchConfig_t &config, const void *kernel, std::vector<const void *> pointers, std::function<void()> thread);

template <class T> void add_pointer(std::vector<const void *> &pointers, const T &value) {
    if constexpr (std::is_pointer<T>::value) pointers.push_back(reinterpret_cast<const void *>(value));
}
}  // namespace emulator

template <class... P, class... A> cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...), A &&...arguments) {
    static_assert(sizeof...(P) == sizeof...(A), "a kernel takes another number of arguments");
    std::tuple<P...> values(std::forward<A>(arguments)...);
    std::vector<const void *> pointers;
    std::apply([&](const P &...value) { (emulator::add_pointer(pointers, value), ...); }, values);
    return emulator::launch(*config, reinterpret_cast<const void *>(kernel), std::move(pointers), [=] { std::apply(kernel, values); });
}

#endif
