package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BrokenBarrierException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Memory that kernels must not touch, or no longer, or not from here: an exception, never a crash or a wrong number. */
class NativeBoundaryTest {
    private static final int N = 16;
    private static Executor two;
    private static Executor one;

    @BeforeAll
    static void start() {
        two = Executor.cpu(2);
        one = Executor.cpu(1);
    }

    @AfterAll
    static void end() {
        two.close();
        one.close();
    }

    private static Quantize.Spec spec() {
        return new Quantize.Spec(N, N, N, N, 1, N, DType.F32, DType.I8, DType.F32, -127, 127, Quantize.Range.ABSMAX,
                Quantize.Rounding.DIVIDE, false, false, 1, 1);
    }

    /** Calls of one segment each, all other arguments being right; those whose name ends in * write it. */
    private static Map<String, Consumer<MemorySegment>> calls(Arena arena, Executor executor) {
        MemorySegment floats = arena.allocate(8L * N * N, 64);
        for (int i = 0; i < N * N; i++) {
            floats.setAtIndex(JAVA_FLOAT, i, i % 7 - 3);
        }
        MemorySegment other = arena.allocate(8L * N * N, 64);
        MemorySegment third = arena.allocate(8L * N * N, 64);
        MemorySegment mask = arena.allocate(2L * N).fill((byte) -1);
        MemorySegment scratch = arena.allocate(1 << 20, 64);
        MemorySegment none = MemorySegment.NULL;
        Prune.Scores scores = Prune.Scores.of(N, N, DType.F32);
        SparseMatrix sparse = Sparse.pack(DType.F32, N, N, floats, Sparse.Layout.CSR32, 0, arena, executor);
        View square = new View(DType.F64, other.fill((byte) 0), N);
        Map<String, Consumer<MemorySegment>> calls = new LinkedHashMap<>();
        calls.put("quantize in", s -> Quantize.quantize(spec(), s, other, third, none, executor));
        calls.put("quantize codes*", s -> Quantize.quantize(spec(), floats, s, third, none, executor));
        calls.put("quantize scales*", s -> Quantize.quantize(spec(), floats, other, s, none, executor));
        calls.put("quantize zeros*", s -> Quantize.quantize(spec(), floats, other, third, s, executor));
        calls.put("dequantize codes", s -> Quantize.dequantize(spec(), s, floats, none, third, executor));
        calls.put("dequantize out*", s -> Quantize.dequantize(spec(), floats, floats, none, s, executor));
        calls.put("error lineErrors*", s -> Quantize.error(spec(), floats, floats, floats, none, s, executor));
        calls.put("pack4 packed*", s -> Quantize.pack4(floats, 2 * N, s));
        calls.put("unpack4 codes*", s -> Quantize.unpack4(DType.U4, floats, N, s));
        calls.put("convert out*", s -> Quantize.convert(DType.F32, floats, N, DType.BF16, s));
        calls.put("convert on threads in", s -> Quantize.convert(DType.F32, s, N, DType.BF16, third, executor));
        calls.put("convert on threads out*", s -> Quantize.convert(DType.F32, floats, N, DType.BF16, s, executor));
        calls.put("prune apply in", s -> Prune.apply(scores, s, mask, third, executor));
        calls.put("prune apply mask", s -> Prune.apply(scores, floats, s, third, executor));
        calls.put("prune apply out*", s -> Prune.apply(scores, floats, mask, s, executor));
        calls.put("prune mask*", s -> Prune.mask(scores, floats, 0, 0, 0, s, executor));
        calls.put("prune nm mask*", s -> Prune.nm(scores, 1, floats, 2, 4, s, executor));
        calls.put("prune blocks out*", s -> Prune.blocks(scores, 4, 4, floats, s, executor));
        calls.put("prune expand mask*", s -> Prune.expand(scores, 1, 1, mask, s, executor));
        calls.put("prune error rowErrors*", s -> Prune.error(scores, floats, floats, s, executor));
        calls.put("sparse survey in", s -> Sparse.survey(DType.F32, N, N, s, executor));
        calls.put("sparse unpack out*", s -> Sparse.unpack(sparse, s, executor));
        calls.put("spmm b", s -> Spmm.multiply(sparse, 2, s, third, executor));
        calls.put("spmm out*", s -> Spmm.multiply(sparse, 2, floats, s, executor));
        calls.put("spmm transposed out*", s -> Spmm.multiplyTransposed(sparse, 2, floats, s, executor));
        calls.put("observe channels x", s -> Observe.channels(s, N, N, N, third, other, scratch, scratch, executor));
        calls.put("observe channels min*", s -> Observe.channels(floats, N, N, N, s, other, scratch, scratch, executor));
        calls.put("observe channels squares*", s -> Observe.channels(floats, N, N, N, third, other, scratch, s, executor));
        calls.put("observe histogram x", s -> Observe.histogram(s, N, N, N, 1, scratch, executor));
        calls.put("gram matrix sums*", s -> gramMatrix(s, floats, executor));
        calls.put("gram matrix x", s -> gramMatrix(third, s, executor));
        Patches.Pair point = new Patches.Pair(1, 1);
        Patches.Pair no = new Patches.Pair(0, 0);
        calls.put("patches image", s -> new Patches(1, N, N, point, point, point, no, no).take(s, 0, N * N, third, executor));
        calls.put("patches out*", s -> new Patches(1, N, N, point, point, point, no, no).take(floats, 0, N * N, s, executor));
        calls.put("gemm b", s -> gemm(executor, g -> g.pack(s)));
        calls.put("gemm a", s -> gemm(executor, g -> g.pack(floats).multiply(s, third)));
        calls.put("gemm c*", s -> gemm(executor, g -> g.pack(floats).multiply(floats, s)));
        calls.put("svd a", s -> svd(executor, v -> v.full(new View(DType.F32, s, N), N, N, other, third, scratch)));
        calls.put("svd u*", s -> svd(executor, v -> v.full(new View(DType.F32, floats, N), N, N, s, third, scratch)));
        calls.put("svd vt*", s -> svd(executor, v -> v.truncated(new View(DType.F32, floats, N), N, N, 2,
                new Svd.Options(0, 2, 0, false), other, third, s)));
        calls.put("svd batch s*", s -> svd(executor, v -> v.batch(new View(DType.F32, floats, 4), 4, 16, 4, 4, other, s, scratch)));
        calls.put("gram a", s -> algebra(executor, l -> l.gram(new View(DType.F64, s, N), false, N, N, 1, third)));
        calls.put("gram g*", s -> algebra(executor, l -> l.gram(square, false, N, N, 1, s)));
        calls.put("gaussian out*", s -> algebra(executor, l -> l.gaussian(1, 0, N, DType.F64, s)));
        calls.put("eigen a*", s -> algebra(executor, l -> l.symmetricEigen(N, s, third, scratch)));
        calls.put("eigen values*", s -> algebra(executor, l -> l.symmetricEigen(N, other, s, scratch)));
        calls.put("eigen z*", s -> algebra(executor, l -> l.symmetricEigen(N, other, third, s)));
        calls.put("eigenvalues values*", s -> algebra(executor, l -> l.symmetricEigenvalues(N, other, s)));
        calls.put("solve l", s -> algebra(executor, l -> l.solve(N, s, N, third)));
        calls.put("solve x*", s -> algebra(executor, l -> l.solve(N, identity(arena), N, s)));
        calls.put("orthonormalize x*", s -> algebra(executor, l -> l.orthonormalize(2, N, s)));
        calls.put("sumOfSquares a", s -> algebra(executor, l -> l.sumOfSquares(new View(DType.F64, s, N), N, N)));
        calls.put("streamNarrow in", s -> Machine.streamNarrow(s, N, third));
        calls.put("streamNarrow out*", s -> Machine.streamNarrow(floats, N, s));
        return calls;
    }

