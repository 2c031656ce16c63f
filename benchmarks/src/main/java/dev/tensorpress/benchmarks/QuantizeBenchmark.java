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

/**
 * Every {@link Case} on one matrix. Single runs are sampled: read the median ({@code p0.50}), not the mean. For ratios
 * between cases use {@link Ratios}, which takes turns between them.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 8, time = 1)
public class QuantizeBenchmark {
    @Param
    public Case work;

    /** 0 is one per processor. */
    @Param({"1", "0"})
    public int threads;

    /** Where kernels run: cpu, or cuda:0, to which operands are copied each time. */
    @Param("cpu")
    public String device;

    /** Rows and columns. */
    @Param("8192")
    public int size;

    private Matrix in;
    private Executor executor;
    private Work prepared;

    @Setup(Level.Trial)
    public void prepareAndCheck() {
        in = Matrix.random(size, size);
        executor = Executor.on(Device.of(device), threads);
        prepared = work.prepare(in, executor);
    }

    @Benchmark
    public void run() {
        prepared.run();
    }

    @TearDown(Level.Trial)
    public void close() {
        prepared.close();
        executor.close();
        in.close();
    }
}
