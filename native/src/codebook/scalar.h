/* What the processor and CUDA have in common. */
#ifndef TP_CODEBOOK_SCALAR_H
#define TP_CODEBOOK_SCALAR_H

#include <math.h>

#include "core/scalar.h"

/* The largest float that is nearer to a than to b, or as near; a <= b. */
TP_SCALAR float tp_threshold(float a, float b) {
    const double middle = (double)a + ((double)b - (double)a) / 2;
    const float x = (float)middle;
    return (double)x > middle ? nextafterf(x, -INFINITY) : x;
}

#endif
