/* The functions of tensorpress/cuda/quantize.h: which kernels a plan takes, and with what grids. */
#include "tensorpress/cuda/quantize.h"

#include <type_traits>

#include "cuda/quantize/columns.cuh"
#include "cuda/quantize/decode.cuh"
#include "cuda/quantize/elements.cuh"
#include "cuda/quantize/rows.cuh"
#include "cuda/quantize/search.cuh"
#include "quantize/checks.h"

using namespace tp;

namespace {

/* Of columns, pieces begin at multiples of so many; of rows, at even ones, which begin with a byte whatever out_stride is. */
enum : int64_t { COLUMN_GRANULE = 16, ROW_GRANULE = 2 };

/* Runs of a search whose sums are there at a time, and the largest grids. In tests, numbers that small matrices pass. */
#ifdef TP_CUDA_EMULATED
enum : int64_t { SEARCH_RUNS = 20, MOST_BLOCKS = 3, MOST_BLOCKS_Y = 2 };
#else
enum : int64_t { SEARCH_RUNS = 1 << 14, MOST_BLOCKS = 1 << 30, MOST_BLOCKS_Y = 65535 };
#endif

/* Leaves a function that queues kernels. */
#define LAUNCH(...)                                                                                                   \
    do {                                                                                                              \
        const cudaError_t launch_error = tp_launch(__VA_ARGS__);                                                      \
        if (launch_error != cudaSuccess) return launch_error;                                                         \
    } while (0)

template <tp_dtype TYPE> using Type = std::integral_constant<tp_dtype, TYPE>;

/* f of the type of elements as a constant. */
template <class F> auto by_type(tp_dtype type, F f) {
    return type == TP_F32 ? f(Type<TP_F32>()) : type == TP_F16 ? f(Type<TP_F16>()) : f(Type<TP_BF16>());
}

dim3 grid(int64_t tasks, int64_t each, int64_t most = MOST_BLOCKS) { return dim3((unsigned)smaller(pieces_of(tasks, each), most)); }

/* Panels of lines, or slices of a line, times so many others, which are shared by fewer blocks if there are very many. */
dim3 plane(int64_t tasks, int64_t each, int64_t others) { return dim3((unsigned)pieces_of(tasks, each), (unsigned)smaller(others, MOST_BLOCKS_Y)); }

/* The arrays of a call, whichever of them there are, and the job of a piece. */
struct Arrays {
    int in, codes, scales = -1, zeros = -1;
    float *scale = nullptr;   /* per tensor */
    uint8_t *zero = nullptr;

    Arrays(Call &call, const tp_plan &p, const void *matrix, int matrix_bits, Role matrix_role, const void *code, int64_t code_length,
           Role code_role, const float *s, const uint8_t *z, Role scale_role) {
        in = call.lines(matrix, matrix_role, {p.in_stride, p.length, matrix_bits, p.by_column});
        codes = call.lines(code, code_role, {p.out_stride, code_length, p.four_bits ? 4 : 8, !p.code_lines});
        if (p.per_tensor) {
            scale = call.whole(const_cast<float *>(s), 4, scale_role);
            zero = call.whole(const_cast<uint8_t *>(z), 1, scale_role);
        } else {
            const int64_t stride = p.code_lines ? p.groups : p.cols;
            scales = call.lines(s, scale_role, {stride, p.groups, 32, !p.code_lines});
            zeros = call.lines(z, scale_role, {stride, p.groups, 8, !p.code_lines});
        }
    }

