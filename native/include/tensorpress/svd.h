/*
 * Kernel family "svd": singular value decompositions, and the building blocks they stand on.
 *
 * Example:
 *
 *     const double a[4] = {3, 0, 0, -4};
 *     const tp_small spec = {.count = 1, .rows = 2, .cols = 2, .in_stride = 2, .in_step = 4, .type = TP_F64, .sweeps = 30};
 *     double u[4], s[2], vt[4];
 *     assert(tp_svd_small(&spec, 0, 1, a, u, s, vt) == TP_OK);
 *     assert(s[0] == 4 && s[1] == 3 && u[2] == 1 && vt[1] == -1);
 *
 * Everything is computed in f64, also for f32 matrices: twelve decades of singular values do not fit f32, and products in
 * f64 of f32 entries are exact, so that Gram matrices may be used where f32 could not. Matrices are row-major, as everywhere.
 * Algorithms that work on columns in the literature work on rows here, where they are contiguous: on the transposed matrix.
 *
 * The blocks, and how the Java class dev.tensorpress.kernel.Svd puts them together for A [m, n], m >= n:
 *     1. The symmetric eigenproblem A^T A = V S^2 V^T: tp_multiply, tp_tridiagonal_panel, tp_tridiagonal_conquer for parts and
 *        tp_merge_* above them (divide and conquer: Cuppen 1981, Gu and Eisenstat 1995). Or, for matrices with graded columns,
 *        A = Q R: tp_reflect_panel. Either gives an orthogonal factor and rows W that are much closer to orthogonal than A's.
 *     2. One-sided Jacobi on the rows of W: tp_gram_blocks, tp_jacobi_pairs, until each pair of rows is orthogonal relative to
 *        their norms. It decides the accuracy; step 1 decides the speed. (Drmac and Veselic, LAPACK Working Notes 169, 170.)
 *
 * Ranges. Functions with begin and end do a part; results are the same bits however the work is cut. Functions without do
 * all there is. Results do depend on the tier in their last bits: sums run in lanes, and with fused multiply-add above ref.
 * tp_gaussian alone is the same on every tier. Pointers are those of the whole matrices, aligned to their element type unless said.
 * A stride is at least the row's length; rows * stride below 2^48, else TP_ERR_SHAPE. Null pointers to nothing are allowed.
 * NaN and infinity are not looked for, except by tp_row_norms: check first; they would end in nonsense or a failed status.
 * "u" is 2^-53.
 */
#ifndef TENSORPRESS_SVD_H
#define TENSORPRESS_SVD_H

#include "tensorpress/core.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- random numbers, norms, copies ---- */

/*
 * Elements [begin, end) of an infinite sequence of independent standard normal numbers, to out[0 .. end - begin); type
 * TP_F32 or TP_F64. Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): its counter is
 * element / 4 in the lower and `stream` in the upper 64 bits, its key the seed. Words w0 w1 and w2 w3 of a block make two
 * elements each by Box and Muller: r = sqrt(-2 ln((w + 1/2) / 2^32)), then r cos and r sin of 2 pi (w' / 2^32). So |x| <
 * 6.77. Logarithm, sine and cosine are polynomials in f64 of relative error below 1e-14, without fused operations: the same
 * bits on every tier and for every cut. f32 is the f64 number, rounded. TP_ERR_RANGE: begin < 0 or begin > end.
 */
TP_API tp_status tp_gaussian(uint64_t seed, uint64_t stream, int64_t begin, int64_t end, tp_dtype type, void *out);

/*
 * sums[i] = the sum of squares of row i in f64, and largest[i] = max |x|, for rows [begin, end) of a matrix of TP_F32 or
 * TP_F64. Squares of f64 may overflow or underflow outside 1e-154 .. 1e154: look at `largest` first. The relative error is
 * at most (cols + 4) u. TP_ERR_NONFINITE if the range holds NaN or infinity.
 */
TP_API tp_status tp_row_norms(tp_dtype type, int64_t rows, int64_t cols, int64_t stride, int64_t begin, int64_t end,
                              const void *in, double *sums, double *largest);

/* peaks[i] = the entry of largest magnitude, the first among equals, of row i, for rows [begin, end) of a matrix of finite f64;
   0 for rows of no columns. */
TP_API tp_status tp_row_peaks(int64_t rows, int64_t cols, int64_t stride, int64_t begin, int64_t end, const double *in,
                              double *peaks);

