package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Polyadic;
import dev.tensorpress.kernel.Tucker;
import dev.tensorpress.kernel.Tucker.Ranks;
import dev.tensorpress.kernel.Tucker.Size;
import dev.tensorpress.method.DecomposeMethod.By;
import dev.tensorpress.method.Workspace.Slot;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** A {@link DecomposeMethod} that knows the ranks of each of its weights. */
final class PreparedDecompose implements Prepared {
    private static final double DAMPING = 0.01;

    private final DecomposeMethod method;
    private final InputStatistics statistics;
    private final Map<String, Ranks> chosen = new HashMap<>();
    /** Why the method does not take single weights. */
    private final Map<String, String> refused = new HashMap<>();

    PreparedDecompose(DecomposeMethod method, Evidence evidence) {
        this.method = method;
        statistics = evidence.statistics();
        if (!method.requires().contains(Method.Requirement.WEIGHTS)) {
            return;
        }
        List<Weight> able = new ArrayList<>();
        List<TuckerRanks> spectra = new ArrayList<>();
        for (Weight weight : evidence.weights()) {
            try {
                check(weight);
            } catch (UnsupportedRequestException e) {
                continue; // the plan asks again, and shows the reason
            }
            String large = evidence.workspace().tooLarge(weight);
            if (large != null) {
                refused.put(weight.name(), large);
                continue;
            }
            able.add(weight);
            if (method.by() == By.TUCKER) {
                spectra.add(spectra(weight, evidence.workspace()));
            }
        }
        if (method.compares()) {
            together(able, spectra);
            return;
        }
        for (int i = 0; i < able.size(); i++) {
            TuckerRanks of = spectra.get(i);
            chosen.put(able.get(i).name(), method.amount().equals("ranks") ? of.significant() : of.losing(method.allowed()));
        }
    }

    @Override
    public DecomposeMethod method() {
        return method;
    }

    /** Kernels of groups are the target's to refuse, which sees the operator. */
    private Size check(Weight weight) {
        Size size = DecomposeMethod.size(weight);
        if (statistics != null && inputs(weight).groups() > 1) {
            throw new UnsupportedRequestException("its groups of outputs have inputs of their own");
        }
        return size;
    }

    private boolean weighted() {
        return method.inputs() == CorrectMethod.Inputs.STATISTICS;
    }

    private ValueStatistics inputs(Weight weight) {
        return weighted() ? PreparedByInputs.withGram(weight, statistics) : PreparedByInputs.inputs(weight, statistics);
    }

    private TuckerRanks spectra(Weight weight, Workspace workspace) {
        Size size = check(weight);
        try (Arena arena = workspace.executor().arena()) {
            MemorySegment w = turned(workspace.load(weight), size, root(weight, size, arena, workspace), workspace);
            View rows = new View(DType.F32, w, size.places() * size.inputs());
            View lines = new View(DType.F32, w, size.inputs());
            return new TuckerRanks(size, Spectrum.of(rows, size.outputs(), size.places() * size.inputs(), workspace.algebra()),
                    Spectrum.of(lines, size.outputs() * size.places(), size.inputs(), workspace.algebra()));
        } catch (KernelException e) {
            throw NonFiniteWeightException.of(e, weight);
        }
    }

    /** Of the channels that the kernel reads; null if all count alike. */
    private GramRoot root(Weight weight, Size size, Arena arena, Workspace workspace) {
        if (!weighted()) {
            return null;
        }
        ValueStatistics inputs = inputs(weight);
        int n = (int) size.inputs();
        int k = (int) size.places();
        MemorySegment gram = arena.allocate(DType.F64.bytes((long) n * n), 64);
        double mean = 0;
        try (Arena patches = workspace.executor().arena()) {
            MemorySegment all = PreparedByInputs.gram(inputs, patches);
            double[] sums = new double[n];
            for (long i = 0; i < n; i++) {
                Arrays.fill(sums, 0);
                for (long p = 0; p < k; p++) {
                    double[] row = all.asSlice(8 * (i * k + p) * n * k, 8L * n * k).toArray(ValueLayout.JAVA_DOUBLE);
                    for (int j = 0; j < n; j++) {
                        sums[j] += row[j * k + (int) p];
                    }
                }
                mean += sums[(int) i] / n;
                MemorySegment.copy(sums, 0, gram, ValueLayout.JAVA_DOUBLE, 8 * i * n, n);
            }
        }
        return GramRoot.of(new PreparedByInputs.Part(0, 1, n, size.outputs() * k, gram, mean, mean == 0 ? 1 : DAMPING * mean), arena,
                workspace);
    }

