package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.OneDnn;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * The peer: oneDNN's reorder from f32 to s8, one scale to a row. It computes no scales, so they are given to it and cost
 * it nothing; {@link Case#GIVEN_ROW} is the same work, {@link Case#ROW} is more.
 */
final class OneDnnWork implements Work {
    private final Arena arena = Arena.ofShared();
    private final Matrix in;
    private final int threads;
    private final MemorySegment out;
    private final MemorySegment inverses;
    private final OneDnn.Operation operation;

    OneDnnWork(Matrix in, Executor executor) {
        this.in = in;
        threads = executor.threads();
        out = arena.allocate(in.shape().elements(), 64);
        inverses = arena.allocate(4L * in.rows, 64);
        for (int r = 0; r < in.rows; r++) {
            float max = 0;
            for (long c = 0; c < in.cols; c++) {
                max = Math.max(max, Math.abs(in.data.getAtIndex(JAVA_FLOAT, (long) r * in.cols + c)));
            }
            inverses.setAtIndex(JAVA_FLOAT, r, 1 / (max / 127));
        }
        OpenMp.setThreads(threads);
        operation = OneDnn.quantizeRows(in.rows, in.cols);
    }

    @Override
    public void run() {
        OpenMp.setThreads(threads);
        operation.run(in.data, out, inverses);
    }

    @Override
    public void check() {
        for (long r = 0; r < in.rows; r++) {
            float inverse = inverses.getAtIndex(JAVA_FLOAT, r);
            for (long c = 0; c < in.cols; c++) {
                long i = r * in.cols + c;
                double code = Math.clamp(Math.rint(in.data.getAtIndex(JAVA_FLOAT, i) * inverse), -128, 127);
                Plain.expect("code of oneDNN", r, c, code, out.get(JAVA_BYTE, i));
            }
        }
    }

    @Override
    public long bytes() {
        return in.data.byteSize() + out.byteSize() + inverses.byteSize();
    }

    @Override
    public void close() {
        operation.close();
        arena.close();
    }
}