    Job job(const Call &call, const tp_plan &plan, const Piece &piece) const {
        Job j = {};
        j.plan = plan;
        j.in = piece[in].base;
        j.plan.in_stride = piece[in].stride;
        j.codes = piece[codes].as<uint8_t>();
        j.plan.out_stride = piece[codes].stride;
        j.scales = plan.per_tensor ? scale : piece[scales].as<float>();
        j.zeros = plan.per_tensor ? zero : piece[zeros].as<uint8_t>();
        j.scale_stride = plan.per_tensor ? 0 : piece[scales].stride;
        j.zero_stride = plan.per_tensor ? 0 : piece[zeros].stride;
        j.flags = call.flags();
        j.whole_bytes = !plan.four_bits || j.plan.out_stride % 2 == 0;
        return j;
    }
};

/* f of whether squares count by importance, as a constant. */
template <class F> cudaError_t by_importance(const tp_plan &p, F f) { return p.importance ? f(std::true_type()) : f(std::false_type()); }

/* The numbers of a search on the device. */
const float *importance_of(Call &call, const tp_plan &p) {
    if (!p.importance) return nullptr;
    const int64_t count = p.by_column ? p.length : p.part ? p.lines / p.part * p.length : p.lines;
    return call.whole(const_cast<float *>(p.importance), count * (int64_t)sizeof(float), READ);
}

int bits_of_type(tp_dtype type) { return (int)tp_size_of(type) * 8; }
int64_t granule(const tp_plan &p) { return p.by_column ? COLUMN_GRANULE : ROW_GRANULE; }

/* NaN and infinities come first, as on the processor. */
tp_status status_of(tp_status status, unsigned found) {
    if (status != TP_OK) return status;
    return found & FOUND_NONFINITE ? TP_ERR_NONFINITE : found & FOUND_SCALE ? TP_ERR_SCALE : TP_OK;
}

/* Device memory for the scales of whole lines: extremes, and where there is a search sums of runs and totals of lines. */
struct Workspace {
    int *lows = nullptr, *highs = nullptr;
    float *sums = nullptr;
    double *totals = nullptr;