/* A copy of a matrix or its transpose, with factors and in another order, from and to TP_F32 or TP_F64. Fill every field. */
typedef struct tp_copying {
    int64_t rows, cols;             /* of in */
    int64_t in_stride, out_stride;
    tp_dtype in_type, out_type;
    int32_t transposed;             /* 0: out is [rows, cols]; 1: out is [cols, rows] */
    double factor;                  /* multiplies everything */
} tp_copying;

/* Rows [begin, end) of the result (its columns if transposed): the i-th is row order[i] of `in` (null: row i), multiplied by
   factors[order[i]] (null: 1) and then by `factor`. Each product is rounded in f64, the last one to the type of out. `in` may start
   at any byte, as may those of tp_row_norms and tp_multiply. */
TP_API tp_status tp_copy_rows(const tp_copying *spec, int64_t begin, int64_t end, const int64_t *order,
                              const double *factors, const void *in, void *out);

/* ---- products ---- */

/* C = alpha op(A) op(B) + beta C, where A and B are TP_F32 or TP_F64 and C is TP_F64. Fill every field. */
typedef struct tp_multiplication {
    int64_t m, n, k;                        /* C is [m, n] */
    int64_t a_stride, b_stride, c_stride;
    tp_dtype a_type, b_type;
    int32_t a_transposed;                   /* 0: A is [m, k]; 1: A is [k, m] */
    int32_t b_transposed;                   /* 0: B is [k, n]; 1: B is [n, k] */
    int32_t lower;                          /* 1: only elements on and below the diagonal of C are wanted; the others are
                                               computed or left alone. With A = B this is the symmetric rank-k update. */
    double alpha, beta;                     /* C is not read if beta is 0 */
} tp_multiplication;

/* Bytes of scratch for tp_multiply, per concurrent call; scratch is 64-byte aligned. Depends on n alone, and is the same for all n
   from 2^16 on. */
TP_API tp_status tp_multiply_scratch(const tp_multiplication *spec, int64_t *bytes);

/* Rows [begin, end) of C. Each range packs B for itself: few large ranges are best. Sums run over k in order within blocks
   of 256, block after block; error at most (k + 3) u sum |alpha a b| plus that of beta C. C may not overlap A or B. */
TP_API tp_status tp_multiply(const tp_multiplication *spec, int64_t begin, int64_t end, const void *a, const void *b,
                             double *c, void *scratch);

/* ---- triangular ---- */

/* Cholesky: the lower triangle of the symmetric G [n, n] becomes L, G = L L^T; what is above stays. TP_ERR_INDEFINITE if a
   pivot falls to n u times the largest diagonal element or below (then G is no more, of course). */
TP_API tp_status tp_cholesky(int64_t n, int64_t stride, double *g);

/* Solves X L^T = B (or X L = B with transposed = 1) for rows [begin, end) of X [m, n], in place; L [n, n] is lower
   triangular with no zero on its diagonal. Backward error of a row: (n + 2) u. So X = B R^-1 for the upper R = L^T. */
TP_API tp_status tp_triangular_solve(int64_t n, int64_t l_stride, const double *l, int32_t transposed, int64_t x_stride,
                                     int64_t begin, int64_t end, double *x);

/* ---- Householder reflections ---- */

/*
 * A block of reflections is V [b, n] and T [b, b], upper triangular, with I - V^T T V = H_0 H_1 .. H_(b-1), H_i = I - tau_i
 * v_i^T v_i, tau_i = T[i, i] (Schreiber and Van Loan, 1989). It is applied to rows X by three products:
 * X -= ((X V^T) T) V, or with T^T for the transposed.
 *
 * Factors rows [first, first + count) of A [rows, cols], which stands for the transposed of the matrix whose QR
 * factorisation is wanted: A H_0 H_1 .. = L, lower triangular; R = L^T. Earlier rows must be factored and their reflections
 * applied to these rows. Afterwards these rows hold L (zeros right of the diagonal, sign of the diagonal as it comes); V
 * [count, cols] holds the v's, zeros before column first + i, then 1; T is [count, count] without gaps, zeros below its
 * diagonal. The rows after the panel are not touched. first + count <= min(rows, cols) (else TP_ERR_RANGE), count <= 64.
 * A zero row gives tau = 0. Rows may have any norm from 1e-290 to 1e300.
 */
TP_API tp_status tp_reflect_panel(int64_t rows, int64_t cols, int64_t a_stride, int64_t first, int64_t count, double *a,
                                  int64_t v_stride, double *v, double *t);

