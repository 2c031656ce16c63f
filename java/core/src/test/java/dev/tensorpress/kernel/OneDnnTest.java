package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

/** oneDNN through its bindings, against plain loops. */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64", disabledReason = "oneDNN comes for linux-x86_64 only")
class OneDnnTest {
    private static final int M = 37;
    private static final int N = 65;
    private static final int K = 130;
    private final Random random = new Random(1);

    private float[] floats(int n) {
        float[] a = new float[n];
        for (int i = 0; i < n; i++) {
            a[i] = (float) random.nextGaussian();
        }
        return a;
    }

    private byte[] bytes(int n, int from, int to) {
        byte[] a = new byte[n];
        for (int i = 0; i < n; i++) {
            a[i] = (byte) random.nextInt(from, to);
        }
        return a;
    }

    private static int product(byte[] a, byte[] b, int row, int col) {
        int sum = 0;
        for (int i = 0; i < K; i++) {
            sum += (a[row * K + i] & 0xff) * b[i * N + col];
        }
        return sum;
    }

    @Test
    void versionIsTheOneThatTheBindingsWereMadeFor() {
        assertTrue(OneDnn.version().startsWith("3.11."), OneDnn.version());
    }

    private interface Product {
        void run(MemorySegment a, MemorySegment b, MemorySegment c, float[] plainB);
    }

