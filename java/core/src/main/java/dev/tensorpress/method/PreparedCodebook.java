package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Codebook;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Locale;
import java.util.Optional;

/**
 * A {@link CodebookMethod}, with what its weights are multiplied with if errors count by that.
 *
 * @param statistics null if they count alike
 */
record PreparedCodebook(CodebookMethod method, InputStatistics statistics) implements Prepared {
    @Override
    public Form plan(Weight weight, Form current) {
        Form form = switch (current.kind()) {
            case DENSE -> form(weight, false);
            case SPARSE -> {
                if (!current.values().dense() || method.dimension() > 1) {
                    throw refused(method.dimension() > 1 ? "vectors of " + current.describe() : current.describe());
                }
                yield current.sparse().of(form(weight, true));
            }
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> throw refused(current.describe());
        };
        return NoGainException.unlessSmaller(weight, form);
    }

    private static UnsupportedRequestException refused(String what) {
        return new UnsupportedRequestException("cannot make a codebook of " + what);
    }

    private Form.Codebook form(Weight weight, boolean zero) {
        Shape shape = weight.tensor().shape();
        if (!weight.tensor().dtype().compressible()) {
            throw refused(weight.tensor().dtype().name().toLowerCase(Locale.ROOT));
        }
        if (shape.elements() == 0) {
            throw new UnsupportedRequestException("has no elements");
        }
        if (method.dimension() == 1 && method.bits() > Codebook.MOST_SCALAR_BITS) {
            throw new UnsupportedRequestException("codes of " + method.bits() + " bits are for vectors, with a dimension above 1");
        }
        // Rows of tables are looked up, and have what is nearest to outputs.
        boolean table = weight.role() == Role.EMBEDDING;
        int axis = switch (method.grain()) {
            case TENSOR -> -1;
            case OUTPUTS -> table ? 0 : weight.outputAxis();
            case INPUTS -> table ? 1 : weight.inputAxis();
        };
        if (method.grain() != CodebookMethod.Grain.TENSOR && (axis < 0 || axis > 1 || shape.rank() < 2 || axis == 1 && shape.rank() > 2)) {
            throw new UnsupportedRequestException("role " + weight.role().id() + " of shape " + shape + " has no rows or columns that are its "
                    + method.grain().name().toLowerCase(Locale.ROOT));
        }
        Form.Codebook form = method.form(weight, axis, zero);
        if (form.spec(shape).cols() % method.dimension() != 0) {
            throw new UnsupportedRequestException("its rows of " + form.spec(shape).cols() + " elements are no whole vectors of " + method.dimension());
        }
        return form;
    }

    @Override
    public String note(Weight weight, Form form) {
        if (method.importance() == QuantizeMethod.Importance.NONE || weight.inputAxis() < 0) {
            return "";
        }
        try {
            return fits(PreparedByInputs.inputs(weight, statistics), weight) ? "" : "its rows or columns are not its inputs, so that errors count alike";
        } catch (UnsupportedRequestException e) {
            return e.getMessage() + ", so that errors count alike";
        }
    }

    /** Inputs have to be the rows or the columns of the matrix. */
    private static boolean fits(ValueStatistics v, Weight weight) {
        Shape shape = weight.tensor().shape();
        long lines = PreparedByInputs.outputsFirst(weight) ? shape.elements() / shape.dim(0) : shape.dim(0);
        return v.groups() == 1 && lines == v.channels();
    }

    private Optional<ValueStatistics> inputs(Weight weight) {
        if (method.importance() == QuantizeMethod.Importance.NONE) {
            return Optional.empty();
        }
        try {
            return Optional.of(PreparedByInputs.inputs(weight, statistics)).filter(v -> fits(v, weight));
        } catch (UnsupportedRequestException e) {
            return Optional.empty(); // as the note says
        }
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        return switch (current.kind()) {
            case DENSE -> apply(weight, ((Encoding.Dense) current).tensor(), form.codebook(), workspace);
            case SPARSE -> new Encoding.Sparse(form.sparse(), apply(weight, current.values(), form.values(), workspace));
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> throw new IllegalStateException("no plan makes a codebook of " + current.form().describe());
        };
    }

    private Encoding.Codebook apply(Weight weight, Tensor in, Form.Codebook form, Workspace workspace) {
        Shape shape = in.shape();
        Codebook.Spec spec = form.spec(shape);
        MemorySegment tables = workspace.take(Workspace.Slot.SCALES, spec.tableBytes());
        MemorySegment codes = workspace.take(Workspace.Slot.CODES, spec.codeType().bytes(spec.codes()));
        try (Arena arena = workspace.executor().arena()) {
            Quantize.Importance importance = inputs(weight).map(v -> PreparedQuantize.importance(weight, v, false, arena))
                    .orElse(Quantize.Importance.NONE);
            boolean columns = PreparedByInputs.outputsFirst(weight);
            Codebook.train(spec, in.dtype(), in.data(), columns ? MemorySegment.NULL : importance.numbers(),
                    columns ? importance.numbers() : MemorySegment.NULL, method.seed(), method.iterations(), tables, workspace.executor());
        } catch (KernelException e) {
            throw NonFiniteWeightException.of(e, weight);
        }
        Tensor stored = Factors.stored(weight, "tables", new Tensor(DType.F32, form.tables(shape), tables), form.table(), Workspace.Slot.STORED_SCALES, workspace);
        if (form.table() != DType.F32) {
            Quantize.convert(form.table(), stored.data(), stored.shape().elements(), DType.F32, tables, workspace.executor());
        }
        Codebook.assign(spec, in.dtype(), in.data(), tables, codes, workspace.executor());
        return new Encoding.Codebook(form, shape, new Tensor(spec.codeType(), form.codes(shape), codes), stored);
    }
}
