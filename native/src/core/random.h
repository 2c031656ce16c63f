/* A generator of random numbers that has no state: what it gives depends on a counter alone. */
#ifndef TP_CORE_RANDOM_H
#define TP_CORE_RANDOM_H

#include "core/scalar.h"

/* Block `counter` of Philox 4x32-10. */
TP_SCALAR void tp_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t *w0, uint32_t *w1, uint32_t *w2, uint32_t *w3) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#ifndef __CUDACC__
#pragma GCC unroll 10
#endif
    for (int round = 0; round < 10; round++) {
        const uint64_t p = (uint64_t)c0 * 0xD2511F53u, q = (uint64_t)c2 * 0xCD9E8D57u;
        const uint32_t n0 = (uint32_t)(q >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)q;
        c3 = (uint32_t)p;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    *w0 = c0, *w1 = c1, *w2 = c2, *w3 = c3;
}

#endif