    Workspace() {}
    Workspace(Call &call, const tp_plan &p, int64_t groups, int64_t lines) {
        lows = call.scratch<int>(groups);
        highs = call.scratch<int>(groups);
        if (!p.clip_steps) return;
        const int64_t runs = smaller(SEARCH_RUNS, lines * pieces_of(p.length, RUN));
        sums = call.scratch<float>(runs * p.clip_steps);
        totals = call.scratch<double>(smaller(runs, groups) * p.clip_steps);
    }
};

/* Elements of a row that a block takes. */
template <tp_dtype TYPE> constexpr int64_t SLICE = (int64_t)THREADS * SLICE_CHUNKS * Chunk<TYPE>::COUNT;

/* Queues the search in rows [begin, end), together one group if `one`, whose extremes begin at these. */
template <tp_dtype TYPE>
cudaError_t search_rows(cudaStream_t stream, const Job &job, int64_t begin, int64_t end, bool one, const int *lows, const int *highs,
                        const Workspace &work) {
    const tp_plan &p = job.plan;
    const int64_t in_row = pieces_of(p.length, RUN);
    /* So many lines at a time that their runs fit, or one of which some runs do. */
    const int64_t batch = one ? end - begin : in_row < SEARCH_RUNS ? SEARCH_RUNS / in_row : 1;
    for (int64_t b = begin; b < end; b += batch) {
        const int64_t lines = smaller(batch, end - b), runs = lines * in_row, groups = one ? 1 : lines;
        const int *l = lows + (b - begin), *h = highs + (b - begin);
        for (int64_t u = 0; u < runs; u += SEARCH_RUNS) {
            const int64_t to = smaller(u + SEARCH_RUNS, runs);
            const cudaError_t error = by_importance(p, [&](auto counts) {
                return tp_launch(stream, (search_runs<TYPE, decltype(counts)::value>), grid(to - u, runs_at_once(p.clip_steps)), THREADS, 0, job,
                                 b, one, l, h, u, to, work.sums);
            });
            if (error != cudaSuccess) return error;
            LAUNCH(stream, add_runs, grid(groups * p.clip_steps, THREADS), THREADS, 0, job, one, u, to, work.sums, work.totals);
        }
        LAUNCH(stream, choose_steps, grid(groups, THREADS), THREADS, 0, job, b, groups, l, h, work.totals);
    }
    return cudaSuccess;
}

/* Whether the kernel that makes the codes cannot make the scales as well. */
template <tp_dtype TYPE> bool scales_first(const tp_plan &p) {
    return p.clip_steps || (p.groups == 1 && p.length > (p.by_column ? (int64_t)SHORT_COLUMN : row_in_registers<TYPE>(THREADS)));
}

/* Queues the kernels that make the scales of lines [begin, end), and no codes. */
template <tp_dtype TYPE>
cudaError_t make_scales(cudaStream_t stream, const Job &job, int64_t begin, int64_t end, int64_t first, const Workspace &work) {
    const tp_plan &p = job.plan;
    const int64_t lines = end - begin;
    if (p.clip_steps && p.by_column) {
        return by_importance(p, [&](auto counts) {
            return tp_launch(stream, (search_columns<TYPE, decltype(counts)::value>), plane(lines, TP_WARP, p.groups), THREADS, 0, job, begin, end);
        });
    }
    if (p.clip_steps && p.group <= RUN) {
        return by_importance(p, [&](auto counts) {
            return tp_launch(stream, (search_row_blocks<TYPE, decltype(counts)::value>), grid(lines * p.groups, runs_at_once(p.clip_steps)),
                             THREADS, 0, job, begin, end);
        });
    }
    int *lows = work.lows + (begin - first), *highs = work.highs + (begin - first);
    LAUNCH(stream, start_extremes, grid(lines, THREADS), THREADS, 0, lows, highs, lines, 0.0f, 0.0f);
    if (p.by_column) {
        const int64_t slabs = pieces_of(p.length, COLUMN_SLAB);
        LAUNCH(stream, extremes_of_columns<TYPE>, plane(lines, PANEL, slabs), THREADS, 0, job, begin, end, lows, highs, begin);
    } else {
        LAUNCH(stream, extremes_of_rows<TYPE>, plane(p.length, SLICE<TYPE>, lines), THREADS, 0, job, begin, end, lows, highs, begin);
    }
    if (p.clip_steps) return search_rows<TYPE>(stream, job, begin, end, false, lows, highs, work);
    LAUNCH(stream, scale_lines, grid(lines, THREADS), THREADS, 0, job, begin, end, lows, highs, begin);
    return cudaSuccess;
}

/* Queues the kernels that make codes, and scales if they are not given. */
template <tp_dtype TYPE> cudaError_t make_codes(cudaStream_t stream, const Job &job, int64_t begin, int64_t end) {
    const tp_plan &p = job.plan;
    const int64_t lines = end - begin;
    if (p.by_column) {
        const int64_t slab = p.groups == 1 && p.length > SHORT_COLUMN ? (int64_t)SHORT_COLUMN : p.group;
        LAUNCH(stream, quantize_columns<TYPE>, plane(lines, PANEL, pieces_of(p.length, slab)), THREADS, 0, job, begin, end, slab);
    } else if (p.group <= 2 * TP_WARP * Chunk<TYPE>::COUNT) {
        const int64_t chunks = pieces_of(p.group, Chunk<TYPE>::COUNT);
        int team = 1;
        while (2 * team < chunks) team *= 2;
        LAUNCH(stream, quantize_row_blocks<TYPE>, grid(lines * p.groups, THREADS / team), THREADS, 0, job, begin, end, team);
    } else if (p.length <= row_in_registers<TYPE>(TP_WARP)) {
        LAUNCH(stream, (quantize_rows<TYPE, TP_WARP>), grid(lines, WARPS), THREADS, 0, job, begin, end);
    } else if (job.given) {
        LAUNCH(stream, encode_rows<TYPE>, plane(p.length, SLICE<TYPE>, lines), THREADS, 0, job, begin, end);
    } else {
        LAUNCH(stream, (quantize_rows<TYPE, THREADS>), grid(lines, 1), THREADS, 0, job, begin, end);
    }
    if (!job.whole_bytes) {
        const int64_t rows = p.code_lines ? lines : p.padded, width = (p.code_lines ? p.padded : lines) / 2 + 1;
        LAUNCH(stream, encode_bytes<TYPE>, grid(rows * width, THREADS), THREADS, 0, job, begin, end);
    }
    return cudaSuccess;
}

tp_status quantize_lines(tp_cuda *cuda, const tp_plan &plan, int64_t begin, int64_t end, const void *in, void *codes, float *scales,
                         uint8_t *zeros, bool given) {
    if (begin == end || plan.groups == 0) return TP_OK;
    Call call(cuda);
    const Arrays arrays(call, plan, in, bits_of_type(plan.in_type), READ, codes, plan.padded, WRITE, scales, zeros, given ? READ : WRITE);
    const bool first = !given && plan.length && by_type(plan.in_type, [&](auto type) { return scales_first<decltype(type)::value>(plan); });
    Workspace work = first ? Workspace(call, plan, end - begin, end - begin) : Workspace();
    const float *importance = given ? nullptr : importance_of(call, plan);
    const tp_status status = call.run(begin, end, granule(plan), [&](const Piece &p) -> cudaError_t {
        Job job = arrays.job(call, plan, p);
        job.given = given;
        job.plan.importance = importance;
        if (plan.length == 0) {
            LAUNCH(p.stream, scale_lines, grid(p.end - p.begin, THREADS), THREADS, 0, job, p.begin, p.end, nullptr, nullptr, p.begin);
            return cudaSuccess;
        }
        return by_type(plan.in_type, [&](auto type) -> cudaError_t {
            constexpr tp_dtype TYPE = decltype(type)::value;
            if (first) {
                const cudaError_t error = make_scales<TYPE>(p.stream, job, p.begin, p.end, begin, work);
                if (error != cudaSuccess) return error;
                job.given = true;
            }
            return make_codes<TYPE>(p.stream, job, p.begin, p.end);
        });
    });
    return status_of(status, call.found());
}

/* Queues what collects the extremes of rows, which are one group: of those before [begin, end) too, unless they are the first. */
cudaError_t collect_extremes(const Call &call, cudaStream_t stream, const Job &job, int64_t begin, int64_t end, bool first, float low,
                             float high, int *extremes) {
    if (first) LAUNCH(stream, start_extremes, dim3(1), THREADS, 0, extremes, extremes + 1, (int64_t)1, low, high);
    return by_type(job.plan.in_type, [&](auto type) -> cudaError_t {
        constexpr tp_dtype TYPE = decltype(type)::value;
        const int64_t chunks = (end - begin) * pieces_of(job.plan.length, Chunk<TYPE>::COUNT);
        LAUNCH(stream, extremes_of_matrix<TYPE>, grid(chunks, THREADS * SLICE_CHUNKS, (int64_t)call.multiprocessors() * 8), THREADS, 0, job,
               begin, end, extremes, extremes + 1);
        return cudaSuccess;
    });
}

/* The scale of a tensor. Its extremes are collected piece by piece; a search goes through it as often as there are steps, and takes it whole. */
tp_status scale_tensor(tp_cuda *cuda, const tp_plan &plan, const void *in, float *scales, uint8_t *zeros) {
    if (plan.lines == 0 || plan.length == 0) {
        float scale, zero;
        tp_scale(&plan, 0, 0, 1, &scale, &zero);
        const uint8_t byte = tp_zero_byte(zero);
        TRY(tp_cuda_copy(cuda, scales, &scale, sizeof scale));
        return zeros ? tp_cuda_copy(cuda, zeros, &byte, 1) : TP_OK;
    }
    Call call(cuda);
    const int64_t bytes = ((plan.lines - 1) * plan.in_stride + plan.length) * tp_size_of(plan.in_type);
    const bool whole = plan.clip_steps > 0;
    void *all = nullptr;
    int lines = 0;
    if (whole && plan.in_type == TP_F32)
        all = call.whole(static_cast<float *>(const_cast<void *>(in)), bytes, READ);
    else if (whole)
        all = call.whole(static_cast<uint16_t *>(const_cast<void *>(in)), bytes, READ);
    else
        lines = call.lines(in, READ, {plan.in_stride, plan.length, bits_of_type(plan.in_type), false});
    Job job = {};
    job.plan = plan;
    job.scales = call.whole(scales, 4, WRITE);
    job.zeros = call.whole(zeros, 1, WRITE);
    job.flags = call.flags();
    job.plan.importance = importance_of(call, plan);
    int *extremes = call.scratch<int>(2);
    Workspace work = whole ? Workspace(call, plan, 1, plan.lines) : Workspace();
    const tp_status status = call.run(0, plan.lines, whole ? plan.lines : 1, [&](const Piece &p) -> cudaError_t {
        job.in = whole ? static_cast<char *>(all) : p[lines].base;
        job.plan.in_stride = whole ? plan.in_stride : p[lines].stride;
        const cudaError_t error = collect_extremes(call, p.stream, job, p.begin, p.end, p.begin == 0, 0, 0, extremes);
        if (error != cudaSuccess || p.end < plan.lines) return error;
        if (whole)
            return by_type(plan.in_type, [&](auto type) {
                return search_rows<decltype(type)::value>(p.stream, job, 0, plan.lines, true, extremes, extremes + 1, work);
            });
        LAUNCH(p.stream, scale_lines, dim3(1), THREADS, 0, job, (int64_t)0, (int64_t)1, extremes, extremes + 1, (int64_t)0);
        return cudaSuccess;
    });
    return status_of(status, call.found());
}

/* A scale that nobody uses has to be valid all the same. */
tp_status check_scale(tp_cuda *cuda, const tp_plan &plan, const float *scales, const uint8_t *zeros) {
    float scale;
    uint8_t zero = 0;
    TRY(tp_cuda_copy(cuda, &scale, scales, sizeof scale));
    if (zeros) TRY(tp_cuda_copy(cuda, &zero, zeros, 1));
    return tp_valid_scale(&plan, scale, tp_zero_at(&plan, zeros ? &zero : nullptr, 0)) ? TP_OK : TP_ERR_SCALE;
}

/* As tp_end_nibbles. */
tp_status end_nibbles(tp_cuda *cuda, const tp_plan &plan, int64_t end, void *codes) {
    if (!plan.four_bits || end != plan.lines || plan.code_count % 2 == 0 || !codes) return TP_OK;
    uint8_t *last = static_cast<uint8_t *>(codes) + plan.code_count / 2, byte;
    TRY(tp_cuda_copy(cuda, &byte, last, 1));
    tp_put_nibble(&byte, 1, 0);
    return tp_cuda_copy(cuda, last, &byte, 1);
}

/* A call that touches nothing, on a tp_cuda that has to be one. */
tp_status nothing(tp_cuda *cuda) { return cuda ? TP_OK : TP_ERR_ARGUMENT; }

template <tp_dtype FROM, tp_dtype TO> cudaError_t convert_piece(const Piece &p, int in, int out) {
    LAUNCH(p.stream, (convert_elements<FROM, TO>), grid(p.end - p.begin, THREADS * EIGHT), THREADS, 0, static_cast<const char *>(p[in].base),
           p[out].base, p.begin, p.end);
    return cudaSuccess;
}

}  // namespace

