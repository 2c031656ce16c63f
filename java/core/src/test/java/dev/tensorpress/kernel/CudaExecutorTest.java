package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.tensor.DType;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.ClosedByInterruptException;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Executors on the emulated device, and its memory. */
class CudaExecutorTest {
    private static final int BYTES = 1000;
    private static Executor device;
    private static Executor cpu;
    private static Arena arena;

    @BeforeAll
    static void start() {
        device = Executor.on(Device.of("cuda"), 2);
        cpu = Executor.on(Device.CPU, 1);
        arena = Arena.ofShared();
    }

    @AfterAll
    static void end() {
        device.close();
        cpu.close();
        arena.close();
    }

    private static MemorySegment bytes(int n) {
        MemorySegment s = arena.allocate(n);
        for (int i = 0; i < n; i++) {
            s.set(JAVA_BYTE, i, (byte) (7 * i + 1));
        }
        return s;
    }

    @Test
    void anExecutorSaysWhatItIsOn() {
        assertEquals(Device.cuda(0), device.device());
        assertEquals(2, device.threads());
        assertEquals(Device.CPU, cpu.device());
        assertTrue(cpu instanceof CpuExecutor);
    }

    @Test
    void factsAreThoseOfTheDevice() {
        assertEquals("", Cuda.none());
        List<Cuda.Facts> devices = Cuda.devices();
        Cuda.Facts first = devices.getFirst();
        assertEquals(Device.cuda(0), first.device());
        assertEquals("", first.unusable());
        assertTrue(first.major() >= 8 && first.multiprocessors() > 0 && first.freeBytes() > 0 && first.freeBytes() <= first.memoryBytes(),
                first.toString());
        assertTrue(first.driver().matches("\\d+\\.\\d") && first.runtime().matches("\\d+\\.\\d"), first.toString());
    }

    /** The command {@code profile} measures those of a device. */
    @Test
    void theProcessorHasNoCeilingsOfADevice() {
        assertThrows(IllegalArgumentException.class, () -> Cuda.ceilings(cpu));
    }

    @Test
    void thereIsNoDeviceBehindTheLast() {
        DeviceException e = assertThrows(DeviceException.class, () -> Executor.on(Device.cuda(77), 1));
        assertEquals(DeviceException.FAILED, e.status());
        assertTrue(e.getMessage().startsWith("cuda:77 cannot be used: there is no CUDA device 77, the last one is "), e.getMessage());
        assertThrows(IllegalArgumentException.class, () -> Executor.on(Device.cuda(0), -1));
    }

    /** Of a group that is large enough, and of a small one that lies there. */
    @Test
    void tablesAreFoundOnTheDevice() {
        long n = 512;
        MemorySegment in = arena.allocate(DType.F32.bytes(n * n), 64);
        MemorySegment weights = arena.allocate(DType.F32.bytes(n), 64);
        for (long i = 0; i < n * n; i++) {
            in.setAtIndex(JAVA_FLOAT, i, i % 7 == 0 ? 0 : (float) Math.sin(i * i % 1e6));
            weights.setAtIndex(JAVA_FLOAT, i % n, i % n / 1000f);
        }
        for (Codebook.Spec spec : List.of(new Codebook.Spec(n, n, n, n, 1, 4, true), new Codebook.Spec(32, 64, 32, 64, 4, 3, false))) {
            MemorySegment wanted = arena.allocate(spec.tableBytes(), 64);
            Codebook.train(spec, DType.F32, in, weights, MemorySegment.NULL, 5, 20, wanted, cpu);
            try (DeviceMemory memory = DeviceMemory.allocate(in.byteSize(), device); DeviceMemory tables = DeviceMemory.allocate(spec.tableBytes(), device)) {
                memory.upload(in);
                Codebook.train(spec, DType.F32, memory.segment(), weights, MemorySegment.NULL, 5, 20, tables.segment(), device);
                MemorySegment found = arena.allocate(spec.tableBytes(), 64);
                tables.download(found);
                assertArrayEquals(wanted.toArray(JAVA_FLOAT), found.toArray(JAVA_FLOAT));
            }
            MemorySegment found = arena.allocate(spec.tableBytes(), 64);
            Codebook.train(spec, DType.F32, in, weights, MemorySegment.NULL, 5, 20, found, device);
            assertArrayEquals(wanted.toArray(JAVA_FLOAT), found.toArray(JAVA_FLOAT));
        }
    }

