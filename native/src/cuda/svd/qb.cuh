/* The randomised range finder, put together from the functions of this family: here is no kernel. */
#ifndef TP_CUDA_SVD_QB_CUH
#define TP_CUDA_SVD_QB_CUH

#include <vector>

#include "cuda/device.h"
#include "cuda/svd/product.cuh"
#include "tensorpress/cuda/gemm.h"
#include "tensorpress/cuda/svd.h"

namespace tp {
namespace {

enum { SKETCH_STREAM = 0, NOISE_STREAM = 3, MOST_PASSES = 20 };

/* Sum by halves: few roundings for each term. */
double sum_by_halves(const double *x, size_t n) {
    if (n <= 8) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += x[i];
        return sum;
    }
    return sum_by_halves(x, n / 2) + sum_by_halves(x + n / 2, n - n / 2);
}

/* Of each term of a product over k: the roundings that it goes through, at most. */
double roundings(int64_t k) { return (double)std::min<int64_t>(k, SEGMENT) + (double)ceil_div(k, SEGMENT) + 3; }

/* One range finder at work: its memory on the device, and the time of its calls. */
class RangeFinder {
  public:
    RangeFinder(tp_cuda *cuda, const tp_qb &spec) : cuda_(cuda), s_(spec), m_(spec.m), n_(spec.n), l_(spec.rank) {}
    ~RangeFinder() {
        for (void *p : taken_) tp_cuda_free(cuda_, p);
        cuda_->times = times_;
    }
    RangeFinder(const RangeFinder &) = delete;
    RangeFinder &operator=(const RangeFinder &) = delete;

    tp_status run(const void *in, void *q, void *b, double *residual) {
        TRY(take(&left_, m_ * l_));
        TRY(take(&right_, n_ * l_));
        TRY(take(&gram_, l_ * l_));
        TRY(take(&noise_, noise_rows() * l_));
        host_.resize((size_t)(l_ * l_));
        TRY(fetch(in));
        double norm;
        TRY(measure(&norm));
        if (s_.type == TP_F32 && s_.out_type == TP_F32 && largest_ >= 0x1p-60 && largest_ <= 0x1p100)
            for (float *&narrow : narrow_) TRY(take(&narrow, std::max(m_, n_) * l_));
        TRY(sketch());
        return finish(q, b, norm, residual);
    }

  private:
    /* The call has ended: its time counts. */
    tp_status done(tp_status status) {
        const tp_cuda_times &t = cuda_->times;
        times_.kernel_seconds += t.kernel_seconds;
        times_.in_seconds += t.in_seconds;
        times_.out_seconds += t.out_seconds;
        times_.in_bytes += t.in_bytes;
        times_.out_bytes += t.out_bytes;
        times_.pieces += t.pieces;
        return status;
    }

    template <class T> tp_status take(T **memory, int64_t count) {
        void *got;
        taken_.reserve(taken_.size() + 1);
        TRY(tp_cuda_allocate(cuda_, count * (int64_t)sizeof(T), &got));
        taken_.push_back(got);
        *memory = static_cast<T *>(got);
        return TP_OK;
    }

    tp_status multiply(const tp_multiplication &s, const void *a, const void *b, double *c) {
        return done(tp_cuda_multiply(cuda_, &s, 0, s.m, a, b, c));
    }

    /* A on the device, if there is room for it beside what products need; else it goes through piece by piece, each time. */
    tp_status fetch(const void *in) {
        a_ = in;
        cudaPointerAttributes attributes;
        TRY_CUDA(cuda_, cudaPointerGetAttributes(&attributes, in));
        if (attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged) return TP_OK;
        int64_t parts = 0;
        const int64_t products[4][3] = {{m_, l_, n_}, {n_, l_, m_}, {l_, l_, m_}, {l_, l_, n_}};
        for (const auto &p : products)
            parts = std::max(parts, parts_size(p[0], p[1], segments_apart(p[0], p[1], p[2], cuda_->multiprocessors)));
        const int64_t others = m_ * 16 + (m_ + n_ + 2 * l_) * l_ * 8 + (s_.type == TP_F32 ? std::max(m_, n_) * l_ * 8 : 0) + (1 << 20);
        const int64_t bytes = span_bytes(s_.type, m_, n_, s_.stride);
        void *own = nullptr, *spare = nullptr;
        tp_status status = tp_cuda_allocate(cuda_, parts * 8 + others, &spare);
        if (status == TP_OK) status = tp_cuda_allocate(cuda_, bytes, &own);
        if (spare) tp_cuda_free(cuda_, spare);
        if (status != TP_OK) return status == TP_ERR_MEMORY ? TP_OK : status;
        taken_.push_back(own);
        a_ = own;
        times_.in_bytes += bytes;
        return tp_cuda_copy(cuda_, own, in, bytes);
    }

