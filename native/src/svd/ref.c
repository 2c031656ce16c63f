/* One lane, no fused operations. */
#include "svd/kernels.h"

#define TP_VARIANT(name) tp_##name##__ref
#define INLINE static inline

typedef double vd;
enum { LANES = 1, MR = 4, NV = 4 };

INLINE vd v_zero(void) { return 0; }
INLINE vd v_set(double x) { return x; }
INLINE vd v_load(const double *p) { return *p; }
INLINE void v_store(double *p, vd x) { *p = x; }
INLINE vd v_load_some(const double *p, int64_t n) { return n > 0 ? *p : 0; }
INLINE void v_store_some(double *p, int64_t n, vd x) {
    if (n > 0) *p = x;
}
INLINE vd v_add(vd x, vd y) { return x + y; }
INLINE vd v_sub(vd x, vd y) { return x - y; }
INLINE vd v_mul(vd x, vd y) { return x * y; }
INLINE vd v_div(vd x, vd y) { return x / y; }
INLINE vd v_fma(vd x, vd y, vd z) { return x * y + z; }
INLINE double v_sum(vd x) { return x; }

#include "svd/body.h"
