package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Prune;
import dev.tensorpress.kernel.Prune.Cut;
import dev.tensorpress.kernel.Prune.Scores;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.kernel.Sparse;
import dev.tensorpress.method.PruneMethod.Criterion;
import dev.tensorpress.method.PruneMethod.Pattern;
import dev.tensorpress.method.PruneMethod.Scope;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongFunction;

/** A {@link PruneMethod} that knows for each of its weights which elements stay. */
final class PreparedPrune implements Prepared {
    private final PruneMethod method;
    /** Null unless elements are compared by their inputs. */
    private final InputStatistics statistics;
    private final Map<String, Chosen> chosen = new HashMap<>();
    /** Why the method takes none of its weights, or null. */
    private String refusal;
    /** Why it does not take single ones. */
    private final Map<String, String> tooLarge = new HashMap<>();

    /**
     * @param cut where the selection ends, null if lines or groups are chosen one by one
     * @param matrix of the selection
     * @param asked elements that were to be zero
     */
    private record Chosen(Cut cut, int matrix, long nnz, long asked, Loss loss) {}

    /**
     * A weight as a matrix.
     *
     * @param axis along which channels and N:M groups run: 1 for rows, 0 for columns
     */
    private record View(long rows, long cols, int axis) {
        Scores scores(DType type) {
            return Scores.of(rows, cols, type);
        }
    }

    private PreparedPrune(PruneMethod method, InputStatistics statistics) {
        this.method = method;
        this.statistics = statistics;
    }

    static PreparedPrune of(PruneMethod method, Evidence evidence) {
        Workspace workspace = evidence.workspace();
        PreparedPrune choice = new PreparedPrune(method, evidence.statistics());
        List<Weight> able = new ArrayList<>();
        for (Weight weight : evidence.weights()) {
            String large = workspace.tooLarge(weight);
            if (large != null) {
                choice.tooLarge.put(weight.name(), large);
            } else if (choice.obstacle(weight) == null) {
                able.add(weight);
            }
        }
        if (method.compares()) {
            try (Arena arena = Arena.ofShared()) {
                choice.together(able, arena, workspace);
            }
        } else {
            for (Weight weight : able) {
                Weight loaded = workspace.load(weight);
                checkFinite(loaded, workspace.executor());
                choice.finish(loaded, choice.alone(loaded, workspace), 0, workspace);
            }
        }
        return choice;
    }

    /** @throws NonFiniteWeightException if it holds NaN or infinity */
    static void checkFinite(Weight weight, Executor executor) {
        Tensor t = weight.tensor();
        Scores scores = rows(t.shape()).scores(t.dtype());
        int infinity = Prune.key(scores, Double.POSITIVE_INFINITY);
        Prune.Count bad = Prune.count(scores, t.data(), infinity, executor);
        if (bad.larger() + bad.equal() > 0) {
            throw NonFiniteWeightException.in(weight);
        }
    }

    /** The cut through one weight; null if its lines or groups are chosen one by one. */
    private Cut alone(Weight weight, Workspace workspace) {
        if (method.pattern().groups() || method.scope() == Scope.CHANNEL) {
            return null;
        }
        Scores scores = compared(weight);
        if (method.threshold() > 0) {
            return new Cut(Prune.key(scores, method.threshold()), 1, 0, 0, List.of());
        }
        MemorySegment in = elements(weight, workspace);
        if (!method.pattern().single()) {
            in = blocks(weight, in, workspace.take(Workspace.Slot.BLOCK_SCORES, DType.F32.bytes(scores.elements())), workspace.executor());
        }
        long n = scores.elements();
        return Prune.select(List.of(scores), List.of(in), n - method.part(n), workspace.executor());
    }

    /** One cut through all weights. */
    private void together(List<Weight> able, Arena arena, Workspace workspace) {
        List<Weight> weights;
        try {
            weights = workspace.load(able, arena);
        } catch (UnsupportedRequestException e) {
            refusal = e.getMessage() + "; or use scope tensor or channel";
            return;
        }
        for (Weight weight : weights) {
            checkFinite(weight, workspace.executor());
        }
        List<Scores> scores = new ArrayList<>();
        List<MemorySegment> data = new ArrayList<>();
        long total = 0;
        int halves = 0;
        for (Weight weight : weights) {
            Scores s = compared(weight);
            scores.add(s);
            total += s.elements();
            halves += s.type() == DType.F16 ? 1 : 0;
        }
        if (halves > 0 && halves < weights.size()) {
            refusal = "scope global cannot compare f16 with other types: use scope tensor, or a step for each type";
            return;
        }
        if (method.budget() >= 0 && !fits(weights, new long[weights.size()])) {
            refusal = "even without an element these weights take more than the budget of " + method.budget() + " bytes";
            return;
        }
        for (int i = 0; i < weights.size(); i++) {
            Weight weight = weights.get(i);
            MemorySegment in = elements(weight, bytes -> arena.allocate(bytes, 64), workspace.executor());
            data.add(method.pattern().single() ? in
                    : blocks(weight, in, arena.allocate(DType.F32.bytes(scores.get(i).elements()), 4), workspace.executor()));
        }
        Cut cut;
        if (method.budget() >= 0) {
            cut = Prune.select(scores, data, kept -> fits(weights, kept), workspace.executor());
        } else {
            cut = Prune.select(scores, data, total - method.part(total), workspace.executor());
        }
        for (int i = 0; i < weights.size(); i++) {
            finish(weights.get(i), cut, i, workspace);
        }
    }

