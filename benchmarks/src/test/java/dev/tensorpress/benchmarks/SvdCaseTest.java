package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.Executor;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** As {@link CaseTest}. */
class SvdCaseTest {
    @ParameterizedTest
    @EnumSource
    void preparesItself(SvdCase work) {
        for (int threads : new int[] {1, 2}) {
            for (int[] size : new int[][] {{40, 1}, {67, 30}, {256, 16}}) {
                try (Executor executor = Executor.cpu(threads); Work prepared = work.prepare(size[0], size[1], executor)) {
                    assertTrue(prepared.bytes() > 0);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void noticesAWrongResult(SvdCase work) {
        try (Executor executor = Executor.cpu(1); SvdWork prepared = work.prepare(128, 20, executor)) {
            for (int i = 0; i < 128; i++) {
                prepared.a.data().setAtIndex(JAVA_FLOAT, i, 100 + i);
            }
            assertThrows(IllegalStateException.class, prepared::check);
        }
    }
}
