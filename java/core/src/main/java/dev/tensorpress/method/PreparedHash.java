package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Hashing;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;

/** A {@link HashMethod}, which looks at nothing before. */
record PreparedHash(HashMethod method) implements Prepared {
    @Override
    public Form plan(Weight weight, Form current) {
        PreparedTransform.elements(weight, current, "hash");
        return NoGainException.unlessSmaller(weight, method.form(weight));
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form planned, Workspace workspace) {
        Form.Hashed form = (Form.Hashed) planned;
        Tensor in = ((Encoding.Dense) current).tensor();
        MemorySegment values = workspace.take(Workspace.Slot.CODES, DType.F32.bytes(form.buckets()));
        try {
            Hashing.fit(form.spec(in.shape()), PreparedTransform.floats(in, workspace), values, workspace.executor());
        } catch (KernelException e) {
            throw NonFiniteWeightException.of(e, weight);
        }
        return new Encoding.Hashed(form, in.shape(),
                Factors.stored(weight, "values", new Tensor(DType.F32, Shape.of(form.buckets()), values), form.type(), Workspace.Slot.STORED_SCALES, workspace));
    }
}