    private boolean fits(List<Weight> weights, long[] kept) {
        Pattern p = method.pattern();
        long sum = 0;
        for (int i = 0; i < kept.length; i++) {
            Tensor t = weights.get(i).tensor();
            View v = view(weights.get(i));
            long block = Math.min(p.rows(), v.rows) * Math.min(p.cols(), v.cols);
            long nnz = Math.min(Math.multiplyExact(kept[i], block), t.shape().elements());
            sum += Form.Sparse.packed(t.shape(), t.dtype(), nnz);
        }
        return sum <= method.budget();
    }

    private void finish(Weight weight, Cut cut, int matrix, Workspace workspace) {
        Tensor t = weight.tensor();
        long elements = t.shape().elements();
        Chosen c = new Chosen(cut, matrix, 0, 0, null);
        MemorySegment mask = mask(weight, c, workspace);
        MemorySegment masked = apply(weight, mask, workspace);
        View v = view(weight);
        // By bits, as files that leave zeros out do: a -0 that was kept is stored.
        long nnz = Sparse.survey(t.dtype(), v.rows, v.cols, masked, workspace.executor()).entries();
        boolean relative = !method.levels().isEmpty() && method.scope() != Scope.GLOBAL;
        chosen.put(weight.name(), new Chosen(cut, matrix, nnz, relative ? method.part(elements) : elements - ones(mask),
                Loss.of(weight, masked, workspace)));
    }

    private static long ones(MemorySegment mask) {
        long n = 0;
        long at = 0;
        for (; at + 8 <= mask.byteSize(); at += 8) {
            n += Long.bitCount(mask.get(ValueLayout.JAVA_LONG_UNALIGNED, at));
        }
        for (; at < mask.byteSize(); at++) {
            n += Integer.bitCount(mask.get(ValueLayout.JAVA_BYTE, at) & 255);
        }
        return n;
    }

    /** What each element is compared by: itself, or f32 in the order of the elements. */
    private MemorySegment elements(Weight weight, Workspace workspace) {
        return elements(weight, bytes -> workspace.take(Workspace.Slot.SCORES, bytes), workspace.executor());
    }

    private MemorySegment elements(Weight weight, LongFunction<MemorySegment> room, Executor executor) {
        Tensor t = weight.tensor();
        if (method.criterion() == Criterion.MAGNITUDE) {
            return t.data();
        }
        ValueStatistics inputs = PreparedByInputs.inputs(weight, statistics);
        double[] sizes = new double[inputs.channels()];
        for (int c = 0; c < sizes.length; c++) {
            sizes[c] = (float) Math.sqrt(inputs.squares()[c] / inputs.rows());
        }
        Shape shape = t.shape();
        MemorySegment scores = room.apply(DType.F32.bytes(shape.elements()));
        Quantize.convert(t.dtype(), t.data(), shape.elements(), DType.F32, scores, executor);
        Shape matrix = Shape.of(shape.dim(0), shape.elements() / shape.dim(0));
        Along.matrix(matrix, weight.inputAxis() == 0, inputs.groups()).multiply(scores, matrix, sizes, scores, executor);
        return scores;
    }

    private Scores scores(Weight weight) {
        return view(weight).scores(method.criterion() == Criterion.MAGNITUDE ? weight.tensor().dtype() : DType.F32);
    }

    /** What is compared: the elements, or the blocks. */
    private Scores compared(Weight weight) {
        Scores elements = scores(weight);
        Pattern p = method.pattern();
        return p.single() ? elements : Prune.blocks(elements, p.rows(), p.cols());
    }

    private MemorySegment blocks(Weight weight, MemorySegment elements, MemorySegment out, Executor executor) {
        Pattern p = method.pattern();
        Prune.blocks(scores(weight), p.rows(), p.cols(), elements, out, executor);
        return out;
    }

