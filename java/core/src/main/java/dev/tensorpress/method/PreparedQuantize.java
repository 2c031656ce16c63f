package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.statistics.ValueStatistics;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Optional;

/** A {@link QuantizeMethod} that knows what its weights are multiplied with, and tries ranges by that where it is known. */
record PreparedQuantize(QuantizeMethod method, InputStatistics statistics) implements Prepared {
    @Override
    public Form plan(Weight weight, Form current) {
        return method.plan(weight, current);
    }

    @Override
    public boolean powersOfTwo() {
        return method.powersOfTwo();
    }

    /** {@inheritDoc} Tables have no inputs, which goes without saying. */
    @Override
    public String note(Weight weight, Form form) {
        if (weight.inputAxis() < 0) {
            return "";
        }
        Form.Quantized q = form.quantized();
        try {
            return q == null ? "errors of factors count alike" : fits(PreparedByInputs.inputs(weight, statistics), weight, q) ? ""
                    : "its groups do not lie along its inputs, so that errors count alike";
        } catch (UnsupportedRequestException e) {
            return e.getMessage() + ", so that errors count alike";
        }
    }

    @Override
    public boolean byRows(Weight weight, Form form) {
        return method.byRows(weight, form) && inputs(weight, form.quantized()).map(ValueStatistics::groups).orElse(1) == 1;
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        Optional<ValueStatistics> inputs = form.quantized() == null ? Optional.empty() : inputs(weight, form.quantized());
        if (inputs.isEmpty()) {
            return method.apply(weight, current, form, workspace);
        }
        Encoding.Dense dense = (Encoding.Dense) current.values();
        try (Arena arena = workspace.executor().arena()) {
            Encoding.Quantized codes = method.apply(weight, dense.tensor(), form.quantized(),
                    importance(weight, inputs.get(), false, arena), workspace);
            return form.sparse() == null ? codes : new Encoding.Sparse(form.sparse(), codes);
        }
    }

    /** Empty if nothing is known of what it is multiplied with, or groups do not lie along that. */
    private Optional<ValueStatistics> inputs(Weight weight, Form.Quantized q) {
        try {
            return Optional.of(PreparedByInputs.inputs(weight, statistics)).filter(v -> fits(v, weight, q));
        } catch (UnsupportedRequestException e) {
            return Optional.empty(); // as the note says
        }
    }

    /** Rows of the matrix of a kernel have to be its outputs. */
    private static boolean fits(ValueStatistics v, Weight weight, Form.Quantized q) {
        Shape shape = weight.tensor().shape();
        return shape.rank() == 2 || q.grid(shape).cols() == v.channels() / v.groups();
    }

    /**
     * What the inputs of a weight, which they fit, are worth by their ratios. Inputs that are all 0 say nothing.
     *
     * @param centred whether by what is left of them less their mean
     */
    static Quantize.Importance importance(Weight weight, ValueStatistics inputs, boolean centred, Arena arena) {
        double[] squares = inputs.squares().clone();
        double largest = 0;
        for (int i = 0; i < squares.length; i++) {
            if (centred) {
                double x = inputs.sum()[i];
                squares[i] = Math.max(0, squares[i] - x * (x / inputs.rows()));
            }
            largest = Math.max(largest, squares[i]);
        }
        if (largest == 0) {
            return Quantize.Importance.NONE;
        }
        MemorySegment numbers = arena.allocate(DType.F32.bytes(squares.length), 4);
        for (int i = 0; i < squares.length; i++) {
            numbers.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) (squares[i] / largest));
        }
        boolean rows = !PreparedByInputs.outputsFirst(weight);
        return new Quantize.Importance(numbers, rows ? 0 : inputs.groups());
    }
}
