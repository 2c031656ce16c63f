package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Svd.Certificate;
import dev.tensorpress.kernel.Svd.Options;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** What is said of input that cannot be decomposed, or hardly: {@link SvdTest} has the full decomposition's. */
class SvdBadInputTest {
    private static final DType[] TYPES = {DType.F32, DType.F64};

    private Arena arena;
    private Executor executor;
    private Svd svd;
    private LinearAlgebra algebra;

    @BeforeEach
    void open() {
        arena = Arena.ofShared();
        executor = Executor.cpu(2);
        svd = new Svd(executor);
        algebra = new LinearAlgebra(executor);
    }

    @AfterEach
    void close() {
        algebra.close();
        svd.close();
        executor.close();
        arena.close();
    }

    private MemorySegment room(DType type, long elements) {
        return arena.allocate(type.bytes(Math.max(1, elements)), 64);
    }

    private static void set(DType type, MemorySegment m, long i, double x) {
        if (type == DType.F32) {
            m.setAtIndex(JAVA_FLOAT, i, (float) x);
        } else {
            m.setAtIndex(JAVA_DOUBLE, i, x);
        }
    }

    /** Normal numbers, with NaN in the gaps between rows. */
    private View gaussian(DType type, int rows, int cols, int gap) {
        Random random = Effort.random();
        long stride = cols + gap;
        // The last row has no gap behind it.
        MemorySegment m = arena.allocate(type.bytes((rows - 1) * stride + cols), 64);
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < stride && type.bytes(i * stride + j) < m.byteSize(); j++) {
                set(type, m, i * stride + j, j < cols ? random.nextGaussian() : Double.NaN);
            }
        }
        return new View(type, m, stride);
    }

    private static void fails(int status, Executable run) {
        assertEquals(status, assertThrows(KernelException.class, run).status());
    }

    @Test
    void emptyMatricesHaveNothing() {
        for (DType type : TYPES) {
            View a = gaussian(type, 9, 7, 0);
            MemorySegment u = room(type, 81);
            MemorySegment s = room(type, 9);
            MemorySegment vt = room(type, 81);
            for (int[] size : new int[][] {{0, 7}, {9, 0}, {0, 0}}) {
                svd.full(a, size[0], size[1], u, s, vt);
                svd.batch(a, 3, 0, size[0], size[1], u, s, vt);
                String m = assertThrows(IllegalArgumentException.class,
                        () -> svd.truncated(a, size[0], size[1], 1, Options.DEFAULT, u, s, vt)).getMessage();
                assertEquals("the rank must be in 1 .. 0, but is 1", m);
                assertEquals(new Certificate(0, 0, 0, 0, 0, 0, 0), svd.truncatedByError(a, size[0], size[1], 0.1, 0, Options.DEFAULT, u, s, vt));
                assertEquals(new Certificate(0, 0, 0, 0, 0, 0, 0), svd.certify(a, size[0], size[1], 0, u, s, vt));
                assertEquals(0, algebra.sumOfSquares(a, size[0], size[1]));
            }
            svd.batch(a, 0, 63, 9, 7, u, s, vt);
            for (MemorySegment untouched : new MemorySegment[] {u, s, vt}) {
                assertEquals(-1, untouched.mismatch(arena.allocate(untouched.byteSize())));
            }
        }
        assertTrue(algebra.orthonormalize(0, 7, room(DType.F64, 1)));
        algebra.gram(gaussian(DType.F64, 9, 7, 0), false, 0, 7, 1, room(DType.F64, 1));
        MemorySegment g = room(DType.F64, 4);
        g.fill((byte) 1);
        algebra.gram(gaussian(DType.F64, 9, 7, 0), false, 2, 0, 1, g);
        assertEquals(0, g.getAtIndex(JAVA_DOUBLE, 0), "the empty sum");
        assertEquals(0, g.getAtIndex(JAVA_DOUBLE, 3));
    }

    @Test
    void sizesThatCannotBeAreRefused() {
        View a = gaussian(DType.F32, 9, 7, 0);
        View overlapping = new View(DType.F32, a.data(), 6);
        MemorySegment m = room(DType.F32, 81);
        for (Executable run : new Executable[] {() -> svd.full(a, -1, 7, m, m, m), () -> svd.full(a, 9, 8, m, m, m),
            () -> svd.full(overlapping, 9, 7, m, m, m), () -> svd.truncated(overlapping, 9, 7, 2, Options.DEFAULT, m, m, m),
            () -> svd.batch(overlapping, 1, 0, 9, 7, m, m, m), () -> svd.batch(a, -1, 0, 9, 7, m, m, m),
            () -> svd.batch(a, 1, -1, 9, 7, m, m, m), () -> svd.batch(a, 2, 1, 9, 7, m, m, m),
            () -> svd.truncatedByError(a, 9, 7, 0.1, 8, Options.DEFAULT, m, m, m),
            () -> svd.truncatedByError(a, 9, 7, 0.1, -1, Options.DEFAULT, m, m, m),
            () -> svd.certify(a, 9, 7, 8, m, m, m), () -> svd.certify(a, 9, 7, -1, m, m, m)}) {
            assertThrows(IllegalArgumentException.class, run);
        }
    }

    @Test
    void notFiniteIsAnErrorOfEach() {
        for (DType type : TYPES) {
            for (double bad : new double[] {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY}) {
                View a = gaussian(type, 180, 40, 0);
                set(type, a.data(), 179 * 40 + 3, bad);
                MemorySegment u = room(type, 180 * 180);
                MemorySegment s = room(type, 180);
                MemorySegment vt = room(type, 180 * 40);
                fails(KernelException.NONFINITE, () -> svd.batch(a, 4, 45 * 40, 45, 40, u, s, vt));
                fails(KernelException.NONFINITE,
                        () -> svd.truncatedByError(a, 180, 40, 0.5, 40, Options.DEFAULT, u, s, vt));
                fails(KernelException.NONFINITE, () -> algebra.sumOfSquares(a, 180, 40));
                // The rows before it are fine.
                svd.batch(a, 3, 45 * 40, 45, 40, u, s, vt);
            }
        }
    }

    @Test
    void whatDoesNotConvergeIsAnErrorOfEach() {
        svd.limitSweeps(1);
        for (DType type : TYPES) {
            View a = gaussian(type, 128, 64, 0);
            MemorySegment u = room(type, 128 * 64);
            MemorySegment s = room(type, 128);
            MemorySegment vt = room(type, 128 * 64);
            fails(KernelException.CONVERGENCE, () -> svd.full(a, 60, 64, u, s, vt));
            fails(KernelException.CONVERGENCE, () -> svd.batch(a, 2, 64 * 64, 64, 64, u, s, vt));
            fails(KernelException.CONVERGENCE, () -> svd.truncated(a, 60, 50, 9, Options.DEFAULT, u, s, vt));
            fails(KernelException.CONVERGENCE, () -> svd.truncatedByError(a, 60, 50, 0.3, 50, Options.DEFAULT, u, s, vt));
        }
    }

    /** The same as for a matrix without gaps, bit by bit; gaps are not looked at. */
    @Test
    void rowsMayLieApart() {
        for (DType type : TYPES) {
            for (int[] size : new int[][] {{40, 30, 5}, {150, 140, 12}, {300, 200, 20}}) {
                int rows = size[0];
                int cols = size[1];
                MemorySegment[] results = new MemorySegment[2];
                for (int k = 0; k < 2; k++) {
                    View a = gaussian(type, rows, cols, 13 * k);
                    long r = size[2];
                    MemorySegment out = room(type, 4L * rows * cols);
                    MemorySegment s = room(type, cols);
                    Certificate c = svd.truncated(a, rows, cols, r, Options.DEFAULT, out, s, out.asSlice(type.bytes(rows * r)));
                    Certificate again = svd.certify(a, rows, cols, r, out, s, out.asSlice(type.bytes(rows * r)));
                    assertEquals(c.error(), again.error());
                    MemorySegment all = arena.allocate(out.byteSize() + s.byteSize() + 24L + 8L * rows * rows, 64);
                    all.copyFrom(out);
                    all.asSlice(out.byteSize()).copyFrom(s);
                    MemorySegment rest = all.asSlice(out.byteSize() + s.byteSize());
                    rest.setAtIndex(JAVA_DOUBLE, 0, c.error());
                    rest.setAtIndex(JAVA_DOUBLE, 1, algebra.sumOfSquares(a, rows, cols));
                    rest.setAtIndex(JAVA_DOUBLE, 2, svd.truncatedByError(a, rows, cols, 0.9, cols, Options.DEFAULT, out, s,
                            room(type, (long) cols * cols)).rank());
                    algebra.gram(a, false, rows, cols, 1, rest.asSlice(24));
                    results[k] = all;
                }
                assertEquals(-1, results[0].mismatch(results[1]), type + " " + rows + " x " + cols);
            }
            MemorySegment[] batches = new MemorySegment[2];
            for (int k = 0; k < 2; k++) {
                View a = gaussian(type, 90, 20, 7 * k);
                batches[k] = room(type, 3 * 30 * 20 + 3 * 20 + 3 * 20 * 20);
                svd.batch(a, 3, 30 * a.stride(), 30, 20, batches[k], batches[k].asSlice(type.bytes(1800)),
                        batches[k].asSlice(type.bytes(1860)));
            }
            assertEquals(-1, batches[0].mismatch(batches[1]));
        }
    }
}