tp_status tp_cuda_quantize(tp_cuda *cuda, const tp_quant *spec, int64_t begin, int64_t end, const void *in, void *codes, float *scales,
                           uint8_t *zeros) {
    return guarded([&]() -> tp_status {
        tp_plan plan = {};
        TRY(tp_check_quantize(spec, begin, end, in, codes, scales, zeros, &plan));
        TRY(nothing(cuda));
        bool given = plan.range == TP_SCALES_GIVEN;
        if (plan.per_tensor && !given) {
            TRY(scale_tensor(cuda, plan, in, scales, zeros));
            given = true;
        } else if (plan.per_tensor && (begin == end || plan.length == 0)) {
            TRY(check_scale(cuda, plan, scales, zeros));
        }
        if (!plan.per_tensor || plan.length) TRY(quantize_lines(cuda, plan, begin, end, in, codes, scales, zeros, given));
        return end_nibbles(cuda, plan, end, codes);
    });
}

tp_status tp_cuda_minmax(tp_cuda *cuda, const tp_quant *spec, int64_t begin, int64_t end, const void *in, float *min, float *max) {
    return guarded([&]() -> tp_status {
        tp_plan plan = {};
        float found[2] = {0, 0};
        TRY(tp_check_minmax(spec, begin, end, in, min, max, &plan));
        if (begin < end && plan.cols) {
            plan.length = plan.cols;
            Call call(cuda);
            const int lines = call.lines(in, READ, {plan.in_stride, plan.cols, bits_of_type(plan.in_type), false});
            int *extremes = call.scratch<int>(2);
            float *floats = call.whole(found, sizeof found, WRITE);
            const tp_status status = call.run(begin, end, 1, [&](const Piece &p) -> cudaError_t {
                Job job = {};
                job.plan = plan;
                job.in = p[lines].base;
                job.plan.in_stride = p[lines].stride;
                job.flags = call.flags();
                const cudaError_t error = collect_extremes(call, p.stream, job, p.begin, p.end, p.begin == begin, INFINITY, -INFINITY, extremes);
                if (error != cudaSuccess || p.end < end) return error;
                LAUNCH(p.stream, end_extremes, dim3(1), TP_WARP, 0, extremes, extremes + 1, floats);
                return cudaSuccess;
            });
            TRY(status_of(status, call.found()));
        }
        TRY(tp_cuda_copy(cuda, min, &found[0], sizeof *min));
        return tp_cuda_copy(cuda, max, &found[1], sizeof *max);
    });
}

