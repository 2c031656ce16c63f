package dev.tensorpress.benchmarks;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tensorpress.kernel.Executor;
import java.lang.foreign.ValueLayout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Benchmarks start only with results that are right; here at sizes that take no time. */
class CaseTest {
    @ParameterizedTest
    @EnumSource
    void preparesItself(Case work) {
        assumeTrue(work.available(), work + " needs a library that is not there");
        for (int threads : new int[] {1, 2}) {
            for (int[] size : new int[][] {{67, 130}, {512, 384}}) {
                try (Executor executor = Executor.cpu(threads); Matrix in = Matrix.random(size[0], size[1]);
                        Work prepared = work.prepare(in, executor)) {
                    assertTrue(prepared.bytes() > 0);
                }
            }
        }
    }

    /** A check that cannot fail is none. */
    @ParameterizedTest
    @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = {"F16_ROW", "BF16_ROW"})
    void noticesAWrongResult(Case work) {
        assumeTrue(work.available(), work + " needs a library that is not there");
        try (Executor executor = Executor.cpu(1); Matrix in = Matrix.random(64, 128);
                Work prepared = work.prepare(in, executor)) {
            if (work == Case.DEQUANTIZE_ROW) {
                ((QuantizeWork) prepared).scales.setAtIndex(ValueLayout.JAVA_FLOAT, 0, 2);
            } else {
                in.data.setAtIndex(ValueLayout.JAVA_FLOAT, 0, 1.5f);
            }
            assertThrows(IllegalStateException.class, prepared::check);
        }
    }
}