    /** The kernel with its inputs last, times the root. */
    private static MemorySegment turned(Weight weight, Size size, GramRoot root, Workspace workspace) {
        MemorySegment turned = workspace.take(Slot.INPUTS_FIRST, DType.F32.bytes(size.elements()));
        Tucker.channelsLast(size, Factors.f32(weight, workspace), false, turned, workspace.executor());
        if (root != null) {
            root.multiply(turned, new Factors.Matrix(size.outputs() * size.places(), size.inputs(), true), workspace);
        }
        return turned;
    }

    /** What a kernel takes of what all may take together: bytes, or multiply-adds on the inputs of calibration. */
    private double cost(Weight weight, double before, double window, double behind) {
        if (method.amount().equals("budget")) {
            return weight.tensor().dtype().bytes((long) (before + window + behind));
        }
        ValueStatistics inputs = inputs(weight);
        // Whatever narrows the inputs is done at each place of theirs, not of the result.
        double visited = inputs.window().map(w -> (double) w.strides().height() * w.strides().width()).orElse(1.0);
        return inputs.rows() * (before * visited + window + behind);
    }

    private double cost(Weight weight, Size size) {
        return cost(weight, 0, size.elements(), 0);
    }

    private double cost(Weight weight, Size size, Ranks ranks) {
        double whole = cost(weight, size);
        double parts = cost(weight, ranks.inputs() == size.inputs() ? 0 : ranks.inputs() * size.inputs(), ranks.outputs() * ranks.inputs() * size.places(),
                ranks.outputs() == size.outputs() ? 0 : ranks.outputs() * size.outputs());
        return Math.min(whole, parts);
    }

    private String of(double amount) {
        return method.amount().equals("budget") ? (long) amount + " bytes" : (long) amount + " multiply-adds";
    }

    private void together(List<Weight> weights, List<TuckerRanks> spectra) {
        double all = 0;
        for (Weight weight : weights) {
            all += cost(weight, DecomposeMethod.size(weight));
        }
        double budget = method.amount().equals("budget") ? method.value() : method.value() * all;
        if (method.by() == By.CP) {
            for (Weight weight : weights) {
                Size size = DecomposeMethod.size(weight);
                double term = cost(weight, size.inputs(), size.places(), size.outputs());
                long rank = (long) Math.min(Polyadic.mostTerms(size), budget / all * cost(weight, size) / term);
                if (rank < 1) {
                    refused.put(weight.name(), "its part of the budget of " + of(budget) + " is less than one term takes");
                } else {
                    chosen.put(weight.name(), new Ranks(rank, rank));
                }
            }
            return;
        }
        // The smallest part of the energy that all may lose with which they fit.
        double fits = 2;
        double not = 0;
        double least = cost(weights, spectra, fits);
        if (least > budget) {
            String why = "even with ranks of 1 the kernels of the step take " + of(least) + ", more than the budget of " + of(budget);
            weights.forEach(weight -> refused.put(weight.name(), why));
            return;
        }
        for (int i = 0; i < 50; i++) {
            double middle = (fits + not) / 2;
            if (cost(weights, spectra, middle) <= budget) {
                fits = middle;
            } else {
                not = middle;
            }
        }
        for (int i = 0; i < weights.size(); i++) {
            chosen.put(weights.get(i).name(), spectra.get(i).losing(fits));
        }
    }

    /** What they take, whole where that is less. */
    private double cost(List<Weight> weights, List<TuckerRanks> spectra, double lost) {
        double all = 0;
        for (int i = 0; i < weights.size(); i++) {
            all += cost(weights.get(i), spectra.get(i).size(), spectra.get(i).losing(lost));
        }
        return all;
    }

