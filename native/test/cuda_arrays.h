/*
 * Calls of a family with arrays on the host, on the device, or some here and some there; and with a device that has hardly any memory,
 * so that what is on the host goes through it in many pieces:
 *
 *     tp_status status;
 *     start_call();
 *     const void *x = placed(in, in_bytes, 4, false);
 *     uint8_t *m = placed(mask, mask_bytes, 1, true);
 *     do status = tp_cuda_prune_mask(test_cuda, spec, begin, end, x, key, tie_row, tie_col, m);
 *     while (short_of_memory(status));
 *     return end_call(status);
 */
#ifndef TP_TEST_CUDA_ARRAYS_H
#define TP_TEST_CUDA_ARRAYS_H

#include "on_cuda.h"

#ifdef TP_CUDA_EMULATED
/* Without it arrays may have memory of earlier ones, and what is behind them is no fault. */
void tp_cuda_keep(tp_cuda *cuda, int32_t keep);
#endif

static struct {
    void *memory, *host, *device;
    size_t bytes;
} arrays_on_device[8];
static int arrays_moved;
static bool all_on_host; /* for calls whose arguments say nothing of their arrays */
static int64_t cuda_budget = -1;
static long calls_on_cuda, calls_with_pieces;

static inline void open_with(int64_t budget) {
    open_cuda(cuda_budget = budget);
    CHECK(tp_cuda_timing(test_cuda, 1) == TP_OK, "timing");
#ifdef TP_CUDA_EMULATED
    tp_cuda_keep(test_cuda, 0);
#endif
}

static inline void start_call(void) {
    if (!test_cuda || (cuda_budget && random_below(16) == 0))
        open_with(0);
    else if (!cuda_budget && random_below(16) == 0)
        open_with(2048);
    calls_on_cuda++;
}

/* The array itself, or a copy on the device, which comes back if it is written. */
static inline void *placed(const void *host, size_t bytes, int alignment, bool written) {
    if (!host || all_on_host || cuda_budget || random_below(2)) return (void *)(uintptr_t)host;
    void *memory = NULL, *device = on_device(&memory, host, bytes, alignment);
    arrays_on_device[arrays_moved].memory = memory;
    arrays_on_device[arrays_moved].host = written ? (void *)(uintptr_t)host : NULL;
    arrays_on_device[arrays_moved].device = device;
    arrays_on_device[arrays_moved++].bytes = bytes;
    return device;
}

/* Whether the call is to be made again, with more memory. */
static inline bool short_of_memory(tp_status status) {
    if (status != TP_ERR_MEMORY || !cuda_budget) return false;
    open_with(cuda_budget + cuda_budget / 2);
    return true;
}

static inline tp_status end_call(tp_status status) {
    tp_cuda_times times;
    CHECK(tp_cuda_last(test_cuda, &times) == TP_OK, "times");
    calls_with_pieces += times.pieces > 1;
    CHECK(status != TP_ERR_DEVICE && status != TP_ERR_DEVICE_LOST && status != TP_ERR_MEMORY, "%s: %s", tp_status_name(status),
          tp_cuda_message(test_cuda));
    for (int i = 0; i < arrays_moved; i++) {
        if (arrays_on_device[i].host)
            CHECK(tp_cuda_copy(test_cuda, arrays_on_device[i].host, arrays_on_device[i].device, (int64_t)arrays_on_device[i].bytes) == TP_OK,
                  "copy");
        CHECK(tp_cuda_free(test_cuda, arrays_on_device[i].memory) == TP_OK, "free");
    }
    arrays_moved = 0;
    if (status == TP_ERR_DEVICE_LOST) exit(test_end());
    return status;
}

/* That what was meant to happen did: after a whole run. */
static inline void check_calls(void) {
    printf("%ld calls on the device, %ld of them in pieces\n", calls_on_cuda, calls_with_pieces);
    CHECK(calls_with_pieces > calls_on_cuda / 20, "hardly any call in pieces");
}

#endif
