/* The public functions: checks, which arrays are where, and the order of kernels. */
#include "spmm/checks.h"

#include "cuda/spmm/product.cuh"
#include "cuda/spmm/transposed.cuh"

using namespace tp;

namespace {

/* Rows of A that are sorted by columns together, so that 16 bits count them; and the most counts that are kept meanwhile. */
enum : int64_t { SORTED_ROWS = 65536, MOST_COUNTS = INT64_C(1) << 26, MOST_CHUNKS = 1024, CHUNK_ROWS = 16 };

/* Offsets may lie on the device. */
tp_status count_units(tp_cuda *cuda, const int64_t *offsets, int64_t begin, int64_t end, int64_t (&bounds)[2]) {
    TRY(tp_cuda_copy(cuda, &bounds[0], offsets + begin, sizeof *offsets));
    return tp_cuda_copy(cuda, &bounds[1], offsets + end, sizeof *offsets);
}

const void *values_at(Call &call, tp_dtype type, const void *values, int64_t first, int64_t count) {
    if (type == TP_F32) return call.whole(static_cast<const float *>(values) + first, count * 4, READ);
    return call.whole(static_cast<const int8_t *>(values) + first, count, READ);
}

/* Lines [begin, end) of A, whose units are [first, last) of the arrays. */
SparseLines lines_of(Call &call, const tp_product *p, int64_t begin, int64_t end, int64_t first, int64_t last, const int64_t *offsets,
                     const void *indices, const void *values) {
    const tp_sparse *s = &p->a;
    const bool bsr = s->layout == TP_SPARSE_BSR;
    SparseLines a = {};
    a.first = begin;
    a.end = end;
    a.rows = s->rows;
    a.cols = s->cols;
    a.layout = s->layout;
    a.block_rows = bsr ? (int32_t)s->block_rows : 1;
    a.block_cols = bsr ? (int32_t)s->block_cols : 1;
    if (s->layout != TP_SPARSE_NM24) a.offsets = call.whole(offsets + begin, (end - begin + 1) * (int64_t)sizeof *offsets, READ);
    if (first == last) return a;
    if (s->layout == TP_SPARSE_NM24) {
        const int64_t row_bytes = ((s->cols + 3) / 4 + 1) / 2;
        a.indices = call.whole(static_cast<const uint8_t *>(indices) + begin * row_bytes, (end - begin) * row_bytes, READ);
    } else if (s->layout == TP_SPARSE_CSR16) {
        a.indices = call.whole(static_cast<const uint16_t *>(indices) + first, (last - first) * 2, READ);
    } else {
        a.indices = call.whole(static_cast<const uint32_t *>(indices) + first, (last - first) * 4, READ);
    }
    const int64_t elements = (int64_t)a.block_rows * a.block_cols;
    a.values = values_at(call, s->type, values, first * elements, (last - first) * elements);
    return a;
}

unsigned blocks_for(int64_t items, int64_t each) { return (unsigned)((items + each - 1) / each); }

/* The batch's rows by columns. */
template <int LAYOUT, class T> cudaError_t queue_sort(const SparseLines &a, const ByColumns &s, cudaStream_t stream) {
    cudaError_t error = cudaMemsetAsync(s.counts, 0, (size_t)(s.chunks * a.cols) * sizeof *s.counts, stream);
    const dim3 chunks(blocks_for(s.chunks, LINE_WARPS)), columns(blocks_for(a.cols, LINE_THREADS));
    if (error == cudaSuccess) error = tp_launch(stream, count_columns<LAYOUT>, chunks, LINE_THREADS, 0, a, s);
    if (error == cudaSuccess) error = tp_launch(stream, add_up_chunks, columns, LINE_THREADS, 0, a.cols, s);
    if (error == cudaSuccess) error = tp_launch(stream, add_up_columns, dim3(1), SCAN_THREADS, 0, a.cols, s);
    if (error == cudaSuccess) error = tp_launch(stream, sort_by_columns<LAYOUT, T>, chunks, LINE_THREADS, 0, a, s);
    return error;
}

template <class T>
cudaError_t queue_transposed(const SparseProduct &p, ByColumns s, bool sorted, int64_t begin, int64_t end, cudaStream_t stream) {
    const dim3 elements(blocks_for((end - begin) * p.n, LINE_THREADS));
    for (s.first = p.a.first; s.first < p.a.end; s.first = s.end) {
        s.end = p.a.end - s.first < SORTED_ROWS ? p.a.end : s.first + SORTED_ROWS;
        cudaError_t error = cudaSuccess;
        /* The order of one batch serves all pieces. */
        if (!sorted || p.a.end - p.a.first > SORTED_ROWS)
            error = p.a.layout == TP_SPARSE_CSR16 ? queue_sort<TP_SPARSE_CSR16, T>(p.a, s, stream)
                                                  : queue_sort<TP_SPARSE_CSR32, T>(p.a, s, stream);
        if (error == cudaSuccess) error = tp_launch(stream, add_columns<T>, elements, LINE_THREADS, 0, p, s, begin, end);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

}  // namespace

extern "C" tp_status tp_cuda_spmm(tp_cuda *cuda, const tp_product *spec, int64_t begin, int64_t end, const int64_t *offsets,
                                  const void *indices, const void *values, const void *b, void *out) {
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_spmm_check_product(spec, false));
    TRY(tp_check_range(begin, end, tp_spmm_lines(spec)));
    if (begin == end || spec->n == 0) return TP_OK;
    TRY(tp_spmm_check_offsets(spec, offsets, out));
    const tp_sparse *s = &spec->a;
    const bool nm24 = s->layout == TP_SPARSE_NM24;
    int64_t bounds[2] = {begin * tp_nm24_units(spec), end * tp_nm24_units(spec)};
    if (!nm24) TRY(count_units(cuda, offsets, begin, end, bounds));
    TRY(tp_spmm_check_units(bounds[1] - bounds[0], indices, values, b));

    Call call(cuda);
    const int64_t line_rows = tp_line_rows(spec), size = s->type == TP_F32 ? 4 : 1;
    SparseProduct p = {};
    p.a = lines_of(call, spec, begin, end, bounds[0], bounds[1], offsets, indices, values);
    p.units = bounds[1] - bounds[0];
    p.n = spec->n;
    p.b_stride = spec->b_stride;
    if (p.units) p.b = values_at(call, s->type, b, 0, (s->cols - 1) * p.b_stride + p.n);
    p.b_aligned = reinterpret_cast<uintptr_t>(p.b) % (uintptr_t)(4 * size) == 0 && p.b_stride % 4 == 0;
    const int64_t places = (p.units + TP_SPMM_SEGMENT - 1) / TP_SPMM_SEGMENT * 2;
    if (!nm24 && p.units > TP_SPMM_SEGMENT) p.partials = call.scratch<uint32_t>(places * line_rows * p.n);
    const int at = call.lines(out, WRITE, {spec->out_stride, p.n, 32, false});
    const int64_t first_row = begin * line_rows, last_row = end * line_rows < s->rows ? end * line_rows : s->rows;
    return call.run(first_row, last_row, line_rows, [&](const Piece &piece) {
        p.out = piece[at].base;
        p.out_stride = piece[at].stride;
        const int64_t first = piece.begin / line_rows, last = (piece.end + line_rows - 1) / line_rows;
        return s->type == TP_F32 ? queue_lines_f32(p, first, last, piece.stream) : queue_lines_i8(p, first, last, piece.stream);
    });
}

extern "C" tp_status tp_cuda_spmm_transposed(tp_cuda *cuda, const tp_product *spec, int64_t begin, int64_t end, int64_t first,
                                             int64_t last, const int64_t *offsets, const void *indices, const void *values,
                                             const void *b, void *out) {
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_spmm_check_product(spec, true));
    TRY(tp_check_range(begin, end, spec->a.rows));
    TRY(tp_check_range(first, last, spec->n));
    if (begin == end || first == last || spec->a.cols == 0) return TP_OK;
    TRY(tp_spmm_check_offsets(spec, offsets, out));
    int64_t bounds[2];
    TRY(count_units(cuda, offsets, begin, end, bounds));
    const int64_t units = bounds[1] - bounds[0], cols = spec->a.cols, rows = end - begin;
    TRY(tp_spmm_check_units(units, indices, values, b));
    if (units == 0) return TP_OK;

