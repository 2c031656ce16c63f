package dev.tensorpress.benchmarks;

import dev.tensorpress.kernel.Device;
import dev.tensorpress.kernel.Executor;
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

/** Every {@link SparseCase} on one matrix, as {@link QuantizeBenchmark}. For ratios use {@link SparseRatios}. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 8, time = 1)
public class SparseBenchmark {
    @Param
    public SparseCase work;

    /** 0 is one per processor. */
    @Param("0")
    public int threads;

    /** Where kernels run: cpu, or cuda:0, to which operands are copied each time. */
    @Param("cpu")
    public String device;

    /** Rows and columns. */
    @Param("4096")
    public int size;

    /** Of the elements that are zero. */
    @Param("90")
    public int sparsity;

    /** Of the dense factor. */
    @Param("128")
    public int columns;

    private Executor executor;
    private Pruned matrix;
    private Work prepared;

    @Setup(Level.Trial)
    public void prepareAndCheck() {
        executor = Executor.on(Device.of(device), threads);
        matrix = new Pruned(size, size, sparsity, executor);
        prepared = work.prepare(matrix, columns);
    }

    @Benchmark
    public void run() {
        prepared.run();
    }

    @TearDown(Level.Trial)
    public void close() {
        prepared.close();
        matrix.close();
        executor.close();
    }
}
