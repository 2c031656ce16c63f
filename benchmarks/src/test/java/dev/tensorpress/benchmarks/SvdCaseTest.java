package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.Workers;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** As {@link CaseTest}. */
class SvdCaseTest {
    @ParameterizedTest
    @EnumSource
    void preparesItself(SvdCase work) {
        for (int threads : new int[] {1, 2}) {
            for (int[] size : new int[][] {{40, 1}, {67, 30}, {256, 16}}) {
                try (Workers workers = new Workers(threads); Work prepared = work.prepare(size[0], size[1], workers)) {
                    assertTrue(prepared.bytes() > 0);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void noticesAWrongResult(SvdCase work) {
        try (Workers workers = new Workers(1); SvdWork prepared = work.prepare(128, 20, workers)) {
            for (int i = 0; i < 128; i++) {
                prepared.a.data().setAtIndex(JAVA_FLOAT, i, 100 + i);
            }
            assertThrows(IllegalStateException.class, prepared::check);
        }
    }
}
