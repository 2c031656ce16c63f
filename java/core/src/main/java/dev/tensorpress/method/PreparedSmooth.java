package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.SmoothMethod.By;
import dev.tensorpress.method.Workspace.Slot;
import dev.tensorpress.model.Graph.Channels;
import dev.tensorpress.model.Graph.Feed;
import dev.tensorpress.model.Graph.Product;
import dev.tensorpress.model.Graph.Source;
import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;

/** A {@link SmoothMethod} that knows what each channel is divided by. */
final class PreparedSmooth implements Prepared {
    private final SmoothMethod method;
    private final Evidence evidence;
    private final Map<Weight, String> changes = new LinkedHashMap<>();
    /** By name of the weight. */
    private final Map<String, List<Scales>> scales = new HashMap<>();
    private final Map<String, double[]> divisors = new HashMap<>();
    /** Those of them that operators divide by. */
    private final Map<String, double[]> inserted = new HashMap<>();
    private final Map<String, String> refused = new HashMap<>();
    /** The largest magnitudes of weights, which are asked for twice. */
    private final Map<Side, double[]> largest = new HashMap<>();

    /** @param weight its name */
    private record Side(String weight, Along along) {}

    /** What elements are multiplied by. */
    private record Scales(Along along, double[] by) {}

    private PreparedSmooth(SmoothMethod method, Evidence evidence) {
        this.method = method;
        this.evidence = evidence;
    }

    static PreparedSmooth of(SmoothMethod method, Evidence evidence) {
        PreparedSmooth prepared = new PreparedSmooth(method, evidence);
        prepared.decide();
        prepared.largest.clear();
        return prepared;
    }

    private void decide() {
        Set<Weight> selected = new HashSet<>(evidence.weights());
        List<Feed> feeds = new ArrayList<>();
        for (Feed feed : evidence.surroundings().graph().feeds()) {
            if (feed.products().stream().anyMatch(p -> selected.contains(p.weight()))) {
                try {
                    check(feed, selected);
                    feeds.add(feed);
                } catch (UnsupportedRequestException e) {
                    refuse(feed, e.getMessage());
                    if (method.insert() && method.by() != By.EQUALIZATION) {
                        insert(feed, selected, feeds);
                    }
                }
            }
        }
        Map<Feed, double[]> equal = method.by() == By.EQUALIZATION ? Equalization.of(feeds, evidence.workspace()) : Map.of();
        for (Feed feed : feeds) {
            try {
                double[] by = switch (method.by()) {
                    case SMOOTHQUANT -> byLargest(feed);
                    case AWQ -> byError(feed);
                    case EQUALIZATION -> equal.get(feed);
                };
                divide(feed, inRange(feed, by));
            } catch (UnsupportedRequestException e) {
                refuse(feed, e.getMessage());
            }
        }
    }

    private void refuse(Feed feed, String why) {
        feed.products().forEach(p -> refused.put(p.weight().name(), why));
    }

    /** Each product by itself, as if nothing else read what it reads. */
    private void insert(Feed feed, Set<Weight> selected, List<Feed> feeds) {
        for (Product product : feed.products()) {
            if (selected.contains(product.weight())) {
                Feed alone = new Feed(feed.value(), feed.axis(), Optional.empty(), true, new Source(List.of(), ""), List.of(product));
                try {
                    check(product);
                    Optional<String> why = evidence.surroundings().operator().apply(product.weight());
                    if (why.isPresent()) {
                        throw new UnsupportedRequestException(why.get());
                    }
                    feeds.add(alone);
                } catch (UnsupportedRequestException e) {
                    refuse(alone, e.getMessage());
                }
            }
        }
    }