tp_status tp_cuda_dequantize(tp_cuda *cuda, const tp_quant *spec, int64_t begin, int64_t end, const void *codes, const float *scales,
                             const uint8_t *zeros, float *out) {
    return guarded([&]() -> tp_status {
        tp_plan plan = {};
        TRY(tp_check_dequantize(spec, begin, end, codes, scales, out, &plan));
        if (begin == end || plan.length == 0) return nothing(cuda);
        Call call(cuda);
        const Arrays arrays(call, plan, out, 32, WRITE, codes, plan.length, READ, scales, zeros, READ);
        return call.run(begin, end, granule(plan), [&](const Piece &p) -> cudaError_t {
            const Job job = arrays.job(call, plan, p);
            const int64_t lines = p.end - p.begin;
            if (plan.by_column)
                LAUNCH(p.stream, dequantize_columns, plane(lines, PANEL, pieces_of(plan.length, PANEL)), THREADS, 0, job, p.begin, p.end);
            else
                LAUNCH(p.stream, dequantize_rows, grid(lines * pieces_of(plan.length, QUAD), THREADS), THREADS, 0, job, p.begin, p.end);
            return cudaSuccess;
        });
    });
}

tp_status tp_cuda_quantize_error(tp_cuda *cuda, const tp_quant *spec, int64_t begin, int64_t end, const void *in, const void *codes,
                                 const float *scales, const uint8_t *zeros, tp_error *errors) {
    return guarded([&]() -> tp_status {
        tp_plan plan = {};
        TRY(tp_check_quantize_error(spec, begin, end, in, codes, scales, errors, &plan));
        if (begin == end) return nothing(cuda);
        Call call(cuda);
        const Arrays arrays(call, plan, in, bits_of_type(plan.in_type), READ, codes, plan.length, READ, scales, zeros, READ);
        tp_error *all = call.whole(errors, (end - begin) * (int64_t)sizeof *errors, WRITE);
        return call.run(begin, end, granule(plan), [&](const Piece &p) -> cudaError_t {
            const Job job = arrays.job(call, plan, p);
            return by_type(plan.in_type, [&](auto type) -> cudaError_t {
                constexpr tp_dtype TYPE = decltype(type)::value;
                if (plan.by_column)
                    LAUNCH(p.stream, errors_of_columns<TYPE>, grid(p.end - p.begin, TP_WARP), THREADS, 0, job, p.begin, p.end, all, begin);
                else
                    LAUNCH(p.stream, errors_of_rows<TYPE>, grid(p.end - p.begin, THREADS / 16), THREADS, 0, job, p.begin, p.end, all, begin);
                return cudaSuccess;
            });
        });
    });
}

