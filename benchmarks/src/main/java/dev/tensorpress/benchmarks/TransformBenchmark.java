package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Hashing;
import dev.tensorpress.kernel.Transform;
import dev.tensorpress.tensor.DType;
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

/** Transforms of one matrix of normal numbers, and shared values. {@code peers/transform.py} has the same in SciPy and PyWavelets. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
public class TransformBenchmark {
    private static final long ROWS = 1024;
    private static final long COLS = 1040;

    @Param({"dct 8 1", "dct 8 2", "dct 16 1", "dct 16 2", "dct 64 1", "dct 64 2", "haar 2", "cdf53 2", "cdf97 2", "quantize", "hash", "unhash"})
    public String what;

    /** 0 is one per processor. */
    @Param("0")
    public int threads;

    private Arena arena;
    private Executor executor;
    private MemorySegment in;
    private MemorySegment out;
    private Hashing.Spec spec;
    private MemorySegment values;

    @Setup(Level.Trial)
    public void open() {
        arena = Arena.ofShared();
        executor = Executor.cpu(threads);
        in = arena.allocate(DType.F32.bytes(ROWS * COLS), 64);
        out = arena.allocate(in.byteSize(), 64);
        Random random = new Random(1);
        for (long i = 0; i < ROWS * COLS; i++) {
            in.setAtIndex(JAVA_FLOAT, i, (float) random.nextGaussian());
        }
        spec = new Hashing.Spec(ROWS, COLS, ROWS * COLS / 8, 1);
        values = arena.allocate(DType.F32.bytes(spec.buckets()), 64);
    }

    @TearDown(Level.Trial)
    public void close() {
        executor.close();
        arena.close();
    }

    @Benchmark
    public void run() {
        String[] parts = what.split(" ");
        switch (parts[0]) {
            case "dct" -> Transform.dct(ROWS, COLS, Integer.parseInt(parts[1]), Integer.parseInt(parts[2]), false, in, out, executor);
            case "haar", "cdf53", "cdf97" -> Transform.wavelet(Transform.Wavelet.valueOf(parts[0].toUpperCase(java.util.Locale.ROOT)), ROWS, COLS,
                    Integer.parseInt(parts[1]), 1, false, in, out, executor);
            case "quantize" -> Transform.quantize(new Transform.Zone(0.5f, 0, 127), Transform.Steps.of(0.1f), ROWS * COLS, in, out, executor);
            case "hash" -> Hashing.fit(spec, in, values, executor);
            case "unhash" -> Hashing.decode(spec, values, out, executor);
            default -> throw new IllegalArgumentException(what);
        }
    }
}
