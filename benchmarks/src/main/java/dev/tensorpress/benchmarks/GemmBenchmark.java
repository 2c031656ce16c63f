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

/** Every {@link GemmCase} of every {@link GemmShape}, as {@link QuantizeBenchmark}. For ratios use {@link GemmRatios}. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Fork(value = 1, jvmArgsAppend = "--enable-native-access=ALL-UNNAMED")
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 8, time = 1)
public class GemmBenchmark {
    @Param
    public GemmCase work;

    @Param
    public GemmShape shape;

    /** 0 is one per processor. */
    @Param("0")
    public int threads;

    /** Where kernels run: cpu, or cuda:0, to which operands are copied each time. */
    @Param("cpu")
    public String device;

    private Executor executor;
    private Work prepared;

    @Setup(Level.Trial)
    public void prepareAndCheck() {
        executor = Executor.on(Device.of(device), threads);
        prepared = work.prepare(shape.m, shape.n, shape.k, executor);
    }

    @Benchmark
    public void run() {
        prepared.run();
    }

    @TearDown(Level.Trial)
    public void close() {
        prepared.close();
        executor.close();
    }
}
