package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;

import com.github.luben.zstd.Zstd;
import dev.tensorpress.kernel.Coding;
import dev.tensorpress.kernel.Coding.Elements;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * A block of normal weights, coded and decoded, by Tensorpress, by zstd and by a copy, one thread. {@link CodingRatios} takes the weights of a
 * model, and turns between coders.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
public class CodingBenchmark {
    private static final int BYTES = 1 << 20;

    /** What codes. */
    public enum Coder { TENSORPRESS, ZSTD_1, ZSTD_3, COPY }

    @Param({"BYTES", "F16", "BF16", "F32"})
    public Elements elements;

    @Param
    public Coder coder;

    private Arena arena;
    private MemorySegment in;
    private MemorySegment out;
    private MemorySegment again;
    private MemorySegment scratch;
    private MemorySegment coded;

    @Setup(Level.Trial)
    public void open() {
        arena = Arena.ofShared();
        in = arena.allocate(BYTES, 64);
        again = arena.allocate(BYTES, 64);
        out = arena.allocate(Math.max(Coding.bound(elements, BYTES), Zstd.compressBound(BYTES)), 64);
        scratch = arena.allocate(Coding.scratchBytes(elements, BYTES), 64);
        Random random = new Random(1);
        for (long i = 0; i < BYTES; i += elements.bytes()) {
            float x = (float) (0.03 * random.nextGaussian());
            switch (elements) {
                case F32 -> in.set(JAVA_FLOAT_UNALIGNED, i, x);
                case F16 -> in.set(JAVA_SHORT_UNALIGNED, i, Float.floatToFloat16(x));
                case BF16 -> in.set(JAVA_SHORT_UNALIGNED, i, (short) (Float.floatToIntBits(x) >> 16));
                default -> in.set(JAVA_BYTE, i, (byte) Math.clamp(Math.round(1100 * x), -127, 127));
            }
        }
        coded = out.asSlice(0, encode());
        decode();
        if (again.mismatch(in) >= 0) {
            throw new IllegalStateException(coder + " gives something else back");
        }
    }

    @TearDown(Level.Trial)
    public void close() {
        arena.close();
    }

    /** Bytes that it takes. */
    @Benchmark
    public long encode() {
        return switch (coder) {
            case TENSORPRESS -> Coding.encode(elements, in, MemorySegment.NULL, out, scratch).bytes();
            case ZSTD_1, ZSTD_3 -> Zstd.compressDirectByteBuffer(out.asByteBuffer(), 0, (int) out.byteSize(), in.asByteBuffer(), 0, BYTES,
                    coder == Coder.ZSTD_1 ? 1 : 3);
            case COPY -> {
                MemorySegment.copy(in, 0, out, 0, BYTES);
                yield BYTES;
            }
        };
    }

    @Benchmark
    public void decode() {
        switch (coder) {
            case TENSORPRESS -> Coding.decode(coded, MemorySegment.NULL, again, scratch);
            case ZSTD_1, ZSTD_3 -> Zstd.decompressDirectByteBuffer(again.asByteBuffer(), 0, BYTES, coded.asByteBuffer(), 0, (int) coded.byteSize());
            case COPY -> again.copyFrom(coded);
        }
    }
}
