package dev.tensorpress.benchmarks;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.benchmarks.SvdRatios.Arguments;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.api.Test;

class SvdRatiosTest {
    @Test
    void optionsAreRead() {
        assertEquals(new Arguments(5, 0, 4096, 256, false), Arguments.parse());
        assertEquals(new Arguments(1, 2, 512, 8, true),
                Arguments.parse("--rank", "8", "--serve", "--rounds", "0", "--size", "512", "--threads", "2"));
    }

    @Test
    void wrongOptionsAreNamed() {
        for (String[] bad : new String[][] {{"--rank", "x"}, {"--rank"}, {"--ranks", "5"}, {"--rounds", "1.5"}, {"--serve", "5"}}) {
            String m = assertThrows(IllegalArgumentException.class, () -> Arguments.parse(bad)).getMessage();
            assertTrue(m.startsWith(bad[0].equals("--serve") ? "5" : bad[0]), m);
        }
        for (String rank : new String[] {"0", "512"}) {
            String m = assertThrows(IllegalArgumentException.class,
                    () -> Arguments.parse("--size", "512", "--rank", rank)).getMessage();
            assertEquals("the rank must be in 1 .. 511, but is " + rank, m);
        }
    }

    @Test
    void wrongResultsAreNoticed() {
        SvdRatios.check(new Svd.Certificate(4, 1, 1e-6, 0, 0, 1e-6, 1e-6), true);
        SvdRatios.check(new Svd.Certificate(4, 1, 0.5, 0, 0, 1e-6, 1e-6), false);
        for (double bad : new double[] {6e-6, Double.NaN}) {
            assertThrows(IllegalStateException.class, () -> SvdRatios.check(new Svd.Certificate(4, 1, bad, 0, 0, 0, 0), true));
        }
        for (double bad : new double[] {2e-5, Double.NaN}) {
            assertThrows(IllegalStateException.class, () -> SvdRatios.check(new Svd.Certificate(4, 1, 0, 0, 0, bad, 0), false));
            assertThrows(IllegalStateException.class, () -> SvdRatios.check(new Svd.Certificate(4, 1, 0, 0, 0, 0, bad), false));
        }
    }

    /** The matrices of the table have the spectra that its rows name. */
    @Test
    void matricesAreWhatTheyAreCalled() {
        int n = 48;
        try (Executor executor = Executor.cpu(1); Svd svd = new Svd(executor); Arena arena = Arena.ofShared()) {
            MemorySegment u = arena.allocate(4L * n * n, 64);
            MemorySegment s = arena.allocate(4L * n, 64);
            MemorySegment vt = arena.allocate(4L * n * n, 64);
            svd.full(SvdRatios.decaying(n, arena), n, n, u, s, vt);
            for (int i = 0; i < n; i++) {
                assertEquals(1.0 / (i + 1), s.getAtIndex(ValueLayout.JAVA_FLOAT, i), 1e-6);
            }
            View gaussian = SvdRatios.gaussian(n, executor, arena);
            assertEquals(DType.F32, gaussian.type());
            double squares = 0;
            for (int i = 0; i < n * n; i++) {
                squares += Math.pow(gaussian.data().getAtIndex(ValueLayout.JAVA_FLOAT, i), 2);
            }
            assertEquals(1, squares / n / n, 0.1);
        }
    }
}