    private static MemorySegment identity(Arena arena) {
        MemorySegment l = arena.allocate(8L * N * N, 64);
        for (int i = 0; i < N; i++) {
            l.setAtIndex(java.lang.foreign.ValueLayout.JAVA_DOUBLE, (long) i * N + i, 1);
        }
        return l;
    }

    private static void gemm(Executor executor, Consumer<Gemm> work) {
        try (Gemm g = new Gemm(Gemm.Spec.of(DType.F32, Gemm.Form.AB, N, N, N), executor)) {
            work.accept(g);
        }
    }

    private static void gramMatrix(MemorySegment sums, MemorySegment x, Executor executor) {
        try (Gram gram = new Gram(1, N, sums, executor)) {
            gram.add(x, N, N);
            gram.finish();
        }
    }

    private static void svd(Executor executor, Consumer<Svd> work) {
        try (Svd v = new Svd(executor)) {
            work.accept(v);
        }
    }

    private static void algebra(Executor executor, Consumer<LinearAlgebra> work) {
        try (LinearAlgebra l = new LinearAlgebra(executor)) {
            work.accept(l);
        }
    }

    @Test
    void whatIsRightIsTaken() {
        try (Arena arena = Arena.ofShared()) {
            calls(arena, two).forEach((name, call) -> call.accept(identity(arena)));
        }
    }