    /* ||A||_F^2. */
    tp_status measure(double *norm) {
        double *sums, *largest;
        TRY(take(&sums, m_));
        TRY(take(&largest, m_));
        TRY(done(tp_cuda_row_norms(cuda_, s_.type, m_, n_, s_.stride, 0, m_, a_, sums, largest)));
        std::vector<double> rows((size_t)m_);
        TRY(tp_cuda_copy(cuda_, rows.data(), largest, m_ * 8));
        const double most = largest_ = *std::max_element(rows.begin(), rows.end());
        /* Squares of f32 do not leave f64. */
        if (s_.type == TP_F64 && most != 0 && !(most >= 0x1p-400 && most <= 0x1p400)) return TP_ERR_MAGNITUDE;
        TRY(tp_cuda_copy(cuda_, rows.data(), sums, m_ * 8));
        *norm = sum_by_halves(rows.data(), rows.size());
        return TP_OK;
    }

    /* gram_ = X^T X, its lower triangle, for X [rows, l], and a copy for the host. */
    tp_status gram(tp_dtype type, int64_t rows, const void *x) {
        const tp_multiplication s = {l_, l_, rows, l_, l_, l_, type, type, 1, 0, 1, 1, 0};
        TRY(multiply(s, x, x, gram_));
        return tp_cuda_copy(cuda_, host_.data(), gram_, l_ * l_ * 8);
    }

    double trace() const {
        double sum = 0;
        for (int64_t i = 0; i < l_; i++) sum += host_[(size_t)(i * (l_ + 1))];
        return sum;
    }

    /* ||gram_ - I||_F. */
    double defect() const {
        double sum = 0;
        for (int64_t i = 0; i < l_; i++) {
            for (int64_t j = 0; j <= i; j++) {
                const double x = host_[(size_t)(i * l_ + j)] - (i == j ? 1 : 0);
                sum += (i == j ? 1 : 2) * x * x;
            }
        }
        return std::sqrt(sum);
    }

    int64_t noise_rows() const { return std::min<int64_t>(std::max(m_, n_), std::max<int64_t>(1, (1 << 20) / l_)); }

    /* X += factor times Gaussian numbers. */
    tp_status add_noise(int64_t rows, double *x, double factor) {
        std::fill(host_.begin(), host_.end(), 0);
        for (int64_t i = 0; i < l_; i++) host_[(size_t)(i * (l_ + 1))] = 1;
        TRY(tp_cuda_copy(cuda_, gram_, host_.data(), l_ * l_ * 8));
        for (int64_t at = 0; at < rows; at += noise_rows()) {
            const int64_t count = std::min(noise_rows(), rows - at);
            TRY(done(tp_cuda_gaussian(cuda_, s_.seed, NOISE_STREAM, at * l_, (at + count) * l_, TP_F64, noise_)));
            const tp_multiplication s = {count, l_, l_, l_, l_, l_, TP_F64, TP_F64, 0, 0, 0, factor, 1};
            TRY(multiply(s, noise_, gram_, x + at * l_));
        }
        return TP_OK;
    }

    /*
     * The columns of X [rows, l] become orthonormal and span the same space: X = X L^-T, L L^T = X^T X, until X^T X was nearly the unit
     * matrix before. That takes two passes (CholeskyQR2). Where X^T X is not definite to working precision it is shifted by what rounding can
     * have done to it, and the result has a better condition (Fukaya, Kannan, Nakatsukasa, Yamamoto and Yanagisawa 2020). Columns
     * that depend on others altogether, as those of matrices of low rank, have no direction of their own: noise of the size of
     * rounding gives them one.
     */
    tp_status orthonormalize(int64_t rows, double *x) {
        bool noisy = false;
        for (int pass = 0; pass < MOST_PASSES; pass++) {
            TRY(gram(TP_F64, rows, x));
            const bool last = defect() < 0.1;
            tp_status status = done(tp_cuda_cholesky(cuda_, l_, l_, gram_));
            if (status == TP_ERR_INDEFINITE) {
                const double square = trace();
                if (!noisy) TRY(add_noise(rows, x, square > 0 ? 0x1p-50 * std::sqrt(square / (double)(rows * l_)) : 1));
                noisy = true;
                TRY(gram(TP_F64, rows, x));
                const double shift = 11 * U * (double)(rows * l_ + l_ * (l_ + 1)) * trace();
                for (int64_t i = 0; i < l_; i++) host_[(size_t)(i * (l_ + 1))] += shift;
                TRY(tp_cuda_copy(cuda_, gram_, host_.data(), l_ * l_ * 8));
                status = done(tp_cuda_cholesky(cuda_, l_, l_, gram_));
            }
            TRY(status);
            TRY(done(tp_cuda_triangular_solve(cuda_, l_, l_, gram_, 0, l_, 0, rows, x)));
            if (last) return TP_OK;
        }
        return TP_ERR_CONVERGENCE;
    }