    private void checkProduct(float[] a, Product product) {
        float[] b = floats(K * N);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment c = arena.allocate(JAVA_FLOAT, M * N);
            product.run(arena.allocateFrom(JAVA_FLOAT, a), arena.allocateFrom(JAVA_FLOAT, b), c, b);
            for (int row = 0; row < M; row++) {
                for (int col = 0; col < N; col++) {
                    double sum = 0;
                    double magnitude = 0;
                    for (int i = 0; i < K; i++) {
                        double p = (double) a[row * K + i] * b[i * N + col];
                        sum += p;
                        magnitude += Math.abs(p);
                    }
                    assertEquals(sum, c.getAtIndex(JAVA_FLOAT, row * N + col), K * Math.ulp(1f) * magnitude);
                }
            }
        }
    }

    @Test
    void floatMatmul() {
        try (OneDnn.Operation matmul = OneDnn.matmul(M, N, K)) {
            checkProduct(floats(M * K), (a, b, c, plainB) -> matmul.run(a, b, c));
        }
    }

    @Test
    void floatMatmulThatReorders() {
        try (OneDnn.Operation matmul = OneDnn.matmulReordering(M, N, K)) {
            for (int run = 0; run < 2; run++) {
                checkProduct(floats(M * K), (a, b, c, plainB) -> matmul.run(a, b, c));
            }
        }
    }

    @Test
    void sgemm() {
        checkProduct(floats(M * K), (a, b, c, plainB) -> OneDnn.sgemm(M, N, K, a, b, c));
    }

    @Test
    void linearKeepsItsWeights() {
        checkProduct(floats(M * K), (a, b, c, plainB) -> {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment weights = arena.allocate(JAVA_FLOAT, N * K);
                for (int i = 0; i < K * N; i++) {
                    weights.setAtIndex(JAVA_FLOAT, (long) i % N * K + i / N, plainB[i]);
                }
                try (OneDnn.Operation linear = OneDnn.linear(M, N, K, weights)) {
                    weights.fill((byte) -1);
                    linear.run(a, c);
                    linear.run(a, c);
                }
            }
        });
    }

    @Test
    void sparseMatmul() {
        float[] a = floats(M * K);
        float[] values = new float[a.length];
        int[] columns = new int[a.length];
        int[] offsets = new int[M + 1];
        int n = 0;
        for (int row = 0; row < M; row++) {
            for (int col = 0; col < K; col++) {
                if (row == 3 || random.nextInt(5) > 0) {
                    a[row * K + col] = 0;
                } else {
                    values[n] = a[row * K + col];
                    columns[n++] = col;
                }
            }
            offsets[row + 1] = n;
        }
        int nnz = n;
        checkProduct(a, (dense, b, c, plainB) -> {
            try (Arena arena = Arena.ofConfined(); OneDnn.Operation matmul = OneDnn.sparseMatmul(M, N, K, nnz)) {
                matmul.run(arena.allocateFrom(JAVA_FLOAT, Arrays.copyOf(values, nnz)),
                        arena.allocateFrom(JAVA_INT, Arrays.copyOf(columns, nnz)),
                        arena.allocateFrom(JAVA_INT, offsets), b, c);
            }
        });
    }

    @Test
    void int8MatmulIsExactAndMayBeRunAgain() {
        byte[] b = bytes(K * N, -128, 128);
        try (Arena arena = Arena.ofConfined(); OneDnn.Operation matmul = OneDnn.matmulInt8(M, N, K)) {
            for (int run = 0; run < 2; run++) {
                // Below 128, so that processors without VNNI do not saturate.
                byte[] a = bytes(M * K, 0, 128);
                MemorySegment c = arena.allocate(JAVA_INT, M * N);
                matmul.run(arena.allocateFrom(JAVA_BYTE, a), arena.allocateFrom(JAVA_BYTE, b), c);
                for (int i = 0; i < M * N; i++) {
                    assertEquals(product(a, b, i / N, i % N), c.getAtIndex(JAVA_INT, i));
                }
            }
        }
    }

    @Test
    void int8LinearIsExact() {
        byte[] a = bytes(M * K, 0, 128);
        byte[] b = bytes(K * N, -128, 128);
        byte[] weights = new byte[N * K];
        for (int i = 0; i < K * N; i++) {
            weights[i % N * K + i / N] = b[i];
        }
        try (Arena arena = Arena.ofConfined();
                OneDnn.Operation linear = OneDnn.linearInt8(M, N, K, arena.allocateFrom(JAVA_BYTE, weights))) {
            MemorySegment c = arena.allocate(JAVA_INT, M * N);
            linear.run(arena.allocateFrom(JAVA_BYTE, a), c);
            for (int i = 0; i < M * N; i++) {
                assertEquals(product(a, b, i / N, i % N), c.getAtIndex(JAVA_INT, i));
            }
        }
    }

    @Test
    void int8MatmulWithScales() {
        byte[] a = bytes(M * K, 0, 128);
        byte[] b = bytes(K * N, -128, 128);
        float[] scales = floats(N);
        float scale = 0.37f;
        try (Arena arena = Arena.ofConfined(); OneDnn.Operation matmul = OneDnn.matmulInt8Scaled(M, N, K)) {
            MemorySegment c = arena.allocate(JAVA_FLOAT, M * N);
            matmul.run(arena.allocateFrom(JAVA_BYTE, a), arena.allocateFrom(JAVA_BYTE, b), c,
                    arena.allocateFrom(JAVA_FLOAT, scale), arena.allocateFrom(JAVA_FLOAT, scales));
            for (int i = 0; i < M * N; i++) {
                double expected = (double) product(a, b, i / N, i % N) * scale * scales[i % N];
                assertEquals(expected, c.getAtIndex(JAVA_FLOAT, i), 4 * Math.ulp((float) expected));
            }
        }
    }

    @Test
    void quantizeRowsRoundsToEvenAndSaturates() {
        int rows = 9;
        int cols = 100;
        float[] in = floats(rows * cols);
        // Halves, and values outside the range.
        in[0] = 2.5f;
        in[1] = 3.5f;
        in[2] = 1000;
        in[3] = -1000;
        float[] inverse = new float[rows];
        for (int i = 0; i < rows; i++) {
            inverse[i] = i == 0 ? 1 : 10 * i;
        }
        try (Arena arena = Arena.ofConfined(); OneDnn.Operation quantize = OneDnn.quantizeRows(rows, cols)) {
            MemorySegment out = arena.allocate(rows * cols);
            quantize.run(arena.allocateFrom(JAVA_FLOAT, in), out, arena.allocateFrom(JAVA_FLOAT, inverse));
            for (int i = 0; i < rows * cols; i++) {
                double expected = Math.clamp(Math.rint(in[i] * inverse[i / cols]), -128, 127);
                assertEquals((byte) expected, out.get(JAVA_BYTE, i), "element " + i);
            }
        }
    }

    @Test
    void wrongOperandsAreRefused() {
        try (Arena arena = Arena.ofConfined(); OneDnn.Operation matmul = OneDnn.matmul(2, 2, 2)) {
            MemorySegment good = arena.allocate(16, 4);
            assertThrows(IllegalArgumentException.class, () -> matmul.run(good, good));
            assertThrows(IllegalArgumentException.class, () -> matmul.run(good, arena.allocate(12, 4), good));
            assertThrows(IllegalArgumentException.class,
                    () -> matmul.run(good, MemorySegment.ofArray(new float[4]), good));
        }
        assertThrows(IllegalArgumentException.class, () -> OneDnn.matmul(0, 1, 1));
        assertThrows(IllegalArgumentException.class, () -> OneDnn.sparseMatmul(1, 1, 1, 0));
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment good = arena.allocate(16, 4);
            MemorySegment bad = arena.allocate(12, 4);
            assertThrows(IllegalArgumentException.class, () -> OneDnn.linear(2, 2, 2, bad));
            assertThrows(IllegalArgumentException.class, () -> OneDnn.sgemm(2, 2, 2, bad, good, good));
            assertThrows(IllegalArgumentException.class, () -> OneDnn.sgemm(2, 2, 2, good, bad, good));
            assertThrows(IllegalArgumentException.class, () -> OneDnn.sgemm(2, 2, 2, good, good, bad));
        }
    }
}