    @Test
    void shortHeapClosedAndMissingSegmentsAreRefused() {
        Arena gone = Arena.ofShared();
        MemorySegment closed = gone.allocate(8L * N * N, 64);
        gone.close();
        try (Arena arena = Arena.ofShared()) {
            MemorySegment small = arena.allocate(8, 64);
            MemorySegment heap = MemorySegment.ofArray(new double[N * N]);
            calls(arena, two).forEach((name, call) -> {
                assertThrows(IllegalArgumentException.class, () -> call.accept(small.asSlice(0, 1)), name + ", short");
                assertThrows(IllegalArgumentException.class, () -> call.accept(heap), name + ", on the heap");
                assertThrows(IllegalStateException.class, () -> call.accept(closed), name + ", closed");
                assertThrows(IllegalArgumentException.class, () -> call.accept(null), name + ", null");
            });
        }
    }

    /** Memory of the process is as wrong for a device; its own is taken by what runs there, and refused by everything else. */
    @Test
    void memoryOfADeviceIsForWhatRunsThere() {
        Arena gone = Arena.ofShared();
        MemorySegment closed = gone.allocate(8L * N * N, 64);
        gone.close();
        try (Arena arena = Arena.ofShared(); Executor device = Executor.on(Device.cuda(0), 2);
                DeviceMemory memory = DeviceMemory.allocate(8L * N * N, device); DeviceMemory small = DeviceMemory.allocate(4, device)) {
            DeviceMemory stale = DeviceMemory.allocate(8L * N * N, device);
            stale.close();
            Set<String> taken = new TreeSet<>();
            calls(arena, device).forEach((name, call) -> {
                assertThrows(IllegalArgumentException.class, () -> call.accept(arena.allocate(8, 64).asSlice(0, 1)), name + ", short");
                assertThrows(IllegalStateException.class, () -> call.accept(closed), name + ", closed");
                assertThrows(IllegalStateException.class, () -> call.accept(stale.segment()), name + ", freed");
                assertThrows(IllegalArgumentException.class, () -> call.accept(small.segment()), name + ", short on the device");
                call.accept(identity(arena));
                memory.upload(identity(arena));
                try {
                    call.accept(memory.segment());
                    taken.add(name);
                } catch (IllegalArgumentException e) {
                    assertTrue(e.getMessage().endsWith(" is memory of cuda:0, which this call does not run on"), name + ": " + e.getMessage());
                }
            });
            assertEquals(new TreeSet<>(List.of("quantize in", "quantize codes*", "quantize scales*", "quantize zeros*", "dequantize codes",
                    "dequantize out*", "prune apply in", "prune apply mask", "prune apply out*", "prune mask*", "prune nm mask*",
                    "prune blocks out*", "prune expand mask*", "sparse survey in", "sparse unpack out*", "spmm b", "spmm out*",
                    "spmm transposed out*", "convert on threads in", "convert on threads out*", "gemm b", "gemm a", "gemm c*", "observe channels x",
                    "observe histogram x", "patches image", "patches out*")), taken);
            calls(arena, one).forEach((name, call) ->
                    assertThrows(IllegalArgumentException.class, () -> call.accept(memory.segment()), name + ", on the processor"));
        }
    }