    /* right_ = A^T Q [n, l]. */
    tp_status backward(tp_dtype type, const void *q) {
        const tp_multiplication s = {n_, l_, m_, s_.stride, l_, l_, s_.type, type, 1, 0, 0, 1, 0};
        return multiply(s, a_, q, right_);
    }

    /*
     * y = A x, or A^T x, for what only looks for the space: Q and B of f32 tell no more of it than products of TF32 find. Where f32 might
     * overflow, or the lower parts of numbers underflow, all is f64.
     */
    tp_status look(bool transposed, const double *x, double *y) {
        const int64_t from = transposed ? m_ : n_, to = transposed ? n_ : m_;
        if (!narrow_[0]) {
            const tp_multiplication s = {to, l_, from, s_.stride, l_, l_, s_.type, TP_F64, transposed, 0, 0, 1, 0};
            return multiply(s, a_, x, y);
        }
        const tp_copying rounding = {from, l_, l_, l_, TP_F64, TP_F32, 0, 1};
        TRY(done(tp_cuda_copy_rows(cuda_, &rounding, 0, from, nullptr, nullptr, x, narrow_[0])));
        return look_narrow({to, l_, from, s_.stride, l_, l_, TP_F32, transposed ? TP_GEMM_ATB : TP_GEMM_AB, 0}, y);
    }

    /* y = the product of A and narrow_[0]. */
    tp_status look_narrow(const tp_gemm_spec &s, double *y) {
        TRY(done(tp_cuda_gemm_tf32x3(cuda_, &s, 0, s.m, a_, narrow_[0], narrow_[1])));
        const tp_copying widening = {s.m, l_, l_, l_, TP_F32, TP_F64, 0, 1};
        return done(tp_cuda_copy_rows(cuda_, &widening, 0, s.m, nullptr, nullptr, narrow_[1], y));
    }

    /* left_: an orthonormal basis of what A and its powers make of Gaussian vectors. */
    tp_status sketch() {
        if (narrow_[0]) {
            TRY(done(tp_cuda_gaussian(cuda_, s_.seed, SKETCH_STREAM, 0, l_ * n_, TP_F32, narrow_[0])));
            TRY(look_narrow({m_, l_, n_, s_.stride, n_, l_, TP_F32, TP_GEMM_ABT, 0}, left_));
        } else {
            TRY(done(tp_cuda_gaussian(cuda_, s_.seed, SKETCH_STREAM, 0, l_ * n_, TP_F64, right_)));
            const tp_multiplication s = {m_, l_, n_, s_.stride, n_, l_, s_.type, TP_F64, 0, 1, 0, 1, 0};
            TRY(multiply(s, a_, right_, left_));
        }
        TRY(orthonormalize(m_, left_));
        for (int32_t power = 0; power < s_.powers; power++) {
            TRY(look(true, left_, right_));
            TRY(orthonormalize(n_, right_));
            TRY(look(false, right_, left_));
            TRY(orthonormalize(m_, left_));
        }
        return TP_OK;
    }

