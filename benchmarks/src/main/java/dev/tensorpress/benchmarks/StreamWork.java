package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Reads floats and writes a byte for each, nothing else: the limit of this machine for every kernel from f32 to int8, and
 * what the speed of all work is a share of.
 */
final class StreamWork implements Work {
    private final Arena arena = Arena.ofShared();
    private final Matrix in;
    private final Executor executor;
    private final long n;
    private final MemorySegment out;

    StreamWork(Matrix in, Executor executor) {
        this.in = in;
        this.executor = executor;
        n = in.shape().elements();
        out = arena.allocate(n, 64);
    }

    @Override
    public void run() {
        executor.run(n, 1 << 16, 1, (begin, end, worker) ->
                Machine.streamNarrow(in.data.asSlice(begin * 4), end - begin, out.asSlice(begin)));
    }

    @Override
    public void check() {
        for (long i = 0; i < n; i++) {
            Plain.expect("byte", i / in.cols, i % in.cols, in.data.get(JAVA_BYTE, 4 * i), out.get(JAVA_BYTE, i));
        }
    }

    @Override
    public long bytes() {
        return 5 * n;
    }

    @Override
    public void close() {
        arena.close();
    }
}