    Call call(cuda);
    const tp_dtype type = spec->a.type;
    const int64_t size = type == TP_F32 ? 4 : 1;
    SparseProduct p = {};
    p.a = lines_of(call, spec, begin, end, bounds[0], bounds[1], offsets, indices, values);
    p.n = last - first;
    p.b_stride = spec->b_stride;
    p.b = values_at(call, type, b, begin * p.b_stride + first, (rows - 1) * p.b_stride + p.n);
    ByColumns sorted = {};
    const int64_t batch = rows < SORTED_ROWS ? rows : SORTED_ROWS, most = MOST_COUNTS / cols < MOST_CHUNKS ? MOST_COUNTS / cols : MOST_CHUNKS;
    const int64_t wanted = (batch + CHUNK_ROWS - 1) / CHUNK_ROWS, chunks = wanted < most ? wanted : most > 1 ? most : 1;
    sorted.chunk_rows = (batch + chunks - 1) / chunks;
    sorted.chunks = chunks;
    sorted.counts = call.scratch<int32_t>(chunks * cols);
    sorted.starts = call.scratch<int64_t>(cols + 1);
    sorted.rows = call.scratch<uint16_t>(units);
    sorted.values = call.scratch<char>(units * size);
    const int at = call.lines(static_cast<char *>(out) + first * 4, READ_WRITE, {spec->out_stride, p.n, 32, false});
    bool done = false;
    return call.run(0, cols, 1, [&](const Piece &piece) {
        p.out = piece[at].base;
        p.out_stride = piece[at].stride;
        const cudaError_t error = type == TP_F32 ? queue_transposed<float>(p, sorted, done, piece.begin, piece.end, piece.stream)
                                                 : queue_transposed<int8_t>(p, sorted, done, piece.begin, piece.end, piece.stream);
        done = true;
        return error;
    });
}