    /** @throws UnsupportedRequestException if the feed cannot be scaled */
    private void check(Feed feed, Set<Weight> selected) {
        if (feed.source().weights().isEmpty()) {
            throw new UnsupportedRequestException(feed.source().why());
        }
        Weight source = feed.source().weights().getFirst().weight();
        if (method.by() == By.EQUALIZATION && source.inputAxis() < 0) {
            throw new UnsupportedRequestException("its input comes from no product, but from " + source.name());
        }
        for (Product product : feed.products()) {
            if (!selected.contains(product.weight())) {
                throw new UnsupportedRequestException(product.weight().name() + ", which has the same input, is not selected");
            }
            check(product);
        }
        feed.source().weights().forEach(c -> free(c.weight()));
    }

    private void check(Product product) {
        free(product.weight());
        if (method.by() == By.SMOOTHQUANT) {
            if (!PreparedByInputs.inputs(product.weight(), evidence.statistics()).hasRange()) {
                throw new UnsupportedRequestException("the statistics do not say how large what it is multiplied with gets");
            }
        } else if (method.by() == By.AWQ) {
            PreparedByInputs.withGram(product.weight(), evidence.statistics());
        }
    }

    private void free(Weight weight) {
        Optional<String> why = evidence.surroundings().obstacle().apply(weight);
        if (why.isPresent()) {
            throw new UnsupportedRequestException(weight.name() + " has to stay: " + why.get());
        }
    }

    private ValueStatistics known(Weight weight) {
        return evidence.statistics().of(weight).orElseThrow();
    }

    private static Along inputs(Product product) {
        return Along.inputs(product.weight(), product.window().map(Window::groups).orElse(1));
    }

    /** SmoothQuant. */
    private double[] byLargest(Feed feed) {
        double[] x = new double[inputs(feed.products().getFirst()).channels()];
        double[] w = new double[x.length];
        for (Product product : feed.products()) {
            double[] input = largestInputs(product);
            double[] most = largest(product.weight(), inputs(product));
            for (int c = 0; c < x.length; c++) {
                x[c] = Math.max(x[c], input[c]);
                w[c] = Math.max(w[c], most[c]);
            }
        }
        double[] by = new double[x.length];
        for (int c = 0; c < by.length; c++) {
            by[c] = x[c] > 0 && w[c] > 0 ? Math.pow(x[c], method.alpha()) / Math.pow(w[c], 1 - method.alpha()) : 1;
        }
        return by;
    }

    private double[] largestInputs(Product product) {
        ValueStatistics v = known(product.weight());
        double[] x = new double[inputs(product).channels()];
        int each = v.channels() / x.length;
        for (int i = 0; i < v.channels(); i++) {
            x[i / each] = Math.max(x[i / each], Math.max(Math.abs(v.min()[i]), Math.abs(v.max()[i])));
        }
        return x;
    }

    private double[] largest(Weight weight, Along along) {
        return largest.computeIfAbsent(new Side(weight.name(), along), side -> find(weight, along));
    }

    private double[] find(Weight weight, Along along) {
        Weight loaded = evidence.workspace().load(weight);
        double[] largest = along.largest(Factors.f32(loaded, evidence.workspace()), weight.tensor().shape());
        for (double x : largest) {
            if (!(x < Double.POSITIVE_INFINITY)) {
                throw NonFiniteWeightException.in(loaded);
            }
        }
        return largest;
    }

    /** AWQ. */
    private double[] byError(Feed feed) {
        ValueStatistics v = known(feed.products().getFirst().weight());
        double[] sizes = new double[inputs(feed.products().getFirst()).channels()];
        int each = v.channels() / sizes.length;
        for (int c = 0; c < sizes.length; c++) {
            double squares = 0;
            for (int i = c * each; i < (c + 1) * each; i++) {
                squares += v.squares()[i];
            }
            sizes[c] = Math.sqrt(squares / each / v.rows());
        }
        double[] losses = new double[method.grid() + 1];
        for (Product product : feed.products()) {
            QuantizeMethod codes = codes(product.weight());
            Form form = evidence.surroundings().stored().apply(product.weight(),
                    codes.plan(product.weight(), new Form.Dense(product.weight().tensor().dtype())));
            Weight weight = evidence.workspace().load(product.weight());
            for (int i = 0; i < losses.length; i++) {
                losses[i] += loss(weight, inputs(product), codes, form, power(sizes, i));
            }
        }
        int best = 0;
        for (int i = 1; i < losses.length; i++) {
            best = losses[i] < losses[best] ? i : best;
        }
        if (best == 0) {
            throw new UnsupportedRequestException("no scales of its inputs make the error of its codes less");
        }
        return power(sizes, best);
    }

