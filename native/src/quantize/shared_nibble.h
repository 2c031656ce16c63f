/* Bytes of two codes that two threads write. */
#ifndef TP_QUANTIZE_SHARED_NIBBLE_H
#define TP_QUANTIZE_SHARED_NIBBLE_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * tp_put_nibble where the neighbour may be written by another thread at this moment: with an odd out_stride, ranges of
 * columns meet within a byte in every other row.
 */
static inline void tp_put_shared_nibble(uint8_t *packed, int64_t i, uint8_t code) {
    _Atomic uint8_t *byte = (_Atomic uint8_t *)(packed + i / 2);
    const int shift = i % 2 * 4;
    uint8_t old = atomic_load_explicit(byte, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(byte, &old,
                                                  (uint8_t)((old & 0xf0 >> shift) | (code & 15) << shift),
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

#endif
