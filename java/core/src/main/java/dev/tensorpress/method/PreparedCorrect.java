package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.method.Workspace.Slot;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.statistics.InputStatistics;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/** A {@link CorrectMethod} that knows what its weights are multiplied with. */
final class PreparedCorrect extends PreparedByInputs {
    private static final double DAMPING = 0.01;

    private final CorrectMethod method;

    PreparedCorrect(CorrectMethod method, InputStatistics statistics) {
        super(statistics, true, DAMPING);
        this.method = method;
    }

    @Override
    public CorrectMethod method() {
        return method;
    }

    @Override
    Form planned(Weight weight, Form current) {
        Form form = method.plan(weight, current);
        try {
            if (inputs(weight).groups() > 1) {
                throw new UnsupportedRequestException("its groups of outputs have inputs of their own");
            }
        } catch (UnsupportedRequestException e) {
            throw new NoGainException(e.getMessage()); // the codes are good without
        }
        return form;
    }

    @Override
    Encoding compressed(Weight weight, Encoding current, Form form, Workspace workspace) {
        Encoding.Sum[] sum = new Encoding.Sum[1];
        byParts(weight, (part, arena) -> sum[0] = method.apply(weight, current, form, GramRoot.of(part, arena, workspace), workspace), workspace);
        if (companion(weight).isPresent()) {
            // The weight gains what is added, and the bias has made up for all of what it lacked.
            Factors.Matrix m = Factors.matrix(weight);
            MemorySegment added = workspace.take(Slot.DECODED, DType.F32.bytes(m.rows() * m.cols()));
            sum[0].correction().decode(added, workspace.executor());
            MemorySegment inputsFirst = workspace.take(Slot.LOST, added.byteSize());
            turn(added, m.rows(), m.cols(), outputsFirst(weight), inputsFirst, workspace);
            lost(weight, inputsFirst, -1, workspace);
        }
        return sum[0];
    }
}
