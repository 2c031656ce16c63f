package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.model.Graph.Feed;
import dev.tensorpress.model.Graph.Product;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.Shape;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;

/** Makes the largest weights of each channel the same in the product that it comes from and in those that it goes to. */
final class Equalization {
    /** Over all pairs. A pair is even at once, but for what its neighbours change. */
    private static final int MOST_ROUNDS = 100;
    /** Of the logarithm of a factor: below, it is no change. */
    private static final double EVEN = 1e-4;

    /** The largest magnitudes of a weight's elements by output and input, and what both are multiplied by so far. */
    private static final class Magnitudes {
        final int inputs;
        final int ofGroup;
        final float[] largest;
        final double[] in;
        final double[] out;

        Magnitudes(Weight weight, int groups, MemorySegment f32) {
            Shape shape = weight.tensor().shape();
            Along in = Along.inputs(weight, 1);
            Along out = Along.axis(weight, weight.outputAxis());
            this.inputs = in.size();
            this.in = ones(inputs * groups);
            this.out = ones(out.size());
            this.ofGroup = out.size() / groups;
            this.largest = new float[Math.multiplyExact(out.size(), inputs)];
            int cols = Math.toIntExact(shape.dim(-1));
            for (long row = 0; row < shape.elements() / cols; row++) {
                float[] x = Along.row(f32, row, cols).toArray(JAVA_FLOAT);
                int i = in.first(row);
                int o = out.first(row);
                for (int j = 0; j < cols; j++) {
                    int at = (out.columns() ? j : o) * inputs + (in.columns() ? j : i);
                    largest[at] = Math.max(largest[at], Math.abs(x[j]));
                }
            }
        }

        private static double[] ones(int n) {
            double[] ones = new double[n];
            Arrays.fill(ones, 1);
            return ones;
        }

        double[] byOutput() {
            double[] most = new double[out.length];
            for (int o = 0; o < out.length; o++) {
                for (int i = 0; i < inputs; i++) {
                    most[o] = Math.max(most[o], largest[o * inputs + i] * in[o / ofGroup * inputs + i] * out[o]);
                }
            }
            return most;
        }

        double[] byInput() {
            double[] most = new double[in.length];
            for (int o = 0; o < out.length; o++) {
                for (int i = 0; i < inputs; i++) {
                    int c = o / ofGroup * inputs + i;
                    most[c] = Math.max(most[c], largest[o * inputs + i] * in[c] * out[o]);
                }
            }
            return most;
        }
    }

    private Equalization() {}

    /** What the channels of each feed are divided by. They come from products. */
    static Map<Feed, double[]> of(List<Feed> feeds, Workspace workspace) {
        Map<String, Magnitudes> all = new HashMap<>();
        Map<Feed, double[]> divisors = new IdentityHashMap<>();
        for (Feed feed : feeds) {
            for (Product product : feed.products()) {
                all.put(product.weight().name(), magnitudes(product.weight(), product.window().map(Window::groups).orElse(1), workspace));
            }
            divisors.put(feed, Magnitudes.ones(channels(feed)));
        }
        for (Feed feed : feeds) {
            Weight before = feed.source().weights().getFirst().weight();
            all.computeIfAbsent(before.name(), name -> magnitudes(before, 1, workspace));
        }
        boolean even = false;
        for (int round = 0; round < MOST_ROUNDS && !even; round++) {
            even = true;
            for (Feed feed : feeds) {
                even &= even(feed, all, divisors.get(feed));
            }
        }
        return divisors;
    }

    private static int channels(Feed feed) {
        Product first = feed.products().getFirst();
        return Along.inputs(first.weight(), first.window().map(Window::groups).orElse(1)).channels();
    }

    private static Magnitudes magnitudes(Weight weight, int groups, Workspace workspace) {
        Weight loaded = workspace.load(weight);
        Magnitudes all = new Magnitudes(loaded, groups, Factors.f32(loaded, workspace));
        for (float x : all.largest) {
            if (!(x < Float.POSITIVE_INFINITY)) {
                throw NonFiniteWeightException.in(loaded);
            }
        }
        return all;
    }

    private static boolean even(Feed feed, Map<String, Magnitudes> all, double[] divisors) {
        Magnitudes before = all.get(feed.source().weights().getFirst().weight().name());
        double[] first = before.byOutput();
        double[] second = new double[first.length];
        for (Product product : feed.products()) {
            double[] most = all.get(product.weight().name()).byInput();
            for (int c = 0; c < second.length; c++) {
                second[c] = Math.max(second[c], most[c]);
            }
        }
        boolean even = true;
        for (int c = 0; c < first.length; c++) {
            double s = first[c] > 0 && second[c] > 0 ? Math.sqrt(first[c] / second[c]) : 1;
            even &= Math.abs(Math.log(s)) < EVEN;
            divisors[c] *= s;
            before.out[c] /= s;
            for (Product product : feed.products()) {
                all.get(product.weight().name()).in[c] *= s;
            }
        }
        return even;
    }
}
