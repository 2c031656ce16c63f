package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What Flight Recorder is told of kernels: one event for each call, on however many threads, with what it does by its shape. */
class KernelEventTest {
    private static final long ROWS = 300;
    private static final long COLS = 640;

    @TempDir
    Path folder;

    private List<RecordedEvent> record(Runnable work) throws Exception {
        Path file = folder.resolve("events.jfr");
        try (Recording recording = new Recording()) {
            recording.start();
            work.run();
            recording.stop();
            recording.dump(file);
        }
        return RecordingFile.readAllEvents(file).stream().filter(e -> e.getEventType().getName().equals("dev.tensorpress.Kernel")).toList();
    }

    private static void assertEvent(RecordedEvent e, String kernel, String weight, long lines, long read, long written, long operations) {
        assertEquals(kernel, e.getString("kernel"));
        assertEquals("cpu", e.getString("device"));
        assertEquals(weight, e.getString("weight"));
        assertEquals(lines, e.getLong("lines"), kernel);
        assertEquals(read, e.getLong("bytesRead"), kernel);
        assertEquals(written, e.getLong("bytesWritten"), kernel);
        assertEquals(operations, e.getLong("operations"), kernel);
        assertTrue(e.getDuration().toNanos() > 0, e.toString());
        long device = e.getDuration("deviceTime").toNanos();
        assertTrue(device > 0 && Math.abs(device - e.getDuration().toNanos()) < 1_000_000 + device / 2, e.toString());
    }

