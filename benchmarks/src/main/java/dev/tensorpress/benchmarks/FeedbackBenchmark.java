package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Feedback;
import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
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
 * Rounding of one matrix to four bits in blocks of 32 inputs, by GPTQ alone and with coordinate descent after it. Inputs are normal, with a
 * part that all of them share, so that errors can be made up for. {@code peers/gptq.py} has the same in NumPy.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 8, time = 1)
public class FeedbackBenchmark {
    private static final int SAMPLES = 2048;
    private static final int BLOCK = 32;

    /** Sweeps of the descent at most; 0 for GPTQ alone. */
    @Param({"0", "30"})
    public int descent;

    @Param("384")
    public int inputs;

    @Param("1536")
    public int outputs;

    /** 0 is one per processor. */
    @Param("0")
    public int threads;

    private Arena arena;
    private Executor executor;
    private LinearAlgebra algebra;
    private MemorySegment gram;
    private MemorySegment w;
    private MemorySegment e;
    private Feedback.Codes codes;
    private int[] order;
    private double damping;

    @Setup(Level.Trial)
    public void prepareAndCheck() {
        arena = Arena.ofShared();
        executor = Executor.cpu(threads);
        algebra = new LinearAlgebra(executor);
        Random random = new Random(1);
        MemorySegment x = arena.allocate(DType.F32.bytes((long) SAMPLES * inputs), 64);
        for (long i = 0; i < SAMPLES; i++) {
            float shared = (float) random.nextGaussian();
            for (long j = 0; j < inputs; j++) {
                x.setAtIndex(JAVA_FLOAT, i * inputs + j, shared + (float) random.nextGaussian());
            }
        }
        gram = arena.allocate(DType.F64.bytes((long) inputs * inputs), 64);
        algebra.product(new View(DType.F32, x, inputs), true, new View(DType.F32, x, inputs), false, gram, inputs, inputs, SAMPLES);
        w = arena.allocate(DType.F32.bytes((long) inputs * outputs), 64);
        for (long i = 0; i < (long) inputs * outputs; i++) {
            w.setAtIndex(JAVA_FLOAT, i, (float) random.nextGaussian());
        }
        e = arena.allocate(w.byteSize(), 64);
        long rows = Math.ceilDiv(inputs, BLOCK);
        MemorySegment groups = arena.allocate(JAVA_INT, inputs);
        MemorySegment scales = arena.allocate(DType.F32.bytes(rows * outputs), 64);
        for (int i = 0; i < inputs; i++) {
            groups.setAtIndex(JAVA_INT, i, i / BLOCK);
            for (long j = 0; j < outputs; j++) {
                long at = i / BLOCK * (long) outputs + j;
                float largest = Math.abs(w.getAtIndex(JAVA_FLOAT, i * (long) outputs + j)) / 7;
                scales.setAtIndex(JAVA_FLOAT, at, Math.max(largest, scales.getAtIndex(JAVA_FLOAT, at)));
            }
        }
        codes = new Feedback.Codes(-8, 7, groups, scales, MemorySegment.NULL, rows, false);
        order = IntStream.range(0, inputs).toArray();
        damping = 0.01 * 2 * SAMPLES;
        run();
    }

    /** GPTQ, and the descent that was asked for. */
    @Benchmark
    public void run() {
        if (!Feedback.gptq(inputs, outputs, gram, damping, order, w, codes, e, algebra, executor)) {
            throw new IllegalStateException("the Gram matrix is not positive definite");
        }
        if (descent > 0) {
            Feedback.descend(inputs, outputs, gram, damping, w, codes, e, descent, algebra, executor);
        }
    }

    @TearDown(Level.Trial)
    public void close() {
        algebra.close();
        executor.close();
        arena.close();
    }
}
