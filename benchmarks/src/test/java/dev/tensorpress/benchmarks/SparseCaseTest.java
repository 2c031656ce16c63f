package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tensorpress.benchmarks.Pruned.Pattern;
import dev.tensorpress.kernel.Executor;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** As {@link CaseTest}. */
class SparseCaseTest {
    @ParameterizedTest
    @EnumSource
    void preparesItself(SparseCase work) {
        assumeTrue(work.missing() == null, work + ": " + work.missing());
        for (int threads : new int[] {1, 2}) {
            for (int[] size : new int[][] {{67, 130, 50, 1}, {512, 384, 90, 16}, {256, 256, 99, 70}}) {
                try (Executor executor = Executor.cpu(threads); Pruned a = new Pruned(size[0], size[1], size[2], executor);
                        Work prepared = work.prepare(a, size[3])) {
                    assertTrue(prepared.bytes() > 0);
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = "READ_CSR16")
    void noticesAWrongResult(SparseCase work) {
        assumeTrue(work.missing() == null, work + ": " + work.missing());
        try (Executor executor = Executor.cpu(1); Pruned a = new Pruned(64, 128, 50, executor);
                Work prepared = work.prepare(a, 3)) {
            for (Pattern pattern : Pattern.values()) {
                for (int c = 0; c < a.cols; c++) {
                    a.dense(pattern).data.setAtIndex(JAVA_FLOAT, c, 100 + c);
                    a.codes(pattern).set(JAVA_BYTE, c, (byte) c);
                }
            }
            assertThrows(IllegalStateException.class, prepared::check);
        }
    }
}