    /** A step of the grid, around 1: the largest times the smallest is that. */
    private double[] power(double[] sizes, int step) {
        double exponent = (double) step / method.grid();
        double[] by = new double[sizes.length];
        double most = 0;
        double least = Double.POSITIVE_INFINITY;
        for (int c = 0; c < by.length; c++) {
            by[c] = Math.pow(sizes[c], exponent);
            most = Math.max(most, sizes[c] > 0 ? by[c] : 0);
            least = Math.min(least, sizes[c] > 0 ? by[c] : Double.POSITIVE_INFINITY);
        }
        double middle = Math.sqrt(most * least);
        for (int c = 0; c < by.length; c++) {
            by[c] = sizes[c] > 0 ? by[c] / middle : 1;
        }
        return by;
    }

    /** The sum over outputs of e<sup>T</sup> H e, of the codes of the weight multiplied by these numbers. */
    private double loss(Weight weight, Along along, QuantizeMethod method, Form form, double[] by) {
        Workspace workspace = evidence.workspace();
        Tensor scaled = scaled(weight, List.of(new Scales(along, by)), workspace);
        Prepared codes = method.codes(evidence.statistics().divided(Map.of(weight.name(), by)));
        Encoding encoding = codes.apply(weight.over(scaled), new Encoding.Dense(scaled), form, workspace);
        Shape shape = scaled.shape();
        MemorySegment lost = workspace.take(Slot.DECODED, DType.F32.bytes(shape.elements()));
        encoding.decode(lost, workspace.executor());
        along.multiply(lost, shape, Arrays.stream(by).map(s -> 1 / s).toArray(), lost, workspace.executor());
        PreparedByInputs.subtract(Factors.f32(weight, workspace), lost, lost, shape.elements() / shape.dim(-1), shape.dim(-1), workspace.executor());

        ValueStatistics inputs = known(weight);
        int parts = inputs.groups();
        int k = inputs.channels() / parts;
        long n = shape.elements() / k / parts;
        boolean outputsFirst = PreparedByInputs.outputsFirst(weight);
        double sum = 0;
        try (Arena arena = workspace.executor().arena()) {
            MemorySegment squares = arena.allocate(JAVA_DOUBLE, (long) k * k);
            for (int p = 0; p < parts; p++) {
                View e = new View(DType.F32, lost.asSlice(4 * p * n * k, 4 * n * k), outputsFirst ? k : n);
                workspace.algebra().gram(e, outputsFirst, k, n, 1, squares);
                MemorySegment gram = inputs.gram().orElseThrow();
                for (int i = 0; i < k; i++) {
                    double[] h = gram.asSlice(8L * (p * k + i) * k, 8L * k).toArray(JAVA_DOUBLE);
                    double[] ee = squares.asSlice(8L * i * k, 8L * k).toArray(JAVA_DOUBLE);
                    for (int j = 0; j <= i; j++) {
                        sum += (i == j ? 1 : 2) * h[j] * ee[j];
                    }
                }
            }
        }
        return sum;
    }

    /** What will be made of a weight, rounded to nearest. */
    private QuantizeMethod codes(Weight weight) {
        Method next = evidence.surroundings().codes().apply(weight).orElse(null);
        return switch (next) {
            case QuantizeMethod q -> q;
            case GptqMethod g -> g.codes();
            case null, default -> throw new UnsupportedRequestException("no step behind makes codes of it, whose error could be less");
        };
    }