/* T of the reflections V [count, n] with factors tau, as above; count <= 64. For reflections that tp_tridiagonal_panel made. */
TP_API tp_status tp_reflect_factor(int64_t count, int64_t n, int64_t v_stride, const double *v, const double *tau,
                                   double *t);

/* ---- symmetric eigenproblem ---- */

/*
 * Reduces rows last - 1, last - 2, .. , last - count of the symmetric A [n, n] (its lower triangle; the rows from `last` on are
 * done) to tridiagonal form: A = Q T Q^T, Q = H_(n-1) .. H_1, where H_i acts on the first i coordinates. The leading
 * (last - count)-square of A is not updated: the caller subtracts [V; W]^T [W; V], both [2 * count, last - count], which the
 * kernel leaves in vw and wv: rows of v are v_i in order of elimination. count <= 64, count < last; and last - count may be
 * 1, then T's first diagonal element, A[0, 0], still needs that update. Reads half of A once per row: the speed is that of
 * memory. The norm of A may be anything from 1e-290 to 1e300: Q is orthogonal and T exact to a modest multiple of n u times the norm.
 *
 *   d, e   [n]: diagonal of T; e[i] couples i and i + 1. d[last - count ..] and e[last - count - 1 ..] are written
 *   q      [n, q_stride]: row i becomes v_i, zeros from column i on; tau[i] its factor
 *   vw, wv [2 * count, stride n]    scratch [2 * n doubles]
 */
TP_API tp_status tp_tridiagonal_panel(int64_t n, int64_t a_stride, int64_t last, int64_t count, double *a, double *d,
                                      double *e, int64_t q_stride, double *q, double *tau, double *vw, double *wv,
                                      double *scratch);

/*
 * Eigenvalues d, ascending, and eigenvectors of the symmetric tridiagonal matrix with diagonal d [n] and off-diagonal e [n]
 * (e[n-1] is not used; e is destroyed), by implicit QL. Rows of Z [n, cols] are rotated along and sorted: with Z = I, row i
 * becomes the i-th eigenvector. TP_ERR_CONVERGENCE after 50 iterations for one eigenvalue. Absolute errors are a modest
 * multiple of u times the norm, which may be anything that f64 holds: the matrix is scaled by a power of two first.
 */
TP_API tp_status tp_tridiagonal_ql(int64_t n, double *d, double *e, int64_t cols, int64_t z_stride, double *z);

/* Bytes of scratch for tp_tridiagonal_conquer, per concurrent call; scratch is 64-byte aligned. */
TP_API tp_status tp_tridiagonal_scratch(int64_t n, int64_t *bytes);

/*
 * The same by divide and conquer, which is faster from some 50 rows on: halves down to 32 rows, there tp_tridiagonal_ql,
 * and merges as below. Z [n, n] is written: row i is the i-th eigenvector. e is destroyed. Scaled as there, so that the norm may be
 * anything. Failures are those of its parts.
 */
TP_API tp_status tp_tridiagonal_conquer(int64_t n, double *d, double *e, int64_t z_stride, double *z, void *scratch);

/*
 * One merge of divide and conquer, for matrices that several threads share: the eigenpairs of diag(d) + rho z z^T, rho > 0,
 * |z| = 1, where d and the rows of Q [n, n] are the eigenpairs of two halves, 0 .. split - 1 and split .. n - 1, d ascending
 * within each, Q block diagonal. In this order, arrays having n elements unless said:
 *
 *   deflate   sorts out the eigenpairs that the coupling leaves alone within 8 u max(|d|, rho), and rotates rows of Q where
 *             two eigenvalues nearly coincide. d, z and Q are modified. *count pairs remain: their d and z, ascending in d,
 *             are kept_d and kept_z [0 .. *count); row order[i] of Q belongs to the i-th. Each has a slot: rows of Q that are zero
 *             right of `split` have slots below *first, those that are zero left of it have slots from *second on, and
 *             rotated ones are between. slots[i] is the slot of the i-th. The finished pairs are kept_d[*count ..) with the
 *             rows order[*count ..). scratch [2 n].
 *   roots     for i in [begin, end) the root lambda[i] of 1 + rho sum_j z_j^2 / (d_j - lambda), between d_i and d_(i+1), and row i of
 *             delta [count, count]: d_j - lambda_i, to high relative accuracy.
 *   weights   for j in [begin, end): the z for which these roots are exact, hence eigenvectors that are orthogonal.
 *   vectors   for i in [begin, end): row i of s [count, count], of norm 1: the i-th eigenvector in terms of the kept rows of Q,
 *             column by slot.
 *
 * max(|d|, rho) must be from 2^-460 to 2^460 (some 1e-138 to 1e138), else deflate says TP_ERR_MAGNITUDE: scale before.
 * d, z are kept_d, kept_z in the last three, and n is count. TP_ERR_CONVERGENCE: a root took more than 200 steps (each
 * at least a bisection every other time), so only for input that is not finite or not as said.
 */