    @Test
    void outputsAreNotReadOnly(@TempDir Path folder) throws Exception {
        Path file = Files.write(folder.resolve("input"), new byte[8 * N * N]);
        try (Arena arena = Arena.ofShared(); FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            // A write here would be a signal, not an exception.
            MemorySegment mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, 8 * N * N, arena);
            MemorySegment view = identity(arena).asReadOnly();
            int outputs = 0;
            for (Map.Entry<String, Consumer<MemorySegment>> call : calls(arena, two).entrySet()) {
                if (call.getKey().endsWith("*")) {
                    outputs++;
                    for (MemorySegment s : List.of(mapped, view)) {
                        Exception e = assertThrows(IllegalArgumentException.class, () -> call.getValue().accept(s), call.getKey());
                        assertTrue(e.getMessage().contains("read-only"), e.getMessage());
                    }
                } else {
                    call.getValue().accept(identity(arena).asReadOnly());
                }
            }
            assertTrue(outputs > 25);
        }
        assertArrayEquals(new byte[8 * N * N], Files.readAllBytes(file));
    }

    /** For little work, which one thread does, as for much. */
    @Test
    void aConfinedArenaIsForOneThread() throws Exception {
        try (Arena shared = Arena.ofShared(); Arena confined = Arena.ofConfined()) {
            MemorySegment mine = identity(confined);
            calls(shared, two).forEach((name, call) -> {
                if (!name.contains("pack4") && !name.contains("convert") && !name.contains("stream")) {
                    Exception e = assertThrows(IllegalArgumentException.class, () -> call.accept(mine), name);
                    assertTrue(e.getMessage().contains("use a shared arena"), e.getMessage());
                }
            });
            calls(shared, one).forEach((name, call) -> call.accept(identity(confined)));
            List<Throwable> thrown = new ArrayList<>();
            Thread other = new Thread(() -> calls(shared, one).forEach((name, call) -> thrown.add(
                    assertThrows(IllegalArgumentException.class, () -> call.accept(mine), name))));
            other.setUncaughtExceptionHandler((t, e) -> thrown.add(e));
            other.start();
            other.join();
            assertEquals(calls(shared, one).size(), thrown.size());
            thrown.forEach(t -> assertInstanceOf(IllegalArgumentException.class, t));
        }
    }

    @Test
    void zeroPointsAndScalesOutliveTheCallOnly() {
        try (Arena arena = Arena.ofShared(); Gemm g = new Gemm(Gemm.Spec.of(DType.I8, Gemm.Form.AB, N, N, N), two)) {
            MemorySegment a = arena.allocate(N * N).fill((byte) 3);
            MemorySegment c = arena.allocate(4L * N * N, 64);
            g.pack(a);
            Arena gone = Arena.ofShared();
            Gemm.Affine stale = new Gemm.Affine(gone.allocate(1).fill((byte) 1), MemorySegment.NULL,
                    MemorySegment.NULL, gone.allocate(4L * N, 4).fill((byte) 0));
            g.multiplyToFloat(N, a, c, stale);
            gone.close();
            assertThrows(IllegalStateException.class, () -> g.multiplyToFloat(N, a, c, stale));
            // Another thread's confined segments are no business of this one; its own are copied before threads share them.
            try (Arena confined = Arena.ofConfined()) {
                MemorySegment scale = confined.allocate(4, 4);
                scale.set(JAVA_FLOAT, 0, 0.5f);
                g.multiplyToFloat(N, a, c, new Gemm.Affine(MemorySegment.NULL, MemorySegment.NULL, scale, MemorySegment.NULL));
                assertEquals(0.5f * 9 * N, c.getAtIndex(JAVA_FLOAT, N + 1));
                List<Throwable> thrown = new ArrayList<>();
                Thread other = new Thread(() -> thrown.add(assertThrows(IllegalArgumentException.class, () -> g.multiplyToFloat(N, a, c,
                        new Gemm.Affine(MemorySegment.NULL, MemorySegment.NULL, scale, MemorySegment.NULL)))));
                other.start();
                other.join();
                assertEquals(1, thrown.size());
            } catch (InterruptedException e) {
                throw new AssertionError(e);
            }
        }
    }

    /** Whoever closes an arena under a running kernel is told, or the kernel is; neither crashes. */
    @Test
    void closingDuringACallDoesNotCrash() throws Exception {
        int n = 256;
        for (int round = 0; round < 20 * Effort.ROUNDS; round++) {
            Arena arena = Arena.ofShared();
            MemorySegment a = arena.allocate((long) n * n).fill((byte) 1);
            MemorySegment c = arena.allocate(4L * n * n, 64);
            MemorySegment scales = arena.allocate(4L * n, 4);
            CountDownLatch started = new CountDownLatch(1);
            Thread user = new Thread(() -> {
                try (Gemm g = new Gemm(Gemm.Spec.of(DType.I8, Gemm.Form.AB, n, n, n), two)) {
                    g.pack(a);
                    started.countDown();
                    while (true) {
                        g.multiplyToFloat(n, a, c, new Gemm.Affine(MemorySegment.NULL, MemorySegment.NULL, MemorySegment.NULL, scales));
                    }
                } catch (IllegalStateException e) {
                    // Closed: what this loop waits for.
                }
            });
            user.start();
            started.await();
            boolean open = true;
            while (open) {
                try {
                    arena.close();
                    open = false;
                } catch (IllegalStateException e) {
                    Thread.onSpinWait(); // in use at this moment
                }
            }
            user.join(20_000);
            assertFalse(user.isAlive());
        }
    }

    @Test
    void aSecondThreadIsRefused() throws Exception {
        try (Arena arena = Arena.ofShared(); Svd svd = new Svd(one); LinearAlgebra algebra = new LinearAlgebra(one);
                Gemm gemm = new Gemm(Gemm.Spec.of(DType.F32, Gemm.Form.AB, N, N, N), one)) {
            MemorySegment floats = identity(arena);
            // The first thread stands in each of the three at once, as long as its task does.
            for (AutoCloseable object : List.of(svd, algebra, gemm)) {
                CountDownLatch inside = new CountDownLatch(1);
                CountDownLatch leave = new CountDownLatch(1);
                var field = object.getClass().getDeclaredField("oneThread");
                field.setAccessible(true);
                OneThread guard = (OneThread) field.get(object);
                Thread first = new Thread(() -> {
                    try (OneThread _ = guard.enter()) {
                        inside.countDown();
                        leave.await();
                    } catch (InterruptedException e) {
                        throw new AssertionError(e);
                    }
                });
                first.start();
                inside.await();
                List<Runnable> uses = List.of(
                        () -> svd.full(new View(DType.F32, floats, N), N, N, arena.allocate(4 * N * N, 64), arena.allocate(4 * N, 64),
                                arena.allocate(4 * N * N, 64)),
                        () -> algebra.symmetricEigenvalues(N, identity(arena), arena.allocate(8 * N, 64)),
                        () -> gemm.pack(floats));
                Runnable use = uses.get(List.of(svd, algebra, gemm).indexOf(object));
                Exception e = assertThrows(IllegalStateException.class, use::run);
                assertTrue(e.getMessage().contains("another thread"), e.getMessage());
                assertThrows(IllegalStateException.class, object::close);
                leave.countDown();
                first.join();
                use.run(); // in turns is fine
            }
        }
    }

    @Test
    void sparseArraysCannotBeChanged() {
        try (Arena arena = Arena.ofShared()) {
            SparseMatrix m = Sparse.pack(DType.F32, N, N, identity(arena), Sparse.Layout.CSR32, 0, arena, two);
            for (MemorySegment s : List.of(m.offsets(), m.indices(), m.values())) {
                assertThrows(IllegalArgumentException.class, () -> s.set(java.lang.foreign.ValueLayout.JAVA_BYTE, 0, (byte) 1));
            }
        }
    }

    @Test
    void anErrorOfAWorkerIsItself() {
        InternalError error = new InternalError("a fault occurred in an unsafe memory access operation");
        AtomicBoolean elsewhere = new AtomicBoolean();
        for (int i = 0; i < 200 && !elsewhere.get(); i++) {
            assertSame(error, assertThrows(InternalError.class, () -> two.run(2, 1, 1, (begin, end, worker) -> {
                if (begin == 0 && worker.index() == 0) {
                    long until = System.nanoTime() + 20_000_000;
                    while (System.nanoTime() < until && !elsewhere.get()) {
                        Thread.onSpinWait();
                    }
                }
                if (worker.index() == 1) {
                    elsewhere.set(true);
                    throw error;
                }
                if (begin == 1) {
                    throw error;
                }
            })));
        }
        assertTrue(elsewhere.get(), "the second thread never had a turn");
    }

    /** A product of many columns copies a part of B to the stack: threads of a server may have little of it. */
    @Test
    void aSmallStackSuffices() throws Exception {
        int rows = 512;
        int cols = 2048;
        try (Arena arena = Arena.ofShared()) {
            MemorySegment dense = arena.allocate(4L * rows * cols, 64);
            for (int i = 0; i < rows * cols; i += 3) {
                dense.setAtIndex(JAVA_FLOAT, i, 1);
            }
            SparseMatrix m = Sparse.pack(DType.F32, rows, cols, dense, Sparse.Layout.CSR32, 0, arena, one);
            MemorySegment b = arena.allocate(4L * cols * 128, 64);
            MemorySegment out = arena.allocate(4L * rows * 128, 64);
            List<Throwable> thrown = new ArrayList<>();
            Thread small = new Thread(null, () -> {
                try (Svd svd = new Svd(one)) {
                    Spmm.multiply(m, 128, b, out, one);
                    svd.batch(new View(DType.F32, dense, 64), 1, 0, 64, 64, b, out, b.asSlice(1 << 16));
                } catch (Throwable t) {
                    thrown.add(t);
                }
            }, "small", 140 << 10);
            small.start();
            small.join();
            assertEquals(List.of(), thrown);
        }
    }

    /** Two threads that fail with one object, as the JVM's own may be. */
    @Test
    void oneErrorOfTwoThreadsIsItself() throws Exception {
        InternalError error = new InternalError("the same");
        for (int i = 0; i < 200 * Effort.ROUNDS; i++) {
            CyclicBarrier both = new CyclicBarrier(2);
            assertSame(error, assertThrows(InternalError.class, () -> two.run(2, 1, 1, (begin, end, worker) -> {
                try {
                    both.await(10, TimeUnit.MILLISECONDS);
                } catch (InterruptedException | BrokenBarrierException | TimeoutException e) {
                    // One thread may do both, or be late.
                }
                throw error;
            })));
        }
    }

    /** Nothing runs on the caller's memory once the call is left. */
    @Test
    void workersThatAreClosedDuringTheWorkSaySo() throws Exception {
        for (int i = 0; i < 300 * Effort.ROUNDS; i++) {
            Executor executor = Executor.cpu(4);
            AtomicBoolean left = new AtomicBoolean();
            AtomicBoolean late = new AtomicBoolean();
            Thread closer = new Thread(executor::close);
            closer.start();
            try {
                executor.run(64, 1, 1, (begin, end, worker) -> late.compareAndSet(false, left.get()));
            } catch (IllegalStateException e) {
                assertTrue(e.getMessage().contains("closed"), e.getMessage());
            }
            left.set(true);
            closer.join();
            assertFalse(late.get());
        }
    }

    @Test
    void sparseArraysOfAnotherThreadAreRefused() {
        try (Arena shared = Arena.ofShared(); Arena confined = Arena.ofConfined()) {
            for (int n : new int[] {N, 512}) {
                MemorySegment dense = shared.allocate(4L * n * n, 64);
                MemorySegment out = shared.allocate(4L * n * n, 64);
                assertThrows(IllegalArgumentException.class,
                        () -> Sparse.pack(DType.F32, n, n, dense, Sparse.Layout.CSR32, 0, confined, two));
                SparseMatrix mine = Sparse.pack(DType.F32, n, n, dense, Sparse.Layout.CSR32, 0, confined, one);
                assertThrows(IllegalArgumentException.class, () -> Sparse.unpack(mine, out, two));
                assertThrows(IllegalArgumentException.class, () -> Spmm.multiply(mine, 1, dense, out, two));
                assertThrows(IllegalArgumentException.class, () -> Spmm.multiplyTransposed(mine, 1, dense, out, two));
                Sparse.unpack(mine, out, one);
            }
        }
    }

    @Test
    void whatIsClosedSaysSo() {
        try (Arena arena = Arena.ofShared()) {
            Svd svd = new Svd(one);
            svd.close();
            assertThrows(IllegalStateException.class, () -> svd.full(new View(DType.F64, identity(arena), N), N, N, identity(arena),
                    identity(arena), identity(arena)));
        }
    }

    @Test
    void closedWorkersSaySo() {
        for (int threads : new int[] {1, 2}) {
            Executor closed = Executor.cpu(threads);
            closed.close();
            assertThrows(IllegalStateException.class, () -> closed.run(1000, 1, 1, (begin, end, worker) -> {}));
        }
    }

    /** What the kernel would only call an argument, by its name. */
    @Test
    void wrongArgumentsAreNamed() {
        Quantize.Spec good = spec();
        Map<String, Quantize.Spec> wrong = new LinkedHashMap<>();
        wrong.put("qmin and qmax must be in -128 .. 127, but are -129 and 127", new Quantize.Spec(N, N, N, N, 1, N, DType.F32, DType.I8,
                DType.F32, -129, 127, Quantize.Range.ABSMAX, Quantize.Rounding.DIVIDE, false, false, 1, 1));
        wrong.put("groups of 1 x 5", new Quantize.Spec(N, N, N, N, 1, 5, DType.F32, DType.I8, DType.F32, -127, 127,
                Quantize.Range.ABSMAX, Quantize.Rounding.DIVIDE, false, false, 1, 1));
        wrong.put("a clip search", good.clip(65, 0.5f));
        wrong.put("importance in 0 parts of 16 rows", good.importance(new Quantize.Importance(MemorySegment.ofAddress(4), 0)));
        wrong.put("importance in 3 parts of 16 rows", good.importance(new Quantize.Importance(MemorySegment.ofAddress(4), 3)));
        wrong.put("in cannot have 16 rows of 16 elements, with 15", new Quantize.Spec(N, N, N - 1, N, 1, N, DType.F32, DType.I8,
                DType.F32, -127, 127, Quantize.Range.ABSMAX, Quantize.Rounding.DIVIDE, false, false, 1, 1));
        wrong.put("too many elements", new Quantize.Spec(Long.MAX_VALUE, N, N, N, 1, N, DType.F32, DType.I8, DType.F32, -127, 127,
                Quantize.Range.ABSMAX, Quantize.Rounding.DIVIDE, false, false, 1, 1));
        wrong.put("in and scale must be", new Quantize.Spec(N, N, N, N, 1, N, DType.I8, DType.I8, DType.F32, -127, 127,
                Quantize.Range.ABSMAX, Quantize.Rounding.DIVIDE, false, false, 1, 1));
        wrong.put("zeros must not be NULL", good.range(Quantize.Range.MINMAX));
        try (Arena arena = Arena.ofShared()) {
            MemorySegment s = identity(arena);
            wrong.forEach((said, spec) -> {
                Exception e = assertThrows(IllegalArgumentException.class,
                        () -> Quantize.quantize(spec, s, s, s, MemorySegment.NULL, two));
                assertTrue(e.getMessage().contains(said), e.getMessage());
            });
            Prune.Scores scores = Prune.Scores.of(N, N, DType.F32);
            assertThrows(IllegalArgumentException.class, () -> Prune.lines(scores, 7, s, 1, s, two));
            assertThrows(IllegalArgumentException.class, () -> Prune.lines(scores, 1, s, -1, s, two));
            assertThrows(IllegalArgumentException.class, () -> Prune.nm(scores, 2, s, 2, 4, s, two));
            for (long n : new long[] {-1, Long.MAX_VALUE, 1L << 61}) {
                assertThrows(IllegalArgumentException.class, () -> Quantize.convert(DType.F32, s, n, DType.F16, s));
                assertThrows(IllegalArgumentException.class, () -> Quantize.pack4(s, n, s));
                assertThrows(IllegalArgumentException.class, () -> Machine.streamNarrow(s, n, s));
                assertThrows(IllegalArgumentException.class, () -> Prune.Scores.of(n, n, DType.F32));
                assertThrows(IllegalArgumentException.class, () -> Gemm.Spec.of(DType.F32, Gemm.Form.AB, n, n, n));
                assertThrows(IllegalArgumentException.class, () -> Sparse.survey(DType.F32, n, n, s, two));
                algebra(two, l -> assertThrows(IllegalArgumentException.class, () -> l.symmetricEigenvalues(n, s, s)));
                svd(two, v -> assertThrows(IllegalArgumentException.class, () -> v.full(new View(DType.F32, s, N), n, N, s, s, s)));
            }
        }
    }
}
