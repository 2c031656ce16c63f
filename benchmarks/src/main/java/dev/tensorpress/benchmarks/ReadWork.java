package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Reads, nothing else: the limit of this machine for work that writes little. */
final class ReadWork implements Work {
    private static final int WORD = 8;

    private final Arena arena = Arena.ofShared();
    private final MemorySegment in;
    private final Executor executor;
    private long xor;

    ReadWork(MemorySegment in, Executor executor) {
        this.in = in;
        this.executor = executor;
    }

    /** Reads as many bytes of its own. */
    ReadWork(long bytes, Executor executor) {
        in = arena.allocate(bytes, 64);
        for (long i = 0; i < bytes; i++) {
            in.set(JAVA_BYTE, i, (byte) i);
        }
        this.executor = executor;
    }

    @Override
    public void run() {
        long[] xors = new long[executor.threads()];
        executor.run(Math.ceilDiv(in.byteSize(), WORD), WORD, 1 << 13, (begin, end, worker) -> {
            long from = begin * WORD;
            xors[worker.index()] ^= Machine.streamRead(in.asSlice(from, Math.min(end * WORD, in.byteSize()) - from));
        });
        xor = 0;
        for (long x : xors) {
            xor ^= x;
        }
    }

    @Override
    public void check() {
        long wanted = 0;
        for (long i = 0; i < in.byteSize(); i++) {
            wanted ^= (in.get(JAVA_BYTE, i) & 0xffL) << i % WORD * 8;
        }
        if (xor != wanted) {
            throw new IllegalStateException("wrong result: the words add up to " + xor + ", but should to " + wanted);
        }
    }

    @Override
    public long bytes() {
        return in.byteSize();
    }

    @Override
    public void close() {
        arena.close();
    }
}