TP_API tp_status tp_merge_deflate(int64_t n, int64_t split, double rho, double *d, double *z, int64_t q_stride, double *q,
                                  double *kept_d, double *kept_z, int64_t *order, int64_t *slots, int64_t *scratch,
                                  int64_t *count, int64_t *first, int64_t *second);
TP_API tp_status tp_merge_roots(int64_t count, double rho, const double *d, const double *z, int64_t begin, int64_t end,
                                double *lambda, double *delta);
TP_API tp_status tp_merge_weights(int64_t count, const double *d, const double *z, const double *delta, int64_t begin,
                                  int64_t end, double *weights);
TP_API tp_status tp_merge_vectors(int64_t count, const double *weights, const double *delta, const int64_t *slots,
                                  int64_t begin, int64_t end, double *s);

/* ---- one-sided Jacobi ---- */

/* Rows of W [n, w_cols] in blocks of `block` rows (the last one may be smaller); Z [n, z_cols] is rotated along. */
typedef struct tp_jacobi {
    int64_t n, block;               /* block in 1 .. 64 */
    int64_t w_cols, w_stride;
    int64_t z_cols, z_stride;       /* z_cols may be 0 */
    double tolerance;               /* rows count as orthogonal if |w_i . w_j| <= tolerance |w_i| |w_j| */
    double negligible;              /* rows whose squared norm is at most this are left alone */
} tp_jacobi;

/*
 * From the Gram matrix G = W W^T [n, n] (its lower triangle): cosines[i, j], for blocks begin <= i < end and j <= i of
 * [blocks, blocks], is the largest |g_pq| / sqrt(g_pp g_qq) over p in block i, q in block j, p != q, without negligible rows.
 */
TP_API tp_status tp_gram_blocks(const tp_jacobi *spec, int64_t g_stride, const double *g, int64_t begin, int64_t end,
                                double *cosines);

/* Bytes of scratch, 64-byte aligned, one per concurrent call. */
TP_API tp_status tp_jacobi_scratch(const tp_jacobi *spec, int64_t *bytes);

/*
 * For each of the pairs [begin, end) of blocks (pairs[2 i] < pairs[2 i + 1], or equal for one block alone): their Gram matrix,
 * the rotation that makes it diagonal (cyclic two-sided Jacobi with de Rijk's ordering: the larger norm comes first), and the
 * product of that rotation with the rows of W and Z. Blocks of the pairs of concurrent calls must be disjoint. *rotated
 * counts the pairs that were not orthogonal already. Rows may have any norm below 1e300; those whose norm is below 2^-380 (4e-115)
 * of the largest row of their pair may count as negligible.
 */
TP_API tp_status tp_jacobi_pairs(const tp_jacobi *spec, const int32_t *pairs, int64_t begin, int64_t end, double *w,
                                 double *z, void *scratch, int64_t *rotated);

/* ---- many small decompositions ---- */

/* Matrices [rows, cols] of `type` (TP_F32 or TP_F64), each side in 1 .. 64; r = min(rows, cols). Fill every field. */
typedef struct tp_small {
    int64_t count, rows, cols;
    int64_t in_stride;              /* from row to row */
    int64_t in_step;                /* from matrix to matrix, in elements; may be anything that stays below 2^48 */
    tp_dtype type;
    int32_t sweeps;                 /* limit; 30 is plenty */
} tp_small;

/*
 * Matrices [begin, end): A = U diag(s) Vt; u [count, rows, r], s [count, r] descending, vt [count, r, cols], without gaps,
 * of the same type. One-sided Jacobi in f64, after a scaling by a power of two, so that any finite matrix will do; singular values of
 * column-graded matrices (row-graded if rows < cols) keep their relative accuracy. Vectors of zero singular values are
 * orthonormal completions. The entry of largest magnitude of each left vector, the first among equals, is positive.
 * TP_ERR_NONFINITE, and TP_ERR_CONVERGENCE if a matrix is not diagonal after the limit. Takes 64 KB of stack.
 */
TP_API tp_status tp_svd_small(const tp_small *spec, int64_t begin, int64_t end, const void *in, void *u, void *s,
                              void *vt);

#ifdef __cplusplus
}
#endif
#endif
