package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.tensorpress.kernel.Codebook;
import dev.tensorpress.kernel.Device;
import dev.tensorpress.kernel.Executor;
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

/** Codebooks of one matrix of normal numbers. {@code peers/kmeans.py} has the tables by scikit-learn. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 2, time = 1)
@Measurement(iterations = 5, time = 1)
public class CodebookBenchmark {
    private static final long ROWS = 384;
    private static final long COLS = 1536;

    /** Elements of a code. */
    @Param({"1", "4"})
    public int dimension;

    @Param({"4", "8"})
    public int bits;

    /** Rows of a group. */
    @Param({"384", "32"})
    public long groupRows;

    /** 0 is one per processor. */
    @Param("0")
    public int threads;

    /** Where kernels run: cpu, or cuda:0, to which operands are copied each time. */
    @Param("cpu")
    public String device;

    private Arena arena;
    private Executor executor;
    private Codebook.Spec spec;
    private MemorySegment in;
    private MemorySegment tables;
    private MemorySegment codes;
    private MemorySegment out;
    private MemorySegment sums;

    @Setup(Level.Trial)
    public void open() {
        arena = Arena.ofShared();
        executor = Executor.on(Device.of(device), threads);
        spec = new Codebook.Spec(ROWS, COLS, groupRows, COLS, dimension, bits, false);
        in = arena.allocate(DType.F32.bytes(ROWS * COLS), 64);
        out = arena.allocate(in.byteSize(), 64);
        tables = arena.allocate(spec.tableBytes(), 64);
        codes = arena.allocate(spec.codeType().bytes(spec.codes()), 64);
        sums = arena.allocate(2 * spec.tableBytes(), 64);
        Random random = new Random(1);
        for (long i = 0; i < ROWS * COLS; i++) {
            in.setAtIndex(JAVA_FLOAT, i, (float) random.nextGaussian());
        }
        train();
        assign();
    }

    @TearDown(Level.Trial)
    public void close() {
        executor.close();
        arena.close();
    }

    @Benchmark
    public void train() {
        Codebook.train(spec, DType.F32, in, MemorySegment.NULL, MemorySegment.NULL, 1, 100, tables, executor);
    }

    @Benchmark
    public void assign() {
        Codebook.assign(spec, DType.F32, in, tables, codes, executor);
    }

    @Benchmark
    public void decode() {
        Codebook.decode(spec, codes, tables, out, executor);
    }

    /** As gradients, the elements themselves. */
    @Benchmark
    public void gradients() {
        Codebook.gradients(spec, codes, in, sums, executor);
    }
}
