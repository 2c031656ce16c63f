package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.tensor.DType;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** As {@link CaseTest}. */
class GemmCaseTest {
    @ParameterizedTest
    @EnumSource
    void preparesItself(GemmCase work) {
        assumeTrue(work.available(), work + " needs a library that is not there");
        for (int threads : new int[] {1, 2}) {
            for (int[] size : new int[][] {{1, 1, 1}, {67, 130, 50}, {32, 384, 384}}) {
                try (Executor executor = Executor.cpu(threads);
                        GemmWork prepared = work.prepare(size[0], size[1], size[2], executor)) {
                    assertTrue(prepared.bytes() > 0);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource
    void noticesAWrongResult(GemmCase work) {
        assumeTrue(work.available(), work + " needs a library that is not there");
        try (Executor executor = Executor.cpu(1); GemmWork prepared = work.prepare(64, 48, 80, executor)) {
            if (prepared.spec.type() == DType.F32) {
                prepared.a.setAtIndex(JAVA_FLOAT, 0, 1);
            } else {
                prepared.b.set(JAVA_BYTE, 0, (byte) ~prepared.b.get(JAVA_BYTE, 0));
            }
            assertThrows(IllegalStateException.class, prepared::check);
        }
    }

    /** All that multiply the same numbers have the same result, and a difference anywhere is seen. */
    @ParameterizedTest
    @EnumSource
    void comparesWithOthers(GemmCase work) {
        assumeTrue(work.available(), work + " needs a library that is not there");
        try (Executor executor = Executor.cpu(2); GemmWork prepared = work.prepare(300, 70, 90, executor);
                GemmWork own = (prepared.spec.type() == DType.F32 ? GemmCase.F32 : GemmCase.INT8).prepare(300, 70, 90, executor)) {
            own.checkSame(prepared);
            prepared.c.setAtIndex(JAVA_INT, 299 * 70 + 69, 1 << 30);
            assertThrows(IllegalStateException.class, () -> own.checkSame(prepared));
        }
    }
}
