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
    /** Of convolutions, by name: the sum of the squares of each output's elements. */
    private final Map<String, double[]> energies = new HashMap<>();
    /** Of convolutions, by name: products of two numbers that the samples took; and of all of them. */
    private final Map<String, Double> work = new HashMap<>();
    private double allWork;
    /** Why activations of a weight stay in floating point, by name. */
    private final Map<String, String> reasons = new HashMap<>();

    /** @param noise that codes may make of a convolution's results, as part of their variance */
    StaticActivations(ValueRange range, double noise, Evidence evidence) {
        this.range = range;
        this.noise = noise;
        this.statistics = evidence.statistics();
        for (Weight weight : evidence.weights()) {
            if (weight.role() == Role.CONV && weight.outputAxis() == 0 && evidence.workspace().tooLarge(weight) == null) {
                energies.put(weight.name(), energies(evidence.workspace().load(weight), evidence.workspace()));
                double own = statistics.around(weight).flatMap(Around::resultStatistics)
                        .map(v -> (double) v.rows() * weight.tensor().shape().elements()).orElse(0.0);
                work.put(weight.name(), own);
                allWork += own;
            }
        }
    }

    private static double[] energies(Weight weight, Workspace workspace) {
        Tensor t = weight.tensor();
        int n = (int) t.shape().dim(0);
        int k = (int) (t.shape().elements() / Math.max(1, n));
        MemorySegment wide = workspace.take(Workspace.Slot.MATRIX, DType.F32.bytes(t.shape().elements()));
        Quantize.convert(t.dtype(), t.data(), t.shape().elements(), DType.F32, wide);
        double[] sums = new double[n];
        for (int j = 0; j < n; j++) {
            for (float w : wide.asSlice(4L * j * k, 4L * k).toArray(ValueLayout.JAVA_FLOAT)) {
                sums[j] += (double) w * w;
            }
        }
        return sums;
    }

    /** The form with codes of activations; as it is if there are none, which {@link #reason} tells then. */
    Form.Quantized of(Weight weight, Form.Quantized form) {
        Optional<Around> around = statistics.around(weight);
        if (around.isEmpty()) {
            reasons.put(weight.name(), "nothing is known of what it is multiplied with");
            return form;
        }
        ValueCodes input = all(around.get().input());
        if (weight.role() != Role.CONV) {
            return form.fixed(new Fixed(input, Optional.empty(), Optional.empty(), List.of()));
        }
        Graph.Result result = around.get().result().orElse(null);
        ValueStatistics made = around.get().resultStatistics().orElse(null);
        if (result == null || made == null) {
            reasons.put(weight.name(), "nothing is known of what the convolution makes");
            return form;
        }
        Optional<ValueCodes> activated = around.get().activated().map(this::all);
        if (work.getOrDefault(weight.name(), 0.0) < LEAST_WORK * allWork) {
            reasons.put(weight.name(), "it is less than a thousandth of the work of all convolutions, so that codes would save no time");
            return form;
        }
        double least = result.activation().map(a -> (double) a.least()).orElse(Double.NEGATIVE_INFINITY);
        double most = result.activation().map(a -> (double) a.most()).orElse(Double.POSITIVE_INFINITY);
        // What clamps is done by codes that end where it does: they are those of what it makes.
        ValueCodes codes = result.activation().filter(Graph.Activation::clamps).flatMap(a -> activated)
                .orElseGet(() -> range.of(made, least, most));
        double loud = noise(weight, input, codes, result, made);
        if (loud > noise) {
            reasons.put(weight.name(), String.format(Locale.ROOT, "codes of activations would make noise of %.2f of its results' variance, more"
                    + " than %s", loud, noise));
            return form;
        }
        ValueStatistics in = around.get().input();
        List<Float> means = new ArrayList<>(in.channels());
        for (double sum : in.sum()) {
            means.add((float) (sum / in.rows()));
        }
        return form.fixed(new Fixed(input, Optional.of(codes), activated, means));
    }

    private ValueCodes all(ValueStatistics value) {
        return range.of(value, Double.NEGATIVE_INFINITY, Double.POSITIVE_INFINITY);
    }

    /**
     * What rounding of the input and of the result add to the result, as part of its variance, at most 1, on average over the outputs that
     * are not constant.
     */
    private double noise(Weight weight, ValueCodes input, ValueCodes codes, Graph.Result result, ValueStatistics made) {
        double[] energy = energies.get(weight.name());
        if (energy == null || made.channels() != energy.length) {
            return 1;
        }
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

    /** Why activations stay in floating point; empty if they do not. */
    String reason(Weight weight) {
        String why = reasons.get(weight.name());
        return why == null ? "" : "activations stay in floating point: " + why;
    }
}