tp_status tp_cuda_pack4(tp_cuda *cuda, const uint8_t *codes, int64_t n, uint8_t *packed) {
    return guarded([&]() -> tp_status {
        TRY(tp_check_pack4(codes, n, packed));
        TRY(nothing(cuda));
        if (n >= 2) {
            Call call(cuda);
            const int in = call.lines(codes, READ, {2, 2, 8, false}), out = call.lines(packed, WRITE, {1, 1, 8, false});
            TRY(call.run(0, n / 2, EIGHT, [&](const Piece &p) {
                return tp_launch(p.stream, pack_pairs, grid(p.end - p.begin, THREADS * EIGHT), THREADS, 0, p[in].as<const uint8_t>(),
                                 p[out].as<uint8_t>(), p.begin, p.end);
            }));
        }
        if (n % 2 == 0) return TP_OK;
        uint8_t last;
        TRY(tp_cuda_copy(cuda, &last, codes + n - 1, 1));
        last &= 15;
        return tp_cuda_copy(cuda, packed + n / 2, &last, 1);
    });
}

tp_status tp_cuda_unpack4(tp_cuda *cuda, tp_dtype type, const uint8_t *packed, int64_t n, uint8_t *codes) {
    return guarded([&]() -> tp_status {
        TRY(tp_check_unpack4(type, packed, n, codes));
        TRY(nothing(cuda));
        if (n >= 2) {
            Call call(cuda);
            const int in = call.lines(packed, READ, {1, 1, 8, false}), out = call.lines(codes, WRITE, {2, 2, 8, false});
            TRY(call.run(0, n / 2, EIGHT, [&](const Piece &p) {
                return tp_launch(p.stream, unpack_pairs, grid(p.end - p.begin, THREADS * EIGHT), THREADS, 0, type, p[in].as<const uint8_t>(),
                                 p[out].as<uint8_t>(), p.begin, p.end);
            }));
        }
        if (n % 2 == 0) return TP_OK;
        uint8_t last;
        TRY(tp_cuda_copy(cuda, &last, packed + n / 2, 1));
        last = tp_nibble(type, &last, 0);
        return tp_cuda_copy(cuda, codes + n - 1, &last, 1);
    });
}