    /*
     * Q and B as they are handed out, rounded, and what they leave. With Z = A^T Q as it was computed
     *     ||A - Q B||^2 = ||A||^2 - 2 <Z^T, B> + <Q^T Q, B B^T>
     * holds for any Q and B, whether Q is quite orthonormal or not, and B rounded or not. So nothing but the roundings of these three numbers
     * stands between the sum and the truth. A term of a sum goes through so many of them, u each, and by Cauchy and Schwarz terms add up to
     * ||A||^2, to w ||A|| and to w^2, w the sum of |q_i| |b_i|, which is at most sqrt(l) ||B|| for orthonormal Q.
     */
    tp_status finish(void *q, void *b, double norm, double *residual) {
        const int64_t size = s_.out_type == TP_F64 ? 8 : 4;
        void *own_q = left_;
        char *own_b;
        TRY(take(&own_b, l_ * n_ * size));
        if (s_.out_type != TP_F64) {
            char *narrow;
            TRY(take(&narrow, m_ * l_ * size));
            const tp_copying rounding = {m_, l_, l_, l_, TP_F64, s_.out_type, 0, 1};
            TRY(done(tp_cuda_copy_rows(cuda_, &rounding, 0, m_, nullptr, nullptr, left_, narrow)));
            own_q = narrow;
        }
        TRY(backward(s_.out_type, own_q));
        const tp_copying turning = {n_, l_, l_, n_, TP_F64, s_.out_type, 1, 1};
        TRY(done(tp_cuda_copy_rows(cuda_, &turning, 0, n_, nullptr, nullptr, right_, own_b)));

        const size_t all = (size_t)(l_ * l_);
        TRY(gram(s_.out_type, m_, own_q));
        const std::vector<double> g = host_;
        std::vector<double> k(all), t(all);
        const tp_multiplication squares = {l_, l_, n_, n_, n_, l_, s_.out_type, s_.out_type, 0, 1, 1, 1, 0};
        TRY(multiply(squares, own_b, own_b, gram_));
        TRY(tp_cuda_copy(cuda_, k.data(), gram_, l_ * l_ * 8));
        const tp_multiplication mixed = {l_, l_, n_, n_, l_, l_, s_.out_type, TP_F64, 0, 0, 1, 1, 0};
        TRY(multiply(mixed, own_b, right_, gram_));
        TRY(tp_cuda_copy(cuda_, t.data(), gram_, l_ * l_ * 8));

        double along = 0, product = 0, kept = 0, w = 0;
        for (int64_t i = 0; i < l_; i++) {
            double row = 0;
            for (int64_t j = 0; j < i; j++) row += 2 * g[(size_t)(i * l_ + j)] * k[(size_t)(i * l_ + j)];
            const size_t d = (size_t)(i * (l_ + 1));
            product += row + g[d] * k[d];
            along += t[d];
            kept += k[d];
            w += std::sqrt(g[d] * k[d]);
        }
        const double l = (double)l_, of_norm = (double)n_ / 16 + 16 + std::ceil(std::log2((double)m_)), of_sums = roundings(m_) + roundings(n_);
        const double root = std::sqrt(norm);
        const double slack = 1.01 * U * ((of_norm + 3) * norm + 2 * (of_sums + l + 3) * root * w + (of_sums + 2 * l + 4) * w * w);
        residual[0] = std::max(0.0, norm - 2 * along + product) + slack;
        residual[1] = norm;
        residual[2] = kept;
        residual[3] = slack;
        TRY(tp_cuda_copy(cuda_, q, own_q, m_ * l_ * size));
        times_.out_bytes += (m_ + n_) * l_ * size;
        return tp_cuda_copy(cuda_, b, own_b, l_ * n_ * size);
    }

    tp_cuda *cuda_;
    const tp_qb &s_;
    const int64_t m_, n_, l_;
    const void *a_ = nullptr;
    double largest_ = 0;
    float *narrow_[2] = {}; /* an operand and a product in f32, [max(m, n), l] each; null if all is f64 */
    double *left_ = nullptr, *right_ = nullptr, *gram_ = nullptr, *noise_ = nullptr;
    std::vector<double> host_; /* [l, l] */
    std::vector<void *> taken_;
    tp_cuda_times times_ = {};
};

tp_status check_qb(const tp_qb *s, const void *in, const void *q, const void *b, const double *residual) {
    if (!s) return TP_ERR_ARGUMENT;
    if (!tp_svd_is_float(s->type) || !tp_svd_is_float(s->out_type)) return TP_ERR_TYPE;
    TRY(tp_svd_check_matrix(s->m, s->n, s->stride));
    if (s->rank < 1 || s->rank > s->m || s->rank > s->n) return TP_ERR_SHAPE;
    if (s->powers < 0 || !in || !q || !b || !residual) return TP_ERR_ARGUMENT;
    return TP_OK;
}

}  // namespace
}  // namespace tp

#endif
