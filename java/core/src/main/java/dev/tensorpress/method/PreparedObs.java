package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Feedback;
import dev.tensorpress.kernel.Prune;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.PruneMethod.Pattern;
import dev.tensorpress.method.Workspace.Slot;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.Optional;

/** An {@link ObsMethod} that knows what its weights are multiplied with. */
final class PreparedObs extends PreparedByInputs {
    /** Of the mean of H's diagonal: with less, elements of an input that is next to nothing make up for others without bounds. */
    private static final double LEAST_DAMPING = 1e-6;

    private final ObsMethod method;

    PreparedObs(ObsMethod method, InputStatistics statistics) {
        super(statistics, method.bias(), method.damping());
        this.method = method;
    }

    @Override
    public ObsMethod method() {
        return method;
    }

    @Override
    Form planned(Weight weight, Form current) {
        if (!current.dense()) {
            throw new UnsupportedRequestException("cannot prune " + current.describe() + ": obs comes first");
        }
        if (!weight.tensor().dtype().compressible()) {
            throw new UnsupportedRequestException("cannot prune " + current.describe());
        }
        if (weight.tensor().shape().elements() == 0) {
            throw new UnsupportedRequestException("has no elements");
        }
        return new Form.Sparse(current, method.zeros().describe(), kept(weight), Form.Storage.MASKED);
    }

    /** Of all elements. Those are counted that are 0 by their values alone as well: they are stored as -0. */
    private long kept(Weight weight) {
        ValueStatistics inputs = inputs(weight);
        long k = inputs.channels() / inputs.groups();
        return weight.tensor().shape().elements() / k * keptOf(k);
    }

    /** Of an output. */
    private long keptOf(long k) {
        Pattern p = method.zeros().pattern();
        return p.groups() ? k / p.m() * p.n() + Math.min(k % p.m(), p.n()) : k - method.zeros().part(k);
    }

    @Override
    public Optional<Zeros> zeros(Weight weight) {
        return Optional.of(new Zeros(weight.tensor().shape().elements() - kept(weight),
                method.zeros().pattern().twoOfFour() && !outputsFirst(weight)));
    }

    @Override
    Encoding compressed(Weight weight, Encoding current, Form form, Workspace workspace) {
        Tensor in = ((Encoding.Dense) current).tensor();
        Weight given = weight.over(in);
        PreparedPrune.checkFinite(given, workspace.executor());
        MemorySegment exact = changed(weight, in, (part, w, lost) -> prune(part, w, lost, workspace), workspace);
        MemorySegment out = workspace.take(Slot.MASKED, in.bytes());
        Quantize.convert(DType.F32, exact, in.shape().elements(), in.dtype(), out, workspace.executor());
        if (in.dtype() != DType.F32) {
            keepSigns(exact, out, in.shape(), workspace.executor());
        }
        return new Encoding.Sparse((Form.Sparse) form, new Encoding.Dense(new Tensor(in.dtype(), in.shape(), out)));
    }

    /** What is so small that the type has no number for it becomes -0, as it is not pruned. */
    private static void keepSigns(MemorySegment exact, MemorySegment out, Shape shape, Executor executor) {
        long cols = shape.elements() / shape.dim(0);
        executor.run(shape.dim(0), 1, Executor.worth(cols), (begin, end, worker) -> {
            for (long i = begin; i < end; i++) {
                float[] x = exact.asSlice(4 * i * cols, 4 * cols).toArray(JAVA_FLOAT);
                MemorySegment row = out.asSlice(2 * i * cols, 2 * cols);
                short[] stored = row.toArray(JAVA_SHORT);
                for (int j = 0; j < x.length; j++) {
                    if (stored[j] == 0 && Float.floatToRawIntBits(x[j]) != 0) {
                        stored[j] = Short.MIN_VALUE;
                    }
                }
                row.copyFrom(MemorySegment.ofArray(stored));
            }
        });
    }

    private void prune(Part part, MemorySegment w, MemorySegment lost, Workspace workspace) {
        Executor executor = workspace.executor();
        long n = part.n();
        Pattern p = method.zeros().pattern();
        Prune.Scores spec = Prune.Scores.of(part.k(), n, DType.F32);
        MemorySegment mask = workspace.take(Slot.MASK, spec.maskBytes());
        Feedback.prune(part.k(), n, part.gram(), Math.max(part.damping(), LEAST_DAMPING * part.mean()), w, (scores, kept) -> {
            if (p.groups()) {
                Prune.nm(spec, 0, scores, p.n(), p.m(), kept, executor);
            } else {
                Prune.lines(spec, 0, scores, keptOf(part.k()), kept, executor);
            }
        }, method.choices(), method.descent(), mask, lost, workspace.algebra(), executor);
        subtract(w, lost, w, part.k(), n, executor);
        long line = (n + 7) / 8;
        executor.run(part.k(), 1, Executor.worth(n), (begin, end, worker) -> {
            for (long i = begin; i < end; i++) {
                MemorySegment row = w.asSlice(4 * i * n, 4 * n);
                float[] x = row.toArray(JAVA_FLOAT);
                byte[] bits = mask.asSlice(i * line, line).toArray(JAVA_BYTE);
                for (int j = 0; j < x.length; j++) {
                    if (x[j] == 0) {
                        x[j] = (bits[j / 8] >> j % 8 & 1) == 0 ? 0f : -0f;
                    }
                }
                row.copyFrom(MemorySegment.ofArray(x));
            }
        });
    }
}
