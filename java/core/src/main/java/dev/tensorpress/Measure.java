package dev.tensorpress;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Prune;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.Prepared;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Optional;

/** Measures what an encoding lost against the weight it stands for. */
final class Measure {
    private Measure() {}

    /**
     * @param weight the planned one, or rows of it
     * @return without its time and its distribution
     */
    static Report.Entry error(Plan.Entry planned, Weight weight, Encoding encoding, Workspace workspace) {
        Tensor original = weight.tensor();
        Encoding values = encoding.values();
        Report.Sparsity sparsity = encoding.form().sparse() == null ? null
                : sparsity(planned, (Encoding.Sparse) encoding, workspace);
        Quantize.Error error = switch (values.kind()) {
            case DENSE -> ofDense(original, ((Encoding.Dense) values).tensor(), workspace);
            case QUANTIZED -> ofCodes(original, (Encoding.Quantized) values, workspace);
            case CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM -> ofDecoded(original, values, workspace);
        };
        return new Report.Entry(planned, error.sumSquaredError(), error.sumSquares(), error.maxError(), sparsity,
                lowRank(values), chain(values), planned.powersOfTwo() ? fixedPoint(values) : null, null, 0);
    }

    private static Tensor decoded(Encoding encoding, Workspace workspace) {
        MemorySegment out = workspace.take(Workspace.Slot.DECODED, DType.F32.bytes(encoding.shape().elements()));
        encoding.decode(out, workspace.executor());
        return new Tensor(DType.F32, encoding.shape(), out);
    }

    /** Of products of factors: decoded to f32, and the original as well if it is anything else, which is exact. */
    private static Quantize.Error ofDecoded(Tensor original, Encoding encoding, Workspace workspace) {
        Tensor decoded = decoded(encoding, workspace);
        Tensor wide = original;
        if (original.dtype() != DType.F32) {
            MemorySegment copy = workspace.take(Workspace.Slot.MATRIX, decoded.bytes());
            Quantize.convert(original.dtype(), original.data(), original.shape().elements(), DType.F32, copy, workspace.executor());
            wide = new Tensor(DType.F32, original.shape(), copy);
        }
        return ofDense(wide, decoded, workspace);
    }

    /** Of a corrected weight that of what is corrected. */
    private static Report.FixedPoint fixedPoint(Encoding values) {
        return switch (values.kind()) {
            case QUANTIZED -> fixedPoint((Encoding.Quantized) values);
            case LOW_RANK -> fixedPoint(values.factors().left()).plus(fixedPoint(values.factors().right()));
            case CHAIN -> {
                Report.FixedPoint all = null;
                for (Encoding part : values.parts()) {
                    Report.FixedPoint of = fixedPoint(part);
                    all = all == null || of == null ? of == null ? all : of : all.plus(of);
                }
                yield all;
            }
            case SUM -> fixedPoint(((Encoding.Sum) values).base());
            case DENSE, CODEBOOK, TRANSFORMED, HASHED, SPARSE -> null;
        };
    }

    private static Report.FixedPoint fixedPoint(Encoding.Quantized q) {
        try (Arena arena = Arena.ofConfined()) {
            int least = Integer.MAX_VALUE;
            int most = Integer.MIN_VALUE;
            for (float scale : q.scalesAsF32(arena).toArray(JAVA_FLOAT)) {
                int n = -Math.getExponent(scale);
                least = Math.min(least, n);
                most = Math.max(most, n);
            }
            return new Report.FixedPoint(q.form().bits(), least, most);
        }
    }

    private static Report.LowRank lowRank(Encoding encoding) {
        Encoding.LowRank f = encoding.factors();
        if (f == null) {
            return null;
        }
        Shape shape = f.shape();
        long rows = shape.dim(0);
        return new Report.LowRank(encoding.form().base() != null, f.form().rank(), Math.min(rows, shape.elements() / rows), f.certificate(),
                f.form().bytes(shape));
    }

    private static Report.Chain chain(Encoding encoding) {
        Form.Chain form = encoding.form().chain();
        return form == null ? null : new Report.Chain(form, ((Encoding.Chain) encoding).result());
    }

    private static Quantize.Error ofCodes(Tensor original, Encoding.Quantized q, Workspace workspace) {
        Quantize.Spec spec = q.form().spec(original.dtype(), original.shape());
        MemorySegment lines = workspace.take(Workspace.Slot.ERRORS, Quantize.errorBytes(spec));
        try (Arena arena = Arena.ofShared()) {
            return Quantize.error(spec, original.data(), q.codes().data(), q.scalesAsF32(arena),
                    q.zeros() == null ? MemorySegment.NULL : q.zeros().data(), lines, workspace.executor());
        }
    }

    private static Quantize.Error ofDense(Tensor original, Tensor changed, Workspace workspace) {
        Prune.Scores matrix = matrix(original.shape(), original.dtype());
        MemorySegment rows = workspace.take(Workspace.Slot.ERRORS, Prune.errorBytes(matrix));
        return Prune.error(matrix, original.data(), changed.data(), rows, workspace.executor());
    }

    private static Prune.Scores matrix(Shape shape, DType type) {
        long cols = shape.rank() == 0 ? 1 : shape.dim(-1);
        return Prune.Scores.of(cols == 0 ? 0 : shape.elements() / cols, cols, type);
    }

    private static Report.Sparsity sparsity(Plan.Entry planned, Encoding.Sparse encoding, Workspace workspace) {
        Encoding values = encoding.values();
        Tensor decoded = switch (values.kind()) {
            case DENSE -> ((Encoding.Dense) values).tensor();
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM -> decoded(values, workspace);
        };
        long zeros = Prune.count(matrix(decoded.shape(), decoded.dtype()), decoded.data(), 0, workspace.executor()).equal();
        Prepared.Zeros asked = asked(planned);
        StoredSizes sizes = StoredSizes.of(encoding, asked.twoOfFourDown(), workspace);
        return new Report.Sparsity(decoded.shape().elements(), asked.asked(), zeros, sizes.dense(),
                sizes.layouts(), sizes.smallest(), sizes.least(), sizes.why(), planned.after());
    }

    private static Prepared.Zeros asked(Plan.Entry planned) {
        for (Plan.Step step : planned.steps()) {
            Optional<Prepared.Zeros> zeros = step.prepared().zeros(planned.weight());
            if (zeros.isPresent()) {
                return zeros.get();
            }
        }
        throw new IllegalStateException("no step pruned " + planned.weight().name());
    }
}