    private Ranks ranks(Weight weight, Size size) {
        if (method.amount().equals("rank")) {
            long rank = (long) method.value();
            if (method.by() == By.CP) {
                if (rank > Polyadic.mostTerms(size)) {
                    throw new UnsupportedRequestException("rank " + rank + " is more than the " + Polyadic.mostTerms(size) + " terms of "
                            + weight.tensor().shape());
                }
                return new Ranks(rank, rank);
            }
            Ranks ranks = new Ranks(Math.min(rank, size.outputs()), Math.min(method.inputRank() > 0 ? method.inputRank() : rank, size.inputs()));
            try {
                ranks.check(size);
            } catch (IllegalArgumentException e) {
                throw new UnsupportedRequestException(e.getMessage());
            }
            return ranks;
        }
        if (refused.containsKey(weight.name())) {
            throw new UnsupportedRequestException(refused.get(weight.name()));
        }
        Ranks ranks = chosen.get(weight.name());
        if (ranks == null) {
            throw new IllegalStateException("weight " + weight.name() + " was not among those that were looked at");
        }
        return ranks;
    }

    @Override
    public Form plan(Weight weight, Form current) {
        if (!current.dense()) {
            throw new UnsupportedRequestException("cannot decompose " + current.describe() + ": decompose comes first, and quantize after it");
        }
        Size size = check(weight);
        Ranks ranks = ranks(weight, size);
        boolean cp = method.by() == By.CP;
        long elements = cp ? Polyadic.elements(size, ranks.outputs()) : ranks.elements(size);
        Form.Chain form = Form.Chain.of(new Form.Dense(weight.tensor().dtype()), ranks.inputs(), ranks.outputs(), cp, weight.tensor().shape());
        if (elements >= size.elements()) {
            throw new NoGainException(form.describe() + " would take " + weight.tensor().dtype().bytes(elements) + " bytes instead of "
                    + weight.tensor().bytes());
        }
        return form;
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        Form.Chain chain = form.chain();
        Size size = check(weight);
        Shape shape = weight.tensor().shape();
        long r = chain.after();
        long q = chain.before();
        try (Arena arena = workspace.executor().arena()) {
            GramRoot root = root(weight, size, arena, workspace);
            MemorySegment w = turned(weight, size, root, workspace);
            MemorySegment inputs = workspace.part(0).take(Slot.LEFT, DType.F32.bytes(q * size.inputs()));
            MemorySegment window = workspace.part(1).take(Slot.LEFT, DType.F32.bytes(r * (chain.depthwise() ? 1 : q) * size.places()));
            MemorySegment outputs = workspace.part(2).take(Slot.LEFT, DType.F32.bytes(size.outputs() * r));
            Tucker.Result result = chain.depthwise()
                    ? new Polyadic(workspace.algebra()).decompose(size, w, r, Polyadic.DEFAULT, outputs, window, inputs)
                    : new Tucker(workspace.algebra()).decompose(size, w, new Ranks(r, q), Tucker.Options.DEFAULT, outputs, window, inputs);
            if (root != null && chain.narrows(shape)) {
                divide(inputs, q, size, root, arena, workspace);
            } else if (root != null) {
                Size core = new Size(r, q, size.places());
                MemorySegment last = arena.allocate(window.byteSize(), 64);
                Tucker.channelsLast(core, window, false, last, workspace.executor());
                divide(last, r * size.places(), size, root, arena, workspace);
                Tucker.channelsLast(core, last, true, window, workspace.executor());
            }
            List<MemorySegment> factors = new ArrayList<>();
            if (chain.narrows(shape)) {
                factors.add(inputs);
            }
            factors.add(window);
            if (chain.widens(shape)) {
                factors.add(outputs);
            }
            List<Encoding> parts = new ArrayList<>();
            List<Shape> shapes = chain.shapes(shape);
            for (int i = 0; i < factors.size(); i++) {
                parts.add(Factors.stored(weight, factors.get(i), shapes.get(i), chain.parts().get(i), Slot.STORED_LEFT, workspace.part(i)));
            }
            return new Encoding.Chain(chain, shape, parts, result);
        } catch (KernelException e) {
            throw NonFiniteWeightException.of(e, weight);
        }
    }

    /** Rows [count, inputs] by the root. */
    private static void divide(MemorySegment rows, long count, Size size, GramRoot root, Arena arena, Workspace workspace) {
        MemorySegment columns = arena.allocate(DType.F32.bytes(count * size.inputs()), 64);
        workspace.algebra().transpose(new View(DType.F32, rows, size.inputs()), count, size.inputs(), columns);
        root.divide(columns, count, workspace);
        workspace.algebra().transpose(new View(DType.F32, columns, count), size.inputs(), count, rows);
    }
}