    @Test
    void memoryIsCopiedToTheDeviceAndBack() {
        MemorySegment from = bytes(BYTES);
        try (DeviceMemory memory = DeviceMemory.allocate(BYTES, device)) {
            assertEquals(BYTES, memory.bytes());
            memory.upload(from);
            memory.upload(from.asSlice(1, 3));
            MemorySegment to = arena.allocate(BYTES);
            memory.download(to);
            assertArrayEquals(from.asSlice(1, 3).toArray(JAVA_BYTE), to.asSlice(0, 3).toArray(JAVA_BYTE));
            assertArrayEquals(from.asSlice(3).toArray(JAVA_BYTE), to.asSlice(3).toArray(JAVA_BYTE));
            IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> memory.upload(bytes(BYTES + 1)));
            assertEquals("from has 1001 bytes, but the device memory has 1000", e.getMessage());
            assertThrows(IllegalArgumentException.class, () -> memory.download(bytes(BYTES + 1)));
            assertThrows(IllegalArgumentException.class, () -> memory.download(to.asReadOnly()));
            assertThrows(IllegalArgumentException.class, () -> memory.upload(MemorySegment.ofArray(new byte[1])));
        }
        try (DeviceMemory none = DeviceMemory.allocate(0, device)) {
            none.upload(arena.allocate(0));
        }
        assertThrows(IllegalArgumentException.class, () -> DeviceMemory.allocate(-1, device));
        assertEquals("cpu has no device memory: use an arena",
                assertThrows(IllegalArgumentException.class, () -> DeviceMemory.allocate(1, cpu)).getMessage());
    }

    @Test
    void javaCannotFollowTheAddress() {
        try (DeviceMemory memory = DeviceMemory.allocate(BYTES, device)) {
            assertEquals(0, memory.segment().byteSize());
            assertThrows(IndexOutOfBoundsException.class, () -> memory.segment().get(JAVA_BYTE, 0));
        }
    }

    @Test
    void memoryThatDoesNotFitIsRefused() {
        DeviceException e = assertThrows(DeviceException.class, () -> DeviceMemory.allocate(1L << 50, device));
        assertEquals(DeviceException.MEMORY, e.status());
        assertTrue(e.getMessage().startsWith("tp_cuda_allocate on cuda:0: too little device memory: "), e.getMessage());
        assertTrue(e.in("w").getMessage().startsWith("w: tp_cuda_allocate") && e.in("w").status() == DeviceException.MEMORY);
        DeviceMemory.allocate(BYTES, device).close();
    }

    @Test
    void closedMemoryIsNotUsed() {
        DeviceMemory memory = DeviceMemory.allocate(BYTES, device);
        memory.close();
        memory.close();
        assertThrows(IllegalStateException.class, () -> memory.upload(bytes(1)));
        assertThrows(IllegalStateException.class, () -> Native.input("in", memory.segment(), 1, device));
    }

    @Test
    void memoryGoesWithTheExecutor() {
        Executor own = Executor.on(Device.cuda(0), 1);
        DeviceMemory memory = DeviceMemory.allocate(BYTES, own);
        own.close();
        own.close();
        assertThrows(IllegalStateException.class, () -> memory.upload(bytes(1)));
        assertThrows(IllegalStateException.class, () -> DeviceMemory.allocate(1, own));
        assertThrows(IllegalStateException.class, () -> own.run(1, 1, 1, (begin, end, worker) -> {}));
        memory.close();
    }

    @Test
    void memoryIsTheExecutorsThatHasIt() {
        try (Executor other = Executor.on(Device.cuda(0), 1); DeviceMemory memory = DeviceMemory.allocate(BYTES, device)) {
            Native.input("in", memory.segment(), BYTES, device);
            assertEquals("in needs 1001 bytes, but has 1000 on cuda:0", refusal(memory, BYTES + 1, device));
            assertEquals("in is memory of cuda:0, which this call does not run on", refusal(memory, 1, cpu));
            assertEquals("in is memory of cuda:0, which this call does not run on", refusal(memory, 1, Native.host(device)));
            assertEquals("in is memory of cuda:0, which this call does not run on", refusal(memory, 1, null));
            assertEquals("in is memory of cuda:0, which this call does not run on: it is another executor's", refusal(memory, 1, other));
        }
    }

    private static String refusal(DeviceMemory memory, long bytes, Executor executor) {
        return assertThrows(IllegalArgumentException.class, () -> Native.input("in", memory.segment(), bytes, executor)).getMessage();
    }

    /** The space is searched on the device, further than on the processor, which measures what it certifies. */
    @Test
    void decompositionsAreAsGood() {
        int rows = 400;
        int cols = 300;
        int rank = 8;
        MemorySegment a = arena.allocate(4L * rows * cols, 64);
        try (LinearAlgebra algebra = new LinearAlgebra(cpu)) {
            algebra.gaussian(3, 0, (long) rows * cols, DType.F32, a);
        }
        Svd.Certificate[] certificates = new Svd.Certificate[2];
        MemorySegment[] values = new MemorySegment[2];
        for (int i = 0; i < 2; i++) {
            values[i] = arena.allocate(4 * rank, 64);
            try (Svd svd = new Svd(i == 0 ? cpu : device)) {
                certificates[i] = svd.truncated(new LinearAlgebra.View(DType.F32, a, cols), rows, cols, rank, Svd.Options.DEFAULT,
                        arena.allocate(4L * rows * rank, 64), values[i], arena.allocate(4L * rank * cols, 64));
            }
        }
        MemorySegment full = arena.allocate(4L * cols, 64);
        try (Svd svd = new Svd(cpu)) {
            svd.full(new LinearAlgebra.View(DType.F32, a, cols), rows, cols, arena.allocate(4L * rows * cols, 64), full,
                    arena.allocate(4L * cols * cols, 64));
        }
        Svd.Certificate expected = certificates[0];
        Svd.Certificate found = certificates[1];
        assertEquals(expected.norm(), found.norm(), 1e-9 * expected.norm());
        assertTrue(found.error() <= expected.error() * 1.0001 && found.bound() <= found.error(), found.toString());
        assertEquals(expected.bound(), found.bound(), 0.02 * expected.bound());
        assertTrue(found.left() < 1e-5 && found.right() < 1e-5, found.toString());
        for (int i = 0; i < rank; i++) {
            // Of what was searched further they are larger, and never larger than they are.
            float value = values[1].getAtIndex(JAVA_FLOAT, i);
            assertTrue(value >= values[0].getAtIndex(JAVA_FLOAT, i) * 0.9999f && value <= full.getAtIndex(JAVA_FLOAT, i) * 1.0001f, "" + value);
        }
    }

    /** What looks at values runs where they are, from any element on. */
    @Test
    void valuesAreObservedWhereTheyAre() {
        int rows = 70;
        int channels = 90;
        MemorySegment x = arena.allocate(4L * rows * channels, 64);
        try (LinearAlgebra algebra = new LinearAlgebra(cpu); DeviceMemory there = DeviceMemory.allocate(x.byteSize(), device)) {
            algebra.gaussian(5, 0, (long) rows * channels, DType.F32, x);
            there.upload(x);
            Patches.Pair two = new Patches.Pair(2, 2);
            Patches patches = new Patches(1, rows, channels, two, two, two, two, two);
            byte[][] expected = observed(x, rows, channels, patches, cpu);
            byte[][] found = observed(there.segment(), rows, channels, patches, device);
            for (int i = 0; i < expected.length; i++) {
                assertArrayEquals(expected[i], found[i], "result " + i);
            }
            x.setAtIndex(JAVA_FLOAT, 99, Float.NaN);
            there.upload(x);
            MemorySegment results = arena.allocate(24L * channels, 64);
            assertEquals(99, Observe.channels(there.segment(), rows, channels, channels, results, results.asSlice(4L * channels),
                    results.asSlice(8L * channels), results.asSlice(16L * channels), device));
        }
    }

    private static byte[][] observed(MemorySegment x, int rows, int channels, Patches patches, Executor executor) {
        MemorySegment results = arena.allocate(24L * channels + 24, 64);
        assertEquals(-1, Observe.channels(x, rows, channels, channels, results, results.asSlice(4L * channels), results.asSlice(8L * channels),
                results.asSlice(16L * channels), executor));
        MemorySegment one = results.asSlice(24L * channels);
        assertEquals(-1, Observe.channels(x, (long) rows * channels, 1, 1, one, one.asSlice(4), one.asSlice(8), one.asSlice(16), executor));
        MemorySegment counts = arena.allocate(8L * Observe.BINS, 64);
        Observe.histogram(x, rows, channels - 1, channels, 0x1p-8f, counts, executor);
        MemorySegment seen = arena.allocate(4 * (patches.positions() - 3) * patches.length(), 64);
        patches.take(x, 3, patches.positions() - 3, seen, executor);
        return new byte[][] {results.toArray(JAVA_BYTE), counts.toArray(JAVA_BYTE), seen.toArray(JAVA_BYTE)};
    }

    /** What rounding goes by is the processor's, since products of a device have other last bits. */
    @Test
    void factorsAreTheProcessors() {
        int n = 900;
        byte[][] factors = new byte[2][];
        for (int i = 0; i < 2; i++) {
            MemorySegment g = arena.allocate(8L * n * n, 64);
            try (LinearAlgebra algebra = new LinearAlgebra(i == 0 ? cpu : device)) {
                algebra.gaussian(4, 0, (long) n * n, DType.F64, g);
                for (long r = 0; r < n; r++) {
                    g.setAtIndex(JAVA_DOUBLE, r * n + r, 200);
                }
                assertTrue(algebra.cholesky(n, g));
            }
            factors[i] = g.toArray(JAVA_BYTE);
        }
        assertArrayEquals(factors[0], factors[1]);
    }

    /** Rounding runs on the device, where its matrices have to fit; what was taken is given back. */
    @Test
    void matricesThatDoNotFitAreNotRounded() {
        int k = 100;
        long n = 300;
        try (Executor small = new CudaExecutor(Device.cuda(0), 1, 300_000); LinearAlgebra algebra = new LinearAlgebra(small)) {
            MemorySegment gram = arena.allocate(8L * k * k, 64);
            MemorySegment groups = arena.allocate(4L * k, 64);
            MemorySegment scales = arena.allocate(4 * n, 64);
            for (int i = 0; i < k; i++) {
                gram.setAtIndex(JAVA_DOUBLE, (long) i * k + i, 1);
            }
            for (long j = 0; j < n; j++) {
                scales.setAtIndex(JAVA_FLOAT, j, 1);
            }
            Feedback.Codes codes = new Feedback.Codes(-7, 7, groups, scales, MemorySegment.NULL, 1, false);
            MemorySegment w = arena.allocate(4 * k * n, 64);
            MemorySegment e = arena.allocate(4 * k * n, 64);
            DeviceException refusal = assertThrows(DeviceException.class, () -> Feedback.descend(k, n, gram, 0, w, codes, e, 3, algebra, small));
            assertEquals(DeviceException.MEMORY, refusal.status());
            DeviceMemory.allocate(290_000, small).close();
        }
    }

    @Test
    void anInterruptEndsTheWaitForTheDevice() throws InterruptedException {
        CudaExecutor cuda = (CudaExecutor) device;
        CountDownLatch inside = new CountDownLatch(1);
        CountDownLatch leave = new CountDownLatch(1);
        Thread holder = new Thread(() -> cuda.call("holder", c -> {
            inside.countDown();
            await(leave);
            return 0;
        }));
        holder.start();
        await(inside);
        AtomicReference<Throwable> met = new AtomicReference<>();
        Thread waiter = new Thread(() -> {
            try {
                cuda.call("waiter", c -> 0);
            } catch (UncheckedIOException e) {
                met.set(Thread.currentThread().isInterrupted() ? e.getCause() : e);
            }
        });
        waiter.start();
        waiter.interrupt();
        waiter.join();
        assertSame(ClosedByInterruptException.class, met.get().getClass());
        leave.countDown();
        holder.join();
        Thread.currentThread().interrupt();
        assertThrows(UncheckedIOException.class, () -> cuda.call("late", c -> 0));
        assertTrue(Thread.interrupted(), "whoever called has to know");
        cuda.call("after", c -> 0);
    }

    private static void await(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