    private MemorySegment mask(Weight weight, Chosen c, Workspace workspace) {
        View v = view(weight);
        Scores s = scores(weight);
        MemorySegment in = elements(weight, workspace);
        Pattern p = method.pattern();
        MemorySegment mask = workspace.take(Workspace.Slot.MASK, s.maskBytes());
        if (p.groups()) {
            Prune.nm(s, v.axis, in, p.n(), p.m(), mask, workspace.executor());
        } else if (method.scope() == Scope.CHANNEL) {
            long length = v.axis == 1 ? v.cols : v.rows;
            Prune.lines(s, v.axis, in, length - method.part(length), mask, workspace.executor());
        } else if (p.single()) {
            Prune.mask(s, in, c.cut, c.matrix, mask, workspace.executor());
        } else {
            Scores of = compared(weight);
            MemorySegment scores = workspace.take(Workspace.Slot.BLOCK_SCORES, DType.F32.bytes(of.elements()));
            MemorySegment blockMask = workspace.take(Workspace.Slot.BLOCK_MASK, of.maskBytes());
            blocks(weight, in, scores, workspace.executor());
            Prune.mask(of, scores, c.cut, c.matrix, blockMask, workspace.executor());
            Prune.expand(s, p.rows(), p.cols(), blockMask, mask, workspace.executor());
        }
        return mask;
    }

    private MemorySegment apply(Weight weight, MemorySegment mask, Workspace workspace) {
        Tensor t = weight.tensor();
        MemorySegment masked = workspace.take(Workspace.Slot.MASKED, t.bytes());
        Prune.apply(view(weight).scores(t.dtype()), t.data(), mask, masked, workspace.executor());
        return masked;
    }

    /** Rows along the last axis. */
    private static View rows(Shape shape) {
        long cols = shape.rank() == 0 ? 1 : shape.dim(-1);
        return new View(cols == 0 ? 0 : shape.elements() / cols, cols, 1);
    }

    /** The first axis as rows, the others as columns. */
    private static View first(Shape shape, int axis) {
        long rows = shape.dim(0);
        return new View(rows, rows == 0 ? 0 : shape.elements() / rows, axis);
    }

    private View view(Weight weight) {
        Shape shape = weight.tensor().shape();
        int rank = shape.rank();
        int in = weight.inputAxis();
        // The kernel of a convolution is a matrix of output channels and all that each of them sums over.
        boolean kernel = rank > 2 && in == 1 && weight.outputAxis() == 0;
        if (!method.pattern().groups() && method.scope() != Scope.CHANNEL) {
            return kernel ? first(shape, 1) : rows(shape);
        }
        boolean channels = method.scope() == Scope.CHANNEL;
        if (kernel || channels && in < 0 && weight.outputAxis() == 0 && rank > 1) {
            return first(shape, 1);
        }
        if (in >= 0 && in == rank - 1) {
            return rows(shape);
        }
        if (in == 0 && (!channels || rank == 2)) {
            return first(shape, 0);
        }
        return null;
    }

    /** Why the method cannot take this weight, or null. */
    private String obstacle(Weight weight) {
        Shape shape = weight.tensor().shape();
        if (!weight.tensor().dtype().compressible()) {
            return "cannot prune " + new Form.Dense(weight.tensor().dtype()).describe();
        }
        if (shape.elements() == 0) {
            return "has no elements";
        }
        if (tooLarge.containsKey(weight.name())) {
            return tooLarge.get(weight.name());
        }
        if (view(weight) == null) {
            String what = method.pattern().groups() ? method.pattern().toString() : "channels";
            return weight.inputAxis() < 0 ? "role " + weight.role().id() + " has no input axis for " + what
                    : "its input axis " + weight.inputAxis() + " of shape " + shape + " is inside: no matrix has " + what
                            + " along it";
        }
        if (method.criterion() == Criterion.ACTIVATION) {
            try {
                PreparedByInputs.inputs(weight, statistics);
            } catch (UnsupportedRequestException e) {
                return e.getMessage();
            }
        }
        return null;
    }

    @Override
    public Optional<Loss> loss(Weight weight) {
        return Optional.of(chosen.get(weight.name()).loss);
    }

    @Override
    public Optional<Zeros> zeros(Weight weight) {
        Pattern p = method.pattern();
        return Optional.of(new Zeros(chosen.get(weight.name()).asked, p.twoOfFour() && view(weight).axis == 0));
    }

    @Override
    public PruneMethod method() {
        return method;
    }

    @Override
    public Form plan(Weight weight, Form current) {
        if (!current.dense()) {
            throw new UnsupportedRequestException("cannot prune " + current.describe() + ": prune comes first");
        }
        String obstacle = refusal == null ? obstacle(weight) : refusal;
        if (obstacle != null) {
            throw new UnsupportedRequestException(obstacle);
        }
        Chosen c = chosen.get(weight.name());
        if (c == null) {
            throw new IllegalStateException("weight " + weight.name() + " was not among those that were looked at");
        }
        return new Form.Sparse(current, method.describe(), c.nnz, Form.Storage.MASKED);
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        Tensor t = ((Encoding.Dense) current).tensor();
        MemorySegment mask = mask(weight, chosen.get(weight.name()), workspace);
        MemorySegment masked = apply(weight, mask, workspace);
        return new Encoding.Sparse((Form.Sparse) form,
                new Encoding.Dense(new Tensor(t.dtype(), t.shape(), masked)));
    }
}
