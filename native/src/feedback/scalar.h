/* One element at a time, in portable C: what ref.c is made of, and CUDA. */
#ifndef TP_FEEDBACK_SCALAR_H
#define TP_FEEDBACK_SCALAR_H

#include <math.h>

#include "core/scalar.h"

/* What an element w is rounded to differs from it by, where the others call for `inner`. */
TP_SCALAR float tp_error_of_rounding(float w, float inner, float s, float z, float qmin, float qmax, bool keep_zeros) {
    const float t = keep_zeros && w == 0 ? 0 : w + inner;
    float q = rintf(t / s) + z;
    q = q > qmin ? q : qmin;
    q = q < qmax ? q : qmax;
    return w - (q - z) * s;
}

/* The same of an element of a pruned weight. */
TP_SCALAR float tp_error_of_pruning(float w, float inner, bool kept) { return kept ? 0 - inner : w; }

#endif