    /** 1 where a weight would leave what is normal in its type. */
    private double[] inRange(Feed feed, double[] by) {
        double[] safe = by.clone();
        for (Product product : feed.products()) {
            stay(product.weight().tensor().dtype(), largest(product.weight(), inputs(product)), by, false, safe);
        }
        if (feed.source().weights().isEmpty() && known(feed.products().getFirst().weight()).hasRange()) {
            stay(feed.products().getFirst().weight().tensor().dtype(), largestInputs(feed.products().getFirst()), by, true, safe);
        }
        for (Channels source : feed.source().weights()) {
            stay(source.weight().tensor().dtype(), largest(source.weight(), Along.axis(source.weight(), source.axis())), by, true, safe);
        }
        return safe;
    }

    private static void stay(DType type, double[] largest, double[] by, boolean divided, double[] safe) {
        double most = type == DType.F16 ? Factors.LARGEST_F16 : 3e38;
        double least = type == DType.F16 ? 0x1p-14 : Float.MIN_NORMAL;
        for (int c = 0; c < by.length; c++) {
            double then = divided ? largest[c] / by[c] : largest[c] * by[c];
            if (then > most || then < least && largest[c] >= least) {
                safe[c] = 1;
            }
        }
    }

    private void divide(Feed feed, double[] by) {
        String range = String.format(Locale.ROOT, "%.2g to %.2g", Arrays.stream(by).min().orElse(1), Arrays.stream(by).max().orElse(1));
        String names = feed.products().stream().map(p -> p.weight().name()).collect(Collectors.joining(", "));
        for (Product product : feed.products()) {
            boolean alone = feed.source().weights().isEmpty();
            change(product.weight(), inputs(product), by, "its inputs are divided by " + range + (alone ? ", by an operator of its own" : ""));
            divisors.put(product.weight().name(), by);
            if (alone) {
                inserted.put(product.weight().name(), by);
            }
        }
        double[] inverse = Arrays.stream(by).map(s -> 1 / s).toArray();
        for (Channels source : feed.source().weights()) {
            change(source.weight(), Along.axis(source.weight(), source.axis()), inverse, "divided by " + range + ", by which " + names
                    + " " + (feed.products().size() == 1 ? "is" : "are") + " multiplied");
        }
    }

    private void change(Weight weight, Along along, double[] by, String note) {
        scales.computeIfAbsent(weight.name(), w -> new ArrayList<>()).add(new Scales(along, by));
        changes.merge(weight, note, (a, b) -> a + "; " + b);
    }

    @Override
    public SmoothMethod method() {
        return method;
    }

    @Override
    public Map<Weight, String> changes() {
        return changes;
    }

    @Override
    public Optional<double[]> divided(Weight weight) {
        return Optional.ofNullable(inserted.get(weight.name()));
    }

    @Override
    public InputStatistics inputs(InputStatistics before) {
        return before.divided(divisors);
    }

    @Override
    public Form plan(Weight weight, Form current) {
        if (!scales.containsKey(weight.name())) {
            throw new NoGainException(refused.getOrDefault(weight.name(), "it is in no product"));
        }
        return current;
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        return new Encoding.Dense(scaled(weight.over(((Encoding.Dense) current).tensor()), scales.get(weight.name()), workspace));
    }

    private static Tensor scaled(Weight weight, List<Scales> all, Workspace workspace) {
        Tensor t = weight.tensor();
        MemorySegment from = Factors.f32(weight, workspace);
        MemorySegment to = workspace.take(Slot.SCALED, t.bytes());
        MemorySegment wide = t.dtype() == DType.F32 ? to : workspace.take(Slot.MATRIX, DType.F32.bytes(t.shape().elements()));
        for (Scales s : all) {
            s.along.multiply(from, t.shape(), s.by, wide, workspace.executor());
            from = wide;
        }
        if (t.dtype() != DType.F32) {
            Quantize.convert(DType.F32, wide, t.shape().elements(), t.dtype(), to, workspace.executor());
        }
        return new Tensor(t.dtype(), t.shape(), to);
    }
}