tp_status tp_cuda_convert(tp_cuda *cuda, tp_dtype from, const void *in, int64_t n, tp_dtype to, void *out) {
    return guarded([&]() -> tp_status {
        TRY(tp_check_convert(from, in, n, to, out));
        if (n == 0) return nothing(cuda);
        if (from == to) return tp_cuda_copy(cuda, out, in, n * tp_size_of(from));
        Call call(cuda);
        const int i = call.lines(in, READ, {1, 1, bits_of_type(from), false}), o = call.lines(out, WRITE, {1, 1, bits_of_type(to), false});
        return call.run(0, n, EIGHT, [&](const Piece &p) {
            return by_type(from, [&](auto f) {
                return by_type(to, [&](auto t) { return convert_piece<decltype(f)::value, decltype(t)::value>(p, i, o); });
            });
        });
    });
}

tp_status tp_cuda_find_nonfinite(tp_cuda *cuda, const tp_quant *spec, const void *in, int64_t *row, int64_t *col) {
    return guarded([&]() -> tp_status {
        tp_plan plan = {};
        TRY(tp_check_find_nonfinite(spec, in, row, col, &plan));
        const unsigned long long none = ~0ull;
        unsigned long long found = none;
        if (plan.rows && plan.cols) {
            Call call(cuda);
            const int lines = call.lines(in, READ, {plan.in_stride, plan.cols, bits_of_type(plan.in_type), false});
            unsigned long long *first = call.whole(&found, sizeof found, READ_WRITE);
            TRY(call.run(0, plan.rows, 1, [&](const Piece &p) {
                Job job = {};
                job.plan = plan;
                job.in = p[lines].base;
                job.plan.in_stride = p[lines].stride;
                return by_type(plan.in_type, [&](auto type) {
                    constexpr tp_dtype TYPE = decltype(type)::value;
                    const int64_t chunks = (p.end - p.begin) * pieces_of(plan.cols, Chunk<TYPE>::COUNT);
                    return tp_launch(p.stream, find_in_rows<TYPE>, grid(chunks, THREADS), THREADS, 0, job, p.begin, p.end, first);
                });
            }));
        }
        const int64_t at[2] = {found == none ? -1 : (int64_t)found / plan.cols, found == none ? -1 : (int64_t)found % plan.cols};
        TRY(tp_cuda_copy(cuda, row, &at[0], sizeof *row));
        return tp_cuda_copy(cuda, col, &at[1], sizeof *col);
    });
}
