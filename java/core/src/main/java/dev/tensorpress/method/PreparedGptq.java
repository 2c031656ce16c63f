package dev.tensorpress.method;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Feedback;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.stream.IntStream;

/** A {@link GptqMethod} that knows what its weights are multiplied with. */
final class PreparedGptq extends PreparedByInputs {
    private final GptqMethod method;

    PreparedGptq(GptqMethod method, InputStatistics statistics) {
        super(statistics, method.bias(), method.damping());
        this.method = method;
    }

    @Override
    public GptqMethod method() {
        return method;
    }

    @Override
    public boolean powersOfTwo() {
        return method.codes().powersOfTwo();
    }

    @Override
    Form planned(Weight weight, Form current) {
        return switch (current.kind()) {
            case DENSE, SPARSE -> method.codes().plan(weight, current);
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> throw new UnsupportedRequestException("cannot round " + current.describe()
                    + " by its inputs");
        };
    }

    @Override
    Encoding compressed(Weight weight, Encoding current, Form form, Workspace workspace) {
        return switch (current.kind()) {
            case DENSE -> codes(weight, current, form.quantized(), false, workspace);
            case SPARSE -> new Encoding.Sparse(form.sparse(), codes(weight, current.values(), form.quantized(), true, workspace));
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> throw new IllegalStateException("no plan rounds " + current.form().describe());
        };
    }

    private Encoding codes(Weight weight, Encoding dense, Form.Quantized q, boolean pruned, Workspace workspace) {
        Tensor in = ((Encoding.Dense) dense).tensor();
        ValueStatistics inputs = inputs(weight);
        int k = inputs.channels() / inputs.groups();
        try (Arena arena = workspace.executor().arena()) {
            Quantize.Importance importance = method.codes().counts()
                    ? PreparedQuantize.importance(weight, inputs, companion(weight).isPresent(), arena) : Quantize.Importance.NONE;
            // What the codes of this are is of no interest.
            Encoding.Quantized ranges = method.codes().apply(weight, in, q, importance, workspace);
            Feedback.Codes codes = codes(ranges, k, in.shape().elements() / k, outputsFirst(weight), pruned, arena);
            MemorySegment exact = changed(weight, in, (part, w, lost) -> round(part, w, codes, lost, workspace), workspace);
            return QuantizeMethod.encodeExact(weight, new Tensor(DType.F32, in.shape(), exact), q, workspace);
        }
    }

    private void round(Part part, MemorySegment w, Feedback.Codes all, MemorySegment lost, Workspace workspace) {
        int k = part.k();
        long n = part.n();
        int[] order = method.order() ? part.byDiagonal() : IntStream.range(0, k).toArray();
        try (Arena arena = workspace.executor().arena()) {
            MemorySegment zeros = all.zeros().equals(MemorySegment.NULL) ? all.zeros() : part.of(all.zeros(), all.rows(), arena);
            Feedback.Codes codes = new Feedback.Codes(all.qmin(), all.qmax(), all.groups(), part.of(all.scales(), all.rows(), arena),
                    zeros, all.rows(), all.keepZeros());
            double damping = part.damped(d -> Feedback.gptq(k, n, part.gram(), d, order, w, codes, lost, workspace.algebra(),
                    workspace.executor()));
            if (method.descent() > 0) {
                Feedback.descend(k, n, part.gram(), damping, w, codes, lost, method.descent(), workspace.algebra(), workspace.executor());
            }
        }
        subtract(w, lost, w, k, n, workspace.executor());
    }

    /** Scales and zero points as [groups of inputs, outputs]. */
    private static Feedback.Codes codes(Encoding.Quantized ranges, int k, long n, boolean outputsFirst, boolean pruned, Arena arena) {
        Form.Quantized q = ranges.form();
        long all = ranges.scales().shape().elements();
        int size = q.block() > 0 ? q.block() : k;
        long rows = Math.ceilDiv(k, size);
        boolean byOutput = outputsFirst || q.transposed();
        MemorySegment groups = arena.allocate(JAVA_INT, k);
        for (int i = 0; i < k; i++) {
            groups.setAtIndex(JAVA_INT, i, i / size);
        }
        MemorySegment from = ranges.scalesAsF32(arena);
        MemorySegment scales = arena.allocate(DType.F32.bytes(rows * n), 64);
        MemorySegment zeros = q.symmetric() ? MemorySegment.NULL : arena.allocate(scales.byteSize(), 64);
        int middle = q.symmetric() ? q.middle() : 0;
        for (long g = 0; g < rows; g++) {
            for (long j = 0; j < n; j++) {
                long at = all == 1 ? 0 : byOutput ? j * rows + g : g * n + j;
                scales.setAtIndex(JAVA_FLOAT, g * n + j, from.getAtIndex(JAVA_FLOAT, at));
                if (!q.symmetric()) {
                    byte zero = ranges.zeros().data().getAtIndex(JAVA_BYTE, at);
                    zeros.setAtIndex(JAVA_FLOAT, g * n + j, q.type().signed() ? zero : zero & 0xff);
                }
            }
        }
        return new Feedback.Codes(q.qmin() - middle, q.qmax() - middle, groups, scales, zeros, rows, pruned);
    }
}
