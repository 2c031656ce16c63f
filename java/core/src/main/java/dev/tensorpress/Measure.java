package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.kernel.Workers;
import dev.tensorpress.pass.Workspace;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Measures what an encoding lost against the weight it stands for. */
final class Measure {
    private Measure() {}

    static Report.Entry error(Plan.Entry planned, Encoding encoding, Workspace workspace, Workers workers, long began) {
        Tensor original = planned.weight().tensor();
        // A cast, since a switch over patterns links at run time, which start-up would notice.
        Encoding.Quantized q = (Encoding.Quantized) encoding;
        Quantize.Spec spec = Quantize.Spec.of(q.form(), original.dtype(), original.shape());
        MemorySegment lines = workspace.take(Workspace.Slot.ERRORS, Quantize.errorBytes(spec));
        Quantize.Error error;
        try (Arena arena = Arena.ofShared()) {
            error = Quantize.error(spec, original.data(), q.codes().data(), q.scalesAsF32(arena),
                    q.zeros() == null ? MemorySegment.NULL : q.zeros().data(), lines, workers);
        }
        return new Report.Entry(planned, error.sumSquaredError(), error.sumSquares(), error.maxError(),
                System.nanoTime() - began);
    }
}
