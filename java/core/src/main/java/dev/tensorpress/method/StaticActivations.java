package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Fixed;
import dev.tensorpress.encoding.ValueCodes;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.InputStatistics.Around;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/** Finds codes of what products read and make, which are fixed before a model runs. */
final class StaticActivations {
    /** Gates, as of squeeze and excitation, take no time, and what they lose is multiplied with whole channels. */
    private static final double LEAST_WORK = 0.001;

    private final ValueRange range;
    private final double noise;
    private final InputStatistics statistics;
    private final double allWork;
    /** By name of the weight: plans are made several times, and what is found in histograms and weights takes time. */
    private final Map<String, Found> found = new HashMap<>();
    /** Several products read one value. */
    private final Map<ValueStatistics, ValueCodes> ranges = new HashMap<>();

    /**
     * What was found for a weight.
     *
     * @param codes null if activations stay in floating point
     * @param reason why they do; empty if they do not
     */
    private record Found(Fixed codes, String reason) {
        static Found none(String reason) {
            return new Found(null, reason);
        }
    }

    /** @param noise that codes may make of a convolution's results, as part of their variance */
    StaticActivations(ValueRange range, double noise, Evidence evidence) {
        this.range = range;
        this.noise = noise;
        this.statistics = evidence.statistics();
        this.allWork = statistics.work();
    }

    /** The form with codes of activations; as it is if there are none, which {@link #reason} tells then. */
    Form.Quantized of(Weight weight, Form.Quantized form) {
        Fixed codes = found.computeIfAbsent(weight.name(), name -> find(weight)).codes;
        return codes == null ? form : form.fixed(codes);
    }

    private Found find(Weight weight) {
        Optional<Around> around = statistics.around(weight);
        if (around.isEmpty()) {
            return Found.none(statistics.of(weight).isEmpty() ? "nothing is known of what it is multiplied with"
                    : "of what it is multiplied with the squares alone are known");
        }
        ValueStatistics in = around.get().input();
        if (weight.role() != Role.CONV) {
            return new Found(new Fixed(all(in), Optional.empty(), Optional.empty(), List.of()), "");
        }
        Graph.Result result = around.get().result().orElse(null);
        ValueStatistics made = around.get().resultStatistics().orElse(null);
        if (result == null || made == null) {
            return Found.none(result == null ? "it is no convolution of its own, with constants for bias and kernel"
                    : "nothing is known of what the convolution makes");
        }
        if (around.get().work() < LEAST_WORK * allWork) {
            return Found.none("it is less than a thousandth of the work of all convolutions, so that codes would save no time");
        }
        ValueCodes input = all(in);
        Optional<ValueCodes> activated = around.get().activated().map(this::all);
        double least = result.activation().map(a -> (double) a.least()).orElse(Double.NEGATIVE_INFINITY);
        double most = result.activation().map(a -> (double) a.most()).orElse(Double.POSITIVE_INFINITY);
        // What clamps is done by codes that end where it does: they are those of what it makes.
        ValueCodes codes = result.activation().filter(Graph.Activation::clamps).flatMap(a -> activated)
                .orElseGet(() -> range.of(made, least, most));
        double loud = noise(weight, input, codes, result, made);
        if (loud > noise) {
            return Found.none(String.format(Locale.ROOT, "codes of activations would make noise of %.2f of its results' variance, more"
                    + " than %s", loud, noise));
        }
        List<Float> means = new ArrayList<>(in.channels());
        for (double sum : in.sum()) {
            means.add((float) (sum / in.rows()));
        }
        return new Found(new Fixed(input, Optional.of(codes), activated, means), "");
    }

    private ValueCodes all(ValueStatistics value) {
        return ranges.computeIfAbsent(value, v -> range.of(v, Double.NEGATIVE_INFINITY, Double.POSITIVE_INFINITY));
    }

    /**
     * What rounding of the input and of the result add to the result, as part of its variance, at most 1, on average over the outputs that
     * are not constant.
     */
    private double noise(Weight weight, ValueCodes input, ValueCodes codes, Graph.Result result, ValueStatistics made) {
        double[] energy = energy(weight.tensor());
        double sum = 0;
        int count = 0;
        for (int j = 0; j < energy.length; j++) {
            double mean = made.sum()[j] / made.rows();
            double variance = made.squares()[j] / made.rows() - mean * mean;
            if (made.max()[j] > made.min()[j] && variance > 0) {
                double scale = result.scale()[j];
                sum += Math.min(1, (input.noise() * energy[j] * scale * scale + codes.noise()) / variance);
                count++;
            }
        }
        return count == 0 ? 0 : sum / count;
    }

    /** The sum of the squares of each output's elements. */
    private static double[] energy(Tensor t) {
        int n = (int) t.shape().dim(0);
        int k = (int) (t.shape().elements() / n);
        double[] sums = new double[n];
        try (Arena arena = Arena.ofConfined()) {
            // A copy: native code must not read a mapped file.
            MemorySegment row = arena.allocate(t.dtype().bytes(k), 64);
            MemorySegment wide = arena.allocate(DType.F32.bytes(k), 64);
            for (int j = 0; j < n; j++) {
                MemorySegment.copy(t.data(), j * row.byteSize(), row, 0, row.byteSize());
                Quantize.convert(t.dtype(), row, k, DType.F32, wide);
                for (float w : wide.toArray(ValueLayout.JAVA_FLOAT)) {
                    sums[j] += (double) w * w;
                }
            }
        }
        return sums;
    }

    /** Why activations stay in floating point; empty if they do not. */
    String reason(Weight weight) {
        Found of = found.get(weight.name());
        return of == null || of.reason.isEmpty() ? "" : "activations stay in floating point: " + of.reason;
    }
}