    /** Strides, scales and errors count by what is touched; gaps between rows do not. */
    @Test
    void aCallIsOneEvent() throws Exception {
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared()) {
            MemorySegment in = arena.allocate(4 * ROWS * (COLS + 3), 64);
            MemorySegment codes = arena.allocate(ROWS * COLS, 64);
            MemorySegment scales = arena.allocate(4 * ROWS, 64);
            MemorySegment errors = arena.allocate(24 * ROWS, 64);
            Quantize.Spec spec = new Quantize.Spec(ROWS, COLS, COLS + 3, COLS, 1, COLS, DType.F32, DType.I8, DType.F32, -127, 127,
                    Quantize.Range.ABSMAX, Quantize.Rounding.DIVIDE, false, false, 1, 1);
            List<RecordedEvent> events = record(() -> {
                executor.subject("w");
                Quantize.quantize(spec, in, codes, scales, MemorySegment.NULL, executor);
                Quantize.error(spec, in, codes, scales, MemorySegment.NULL, errors, executor);
                executor.subject("");
                Prune.count(Prune.Scores.of(ROWS, COLS, DType.F32), in, 0, executor);
            });
            assertEquals(3, events.size());
            long elements = ROWS * COLS;
            assertEvent(events.get(0), "tp_quantize", "w", ROWS, 4 * elements, elements + 4 * ROWS, 0);
            assertEvent(events.get(1), "tp_quantize_error", "w", ROWS, 5 * elements + 4 * ROWS, Quantize.errorBytes(spec), 0);
            assertEvent(events.get(2), "tp_prune_count", "", ROWS, 4 * elements, 0, 0);
        }
    }

    /** On a device too, with the time that it computed; what runs on the processor of such an executor says so. */
    @Test
    void aCallOnADeviceIsOneEvent() throws Exception {
        try (Executor executor = Executor.on(Device.cuda(0), 2); Arena arena = Arena.ofShared()) {
            MemorySegment in = arena.allocate(4 * ROWS * COLS, 64);
            List<RecordedEvent> events = record(() -> {
                executor.subject("w");
                Prune.count(Prune.Scores.of(ROWS, COLS, DType.F32), in, 0, executor);
                Quantize.convert(DType.F32, in, 5, DType.F16, arena.allocate(10));
            });
            assertEquals(2, events.size());
            RecordedEvent e = events.getFirst();
            assertEquals("tp_prune_count", e.getString("kernel"));
            assertEquals("cuda:0", e.getString("device"));
            assertEquals("w", e.getString("weight"));
            assertEquals(ROWS, e.getLong("lines"));
            assertEquals(4 * ROWS * COLS, e.getLong("bytesRead"));
            long device = e.getDuration("deviceTime").toNanos();
            assertTrue(device > 0 && device <= e.getDuration().toNanos(), e.toString());
            assertEquals("cpu", events.getLast().getString("device"));
        }
    }

    @Test
    void productsCountOperations() throws Exception {
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared()) {
            long m = 100;
            long n = 120;
            long k = 140;
            MemorySegment a = arena.allocate(8 * m * k, 64);
            MemorySegment b = arena.allocate(8 * k * n, 64);
            MemorySegment c = arena.allocate(8 * m * n, 64);
            MemorySegment g = arena.allocate(8 * m * m, 64);
            List<RecordedEvent> events = record(() -> {
                try (Gemm gemm = new Gemm(Gemm.Spec.of(DType.F32, Gemm.Form.AB, m, n, k).accumulating(), executor);
                        LinearAlgebra algebra = new LinearAlgebra(executor)) {
                    gemm.pack(b).multiply(m / 2, a, c);
                    algebra.gram(new View(DType.F64, a, k), false, m, k, 1, g);
                }
            });
            assertEquals(List.of("tp_gemm_pack", "tp_gemm", "tp_multiply"), events.stream().map(e -> e.getString("kernel")).toList());
            long packed = events.get(0).getLong("bytesWritten");
            assertTrue(packed >= 4 * k * n, events.toString());
            assertEquals(4 * k * n, events.get(0).getLong("bytesRead"));
            long part = 4 * (m / 2) * n;
            assertEquals(4 * (m / 2) * k + packed + part, events.get(1).getLong("bytesRead"));
            assertEquals(part, events.get(1).getLong("bytesWritten"));
            assertEquals(m * n * k, events.get(1).getLong("operations"));
            assertEvent(events.get(2), "tp_multiply", "", m, 8 * m * k, 4 * m * (m + 1), m * (m + 1) * k);
        }
    }

    /** Restoring a matrix piece by piece reads each of its units once. */
    @Test
    void partsAddUpToTheWhole() throws Exception {
        for (Sparse.Layout layout : new Sparse.Layout[] {Sparse.Layout.CSR16, Sparse.Layout.BSR, Sparse.Layout.BITMASK, Sparse.Layout.NM24}) {
            try (Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared()) {
                MemorySegment in = arena.allocate(4 * 64 * 64, 64);
                for (int i = 0; i < 64 * 64; i += 7) {
                    in.setAtIndex(ValueLayout.JAVA_FLOAT, i, i + 1);
                }
                SparseMatrix m = Sparse.pack(DType.F32, 64, 64, in, layout, layout == Sparse.Layout.BSR ? 4 : 0, arena, executor);
                List<RecordedEvent> events = record(() -> {
                    Sparse.unpack(m, in, executor);
                    Sparse.unpack(m, 0, 5, in, executor);
                    Sparse.unpack(m, 5, m.lines(), in, executor);
                });
                assertEquals(3, events.size());
                long shared = layout == Sparse.Layout.NM24 ? 0 : 8; // where one part ends and the other begins
                assertEquals(m.bytes(), events.get(0).getLong("bytesRead"), layout.id());
                assertEquals(m.bytes() + shared, events.get(1).getLong("bytesRead") + events.get(2).getLong("bytesRead"), layout.id());
                assertEquals(4 * 64 * 64, events.get(1).getLong("bytesWritten") + events.get(2).getLong("bytesWritten"), layout.id());
            }
        }
    }

    @Test
    void whatFailsIsNoEvent() throws Exception {
        try (Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared()) {
            MemorySegment in = arena.allocate(4 * 16 * 16, 64).fill((byte) 0xff);
            MemorySegment out = arena.allocate(4 * 16 * 16, 64);
            Quantize.Spec spec = new Quantize.Spec(16, 16, 16, 16, 1, 16, DType.F32, DType.I8, DType.F32, -127, 127,
                    Quantize.Range.ABSMAX, Quantize.Rounding.DIVIDE, false, false, 1, 1);
            List<RecordedEvent> events = record(() -> assertThrows(KernelException.class, () ->
                    Quantize.quantize(spec, in, out, out.asSlice(512), MemorySegment.NULL, executor)));
            assertEquals(List.of(), events);
        }
    }
}
