package dev.tensorpress.benchmarks;

import com.sun.management.OperatingSystemMXBean;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra;
import dev.tensorpress.kernel.Polyadic;
import dev.tensorpress.kernel.Tucker;
import dev.tensorpress.tensor.DType;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Decompositions of kernels of convolutions, for another program that takes turns with this one. A line asks for one: {@code tucker FILE
 * OUTPUTS INPUTS PLACES R Q} or {@code cp FILE OUTPUTS INPUTS PLACES RANK}, of f32 [outputs, inputs, places] in a file. The answer is its
 * nanoseconds, those of the process on all processors, the error relative to the kernel, and the iterations.
 */
public final class TuckerWork {
    private TuckerWork() {}

    /** @param args the number of threads; 0: all */
    public static void main(String[] args) throws IOException {
        try (Executor executor = Executor.cpu(Integer.parseInt(args[0])); LinearAlgebra algebra = new LinearAlgebra(executor)) {
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
            for (String line; (line = lines.readLine()) != null; ) {
                System.out.println(answer(line.split(" "), executor, algebra));
            }
        }
    }

    static String answer(String[] words, Executor executor, LinearAlgebra algebra) throws IOException {
        Tucker.Size size = new Tucker.Size(Long.parseLong(words[2]), Long.parseLong(words[3]), Long.parseLong(words[4]));
        long rank = Long.parseLong(words[5]);
        byte[] bytes = Files.readAllBytes(Path.of(words[1]));
        if (bytes.length != DType.F32.bytes(size.elements())) {
            throw new IOException(words[1] + " has " + bytes.length + " bytes instead of " + DType.F32.bytes(size.elements()));
        }
        try (Arena arena = Arena.ofShared()) {
            MemorySegment w = arena.allocateFrom(ValueLayout.JAVA_BYTE, bytes);
            OperatingSystemMXBean system = ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);
            long processors = system.getProcessCpuTime();
            long start = System.nanoTime();
            MemorySegment turned = arena.allocate(bytes.length, 64);
            Tucker.channelsLast(size, w, false, turned, executor);
            MemorySegment u = arena.allocate(4 * size.outputs() * rank, 64);
            Tucker.Result result;
            if (words[0].equals("tucker")) {
                long q = Long.parseLong(words[6]);
                result = new Tucker(algebra).decompose(size, turned, new Tucker.Ranks(rank, q), Tucker.Options.DEFAULT, u,
                        arena.allocate(4 * rank * q * size.places(), 64), arena.allocate(4 * q * size.inputs(), 64));
            } else {
                result = new Polyadic(algebra).decompose(size, turned, rank, Polyadic.DEFAULT, u, arena.allocate(4 * rank * size.places(), 64),
                        arena.allocate(4 * rank * size.inputs(), 64));
            }
            return System.nanoTime() - start + " " + (system.getProcessCpuTime() - processors) + " " + result.relativeError() + " " + result.iterations();
        }
    }
}
