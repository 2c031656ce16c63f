/*
 * libtensorpress_cuda: the kernel families on NVIDIA GPUs. Here is what all of them share: which devices there are, opening one,
 * its memory, errors and times.
 *
 * Example:
 *
 *     int32_t count, state;
 *     assert(tp_cuda_probe(&count, &state) == TP_OK);
 *     tp_cuda *cuda;
 *     if (state == TP_CUDA_USABLE && tp_cuda_open(0, 0, &cuda) == TP_OK) {
 *         void *memory;
 *         assert(tp_cuda_allocate(cuda, 1024, &memory) == TP_OK);
 *         tp_cuda_close(cuda); // and with it its memory
 *     }
 *
 * Rules that hold for every function tp_cuda_* of a family, beside those of tensorpress/core.h
 *   - It is the function of the same name without "cuda_", with the same arguments, save that the device comes first and that scratch
 *     is the library's own; results are the same bits, unless its header says otherwise. It returns when it is done.
 *   - Each pointer to a tensor is memory of the host or of this device, whichever it is; of another device: TP_ERR_ARGUMENT. Tensors of
 *     the host go through the device in pieces of lines, three things at a time: one piece is copied in, one is worked on, and one is copied
 *     out. So a tensor may be larger than the device's memory. What a function says it takes whole must fit.
 *   - Tensors on the device are aligned to their element type, `in` too.
 *   - One call at a time for each tp_cuda; any thread may make it. Two tp_cuda of one device share nothing.
 *   - A missing driver is no error of loading: the library needs nothing but the C and C++ runtime libraries, and asks for the driver when
 *     it is called.
 */
#ifndef TENSORPRESS_CUDA_DEVICE_H
#define TENSORPRESS_CUDA_DEVICE_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* TP_ABI_VERSION of the headers that this library was built with; the structs of the families are those of libtensorpress. */
TP_API int32_t tp_cuda_abi_version(void);

/* Whether a device can be used, or why not. The values are pinned. */
enum {
    TP_CUDA_USABLE = 0,
    TP_CUDA_NO_DRIVER = 1,   /* no NVIDIA driver */
    TP_CUDA_OLD_DRIVER = 2,  /* the driver knows only an older CUDA than this library's */
    TP_CUDA_NO_DEVICE = 3,   /* a driver, but no device, or none that CUDA_VISIBLE_DEVICES lets through, or not this one */
    TP_CUDA_OLD_DEVICE = 4,  /* compute capability below 8.0 */
    TP_CUDA_BROKEN = 5       /* the runtime failed otherwise: tp_cuda_message(NULL) */
};

/* A device that can be asked for, at `index`. */
typedef struct tp_cuda_device {
    char name[256];
    int32_t state;                    /* TP_CUDA_*; the rest is 0 unless USABLE or OLD_DEVICE */
    int32_t major, minor;             /* compute capability */
    int32_t multiprocessors;
    int64_t memory_bytes, free_bytes;
    int64_t l2_bytes;
    int32_t driver, runtime;          /* CUDA versions, 1000 major + 10 minor */
} tp_cuda_device;

/* Number of devices, and TP_CUDA_USABLE or why there are none. Never fails for want of hardware; TP_ERR_ARGUMENT for null. */
TP_API tp_status tp_cuda_probe(int32_t *count, int32_t *state);

/* Facts of a device. Without such a device, state says so and the status is TP_OK. */
TP_API tp_status tp_cuda_describe(int32_t index, tp_cuda_device *device);

/* A device in use: its memory, streams and pinned buffers. */
typedef struct tp_cuda tp_cuda;

/*
 * Opens device `index`. budget_bytes is the most device memory that it takes for itself and for tp_cuda_allocate together; 0 for nine
 * tenths of what is free now. TP_ERR_ARGUMENT: a negative number. TP_ERR_DEVICE: not usable, tp_cuda_describe says why.
 */
TP_API tp_status tp_cuda_open(int32_t index, int64_t budget_bytes, tp_cuda **cuda);

/* Ends it. All of its memory is gone. Null is allowed. */
TP_API void tp_cuda_close(tp_cuda *cuda);

/*
 * What the last function that failed with TP_ERR_DEVICE, TP_ERR_DEVICE_LOST or TP_ERR_MEMORY met: name of the CUDA error and of the
 * call, until the next call. With null, of the last tp_cuda_probe, _describe or _open of this thread. After TP_ERR_DEVICE the tp_cuda goes on working;
 * after TP_ERR_DEVICE_LOST every further call says TP_ERR_DEVICE_LOST, and only tp_cuda_close is left.
 */
TP_API const char *tp_cuda_message(const tp_cuda *cuda);

/* Device memory, 256-byte aligned, contents unspecified. TP_ERR_MEMORY if it does not fit. 0 bytes are allowed. */
TP_API tp_status tp_cuda_allocate(tp_cuda *cuda, int64_t bytes, void **memory);

/* Gives memory back. TP_ERR_ARGUMENT if it is not this tp_cuda's. Null is allowed. */
TP_API tp_status tp_cuda_free(tp_cuda *cuda, void *memory);

/* Copies between host and device, or within either. */
TP_API tp_status tp_cuda_copy(tp_cuda *cuda, void *to, const void *from, int64_t bytes);

/* Bytes of device memory that this tp_cuda has now, and has had at most. */
TP_API tp_status tp_cuda_memory(const tp_cuda *cuda, int64_t *now, int64_t *most);

/* What the last call of a family did. Seconds are the device's own, by events; copies and kernels overlap. */
typedef struct tp_cuda_times {
    double kernel_seconds;            /* in which a kernel ran */
    double in_seconds, out_seconds;   /* in which copies ran */
    int64_t in_bytes, out_bytes;      /* that they copied */
    int64_t pieces;
} tp_cuda_times;

/* Whether calls are timed from now on (0 or 1), which costs some microseconds each. */
TP_API tp_status tp_cuda_timing(tp_cuda *cuda, int32_t on);

/* Of the last call; all 0 if it was not timed. */
TP_API tp_status tp_cuda_last(const tp_cuda *cuda, tp_cuda_times *times);

/* Begins a range of this name in a profiler that reads NVTX, or ends the last one begun by this thread if `name` is null. */
TP_API void tp_cuda_range(const char *name);

/*
 * Ceilings of this device, measured now, in some tenths of a second: bytes per second, read and written, of a copy within the device,
 * larger than its L2 cache; and operations per second (two for each multiply-add) of int8 products on tensor cores that
 * never leave the registers.
 */
TP_API tp_status tp_cuda_ceilings(tp_cuda *cuda, double *copy_bytes, double *int8_operations);

#ifdef __cplusplus
}
#endif
#endif
