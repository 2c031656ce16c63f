/*
 * The device as one more tier: number test_tiers. A test that includes this runs its list for 0 .. test_tiers through use_tier(), and
 * names the functions of its family by macros that ask on_cuda. The library is the emulated one, or that of a device: see CMakeLists.txt.
 */
#ifndef TP_TEST_ON_CUDA_H
#define TP_TEST_ON_CUDA_H

#include <stdlib.h>

#include "support.h"
#include "tensorpress/cuda/device.h"

static tp_cuda *test_cuda;
static bool on_cuda;

/* Opens device 0 with a budget, anew if it is open. A test that was linked for a device has to have one. */
static inline void open_cuda(int64_t budget_bytes) {
    tp_cuda_close(test_cuda);
    test_cuda = NULL;
    if (tp_cuda_open(0, budget_bytes, &test_cuda) == TP_OK) return;
    printf("no CUDA device: %s\n", tp_cuda_message(NULL));
    exit(1);
}

/* A copy on the device at an address that is aligned to `alignment`, and most often to no more. *memory is to be freed. */
static inline void *on_device(void **memory, const void *from, size_t bytes, int alignment) {
    const int64_t offset = random_below(4) * alignment;
    if (!from) return NULL;
    if (tp_cuda_allocate(test_cuda, (int64_t)bytes + offset, memory) != TP_OK
        || tp_cuda_copy(test_cuda, (char *)*memory + offset, from, (int64_t)bytes) != TP_OK) {
        printf("no memory on the device: %s\n", tp_cuda_message(test_cuda));
        exit(1);
    }
    return (char *)*memory + offset;
}

static inline const char *tier_name(int tier) { return tier == test_tiers ? "cuda" : tp_tier_name((tp_tier)tier); }

static inline void use_tier(int tier) {
    on_cuda = tier == test_tiers;
    test_use_tier(on_cuda ? tp_best_tier() : (tp_tier)tier);
}

#endif
