/* The functions of the feedback family on CUDA devices. */
#include "tensorpress/cuda/feedback.h"

#include "cuda/feedback/columns.cuh"
#include "feedback/checks.h"

using namespace tp;

namespace {

/* A matrix of which outputs are lines. */
Layout layout_of(int64_t stride, int64_t inputs) { return {stride, inputs, 32, true}; }

/* What both functions share; `rule(piece)` makes the rest. */
template <class Spec, class MakeRule>
tp_status feed(Call &call, const Spec &s, int64_t begin, int64_t end, int64_t granule, const float *m, const float *w, const float *outside, float *e,
               float *change, MakeRule rule) {
    const float *const whole = call.whole(m, ((s.inputs - 1) * s.m_stride + s.inputs) * (int64_t)sizeof *m, READ);
    const Layout layout = layout_of(s.stride, s.inputs);
    const int x = call.lines(w, READ, layout), o = call.lines(outside, READ, layout);
    const int y = call.lines(e, READ_WRITE, layout), c = call.lines(change, WRITE, layout);
    return call.run(begin, end, granule, [&](const Piece &p) {
        const Block b = {p.begin, p.end, (int)s.inputs, whole, s.m_stride, columns_of<const float>(p[x]), columns_of<const float>(p[o]),
                         columns_of<float>(p[y]), columns_of<float>(p[c])};
        const auto made = rule(p);
        const int64_t blocks = (p.end - p.begin + FEEDBACK_THREADS - 1) / FEEDBACK_THREADS, most = (int64_t)call.multiprocessors() * 32;
        return tp_launch(p.stream, feed_back<std::remove_const_t<decltype(made)>>, dim3((unsigned)(blocks < most ? blocks : most)), FEEDBACK_THREADS, 0, b,
                         made);
    });
}

}  // namespace

tp_status tp_cuda_feedback_round(tp_cuda *cuda, const tp_feedback *spec, int64_t begin, int64_t end, const float *m, const float *w,
                                 const float *outside, const int32_t *groups, const float *scales, const float *zeros, float *e,
                                 float *change, int32_t *moved) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_feedback_round(spec, begin, end, m, w, outside, groups, scales, e, change, moved, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        const tp_feedback &s = *spec;
        /* Rows of scales that this block has no use for stay where they are. */
        int32_t lowest = groups[0], highest = groups[0];
        for (int64_t i = 1; i < s.inputs; i++) {
            lowest = groups[i] < lowest ? groups[i] : lowest;
            highest = groups[i] > highest ? groups[i] : highest;
        }
        Call call(cuda);
        const Layout layout = layout_of(s.scale_stride, (int64_t)highest - lowest + 1);
        const int scale = call.lines(scales + lowest * s.scale_stride, READ, layout);
        const int zero = call.lines(zeros ? zeros + lowest * s.scale_stride : nullptr, READ, layout);
        const int count = call.lines(moved, READ_WRITE, {1, 1, 32, false});
        return feed(call, s, begin, end, 1, m, w, outside, e, change, [&](const Piece &p) {
            Rounding rule = {columns_of<const float>(p[scale]), columns_of<const float>(p[zero]), (float)s.qmin, (float)s.qmax, s.keep_zeros != 0,
                             p[count].as<int32_t>(), {}};
            for (int64_t i = 0; i < s.inputs; i++) rule.groups[i] = groups[i] - lowest;
            return rule;
        });
    });
}

tp_status tp_cuda_feedback_refit(tp_cuda *cuda, const tp_refit *spec, int64_t begin, int64_t end, const float *m, const float *w,
                                 const float *outside, const uint8_t *mask, float *e, float *change) {
    bool any;
    if (!cuda) return TP_ERR_ARGUMENT;
    TRY(tp_check_feedback_refit(spec, begin, end, m, w, outside, mask, e, change, &any));
    if (!any) return TP_OK;
    return guarded([&] {
        Call call(cuda);
        const int bits = call.lines(mask, READ, {spec->mask_stride * 8, spec->inputs, 1, true});
        return feed(call, *spec, begin, end, 8, m, w, outside, e, change, [&](const Piece &p) {
            return Refit{{p[bits].as<const uint8_t>(), p[bits].stride / 8}};
        });
    });
}
