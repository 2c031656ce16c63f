package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Whole matrices against the methods as papers have them: GPTQ with the inverse, descent one element at a time. */
class FeedbackTest {
    private static final int K = 150;
    private static final int N = 33;

    private final Random random = Effort.random();
    private final double[][] h = new double[K][K];
    private final double[][] w = new double[K][N];
    private final double[][] scale = new double[2][N];

    /** Inputs that have much in common, weights of which some are 0, a scale for each half of the inputs. */
    private Feedback.Codes problem(Arena arena, MemorySegment gram, MemorySegment weight, boolean keepZeros) {
        for (int s = 0; s < 400; s++) {
            double common = 2 * random.nextGaussian();
            double[] x = random.doubles(K, -1, 1).map(d -> d + common).toArray();
            for (int i = 0; i < K; i++) {
                for (int l = 0; l < K; l++) {
                    h[i][l] += x[i] * x[l];
                }
            }
        }
        MemorySegment groups = arena.allocate(JAVA_INT, K);
        MemorySegment scales = arena.allocate(JAVA_FLOAT, 2 * N);
        for (int i = 0; i < K; i++) {
            groups.setAtIndex(JAVA_INT, i, 2 * i / K);
            for (int l = 0; l < K; l++) {
                gram.setAtIndex(JAVA_DOUBLE, i * K + l, h[i][l]);
            }
            for (int j = 0; j < N; j++) {
                w[i][j] = random.nextInt(10) == 0 ? 0 : (float) random.nextGaussian();
                weight.setAtIndex(JAVA_FLOAT, i * N + j, (float) w[i][j]);
            }
        }
        for (int g = 0; g < 2; g++) {
            for (int j = 0; j < N; j++) {
                scale[g][j] = (float) (0.2 + 0.2 * random.nextDouble());
                scales.setAtIndex(JAVA_FLOAT, g * N + j, (float) scale[g][j]);
            }
        }
        return new Feedback.Codes(-7, 7, groups, scales, MemorySegment.NULL, 2, keepZeros);
    }

    private double rounded(double t, int i, int j) {
        double s = scale[2 * i / K][j];
        return Math.clamp(Math.rint(t / s), -7, 7) * s;
    }

    private double loss(double[][] e) {
        double sum = 0;
        for (int j = 0; j < N; j++) {
            for (int i = 0; i < K; i++) {
                for (int l = 0; l < K; l++) {
                    sum += e[i][j] * h[i][l] * e[l][j];
                }
            }
        }
        return sum;
    }

    private double[][] read(MemorySegment e) {
        double[][] all = new double[K][N];
        for (int i = 0; i < K; i++) {
            for (int j = 0; j < N; j++) {
                all[i][j] = e.getAtIndex(JAVA_FLOAT, i * N + j);
            }
        }
        return all;
    }

    /** H^-1 by Gauss and Jordan. */
    private double[][] inverse() {
        double[][] a = new double[K][2 * K];
        for (int i = 0; i < K; i++) {
            System.arraycopy(h[i], 0, a[i], 0, K);
            a[i][K + i] = 1;
        }
        for (int p = 0; p < K; p++) {
            double pivot = a[p][p];
            for (int l = 0; l < 2 * K; l++) {
                a[p][l] /= pivot;
            }
            for (int i = 0; i < K; i++) {
                double factor = a[i][p];
                for (int l = 0; i != p && l < 2 * K; l++) {
                    a[i][l] -= factor * a[p][l];
                }
            }
        }
        double[][] inverse = new double[K][K];
        for (int i = 0; i < K; i++) {
            System.arraycopy(a[i], K, inverse[i], 0, K);
        }
        return inverse;
    }

    /** One element after the other: the others take its error on, and it leaves the problem. */
    private double[][] gptq() {
        double[][] inverse = inverse();
        double[][] e = new double[K][N];
        double[][] t = new double[K][];
        for (int i = 0; i < K; i++) {
            t[i] = w[i].clone();
        }
        for (int i = 0; i < K; i++) {
            for (int j = 0; j < N; j++) {
                double q = rounded(t[i][j], i, j);
                e[i][j] = w[i][j] - q;
                double error = (t[i][j] - q) / inverse[i][i];
                for (int l = i + 1; l < K; l++) {
                    t[l][j] -= error * inverse[i][l];
                }
            }
            for (int a = i + 1; a < K; a++) {
                double factor = inverse[a][i] / inverse[i][i];
                for (int b = i + 1; b < K; b++) {
                    inverse[a][b] -= factor * inverse[i][b];
                }
            }
        }
        return e;
    }

    @Test
    void gptqAndDescentAreThoseOfThePapers() {
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared(); LinearAlgebra algebra = new LinearAlgebra(executor)) {
            MemorySegment gram = arena.allocate(8L * K * K, 64);
            MemorySegment weight = arena.allocate(4L * K * N, 64);
            MemorySegment lost = arena.allocate(4L * K * N, 64);
            Feedback.Codes codes = problem(arena, gram, weight, false);
            int[] order = IntStream.range(0, K).toArray();
            assertTrue(Feedback.gptq(K, N, gram, 0, order, weight, codes, lost, algebra, executor));
            double[][] e = read(lost);
            double[][] want = gptq();
            int same = 0;
            for (int i = 0; i < K; i++) {
                for (int j = 0; j < N; j++) {
                    same += Math.abs(e[i][j] - want[i][j]) < 1e-5 ? 1 : 0;
                }
            }
            // What is rounded is f32: an element near a tie may fall the other way, and takes others of its output with it.
            assertTrue(same > 0.97 * K * N, same + " of " + K * N + " elements are rounded alike");
            assertEquals(loss(want), loss(e), 0.01 * loss(want));

            double before = loss(e);
            int sweeps = Feedback.descend(K, N, gram, 0, weight, codes, lost, 200, algebra, executor);
            assertTrue(sweeps < 200, "ends when nothing moves");
            e = read(lost);
            assertTrue(loss(e) < 0.999 * before, loss(e) + " after " + before);
            // No element alone can be moved for the better.
            for (int j = 0; j < N; j++) {
                for (int i = 0; i < K; i++) {
                    double t = w[i][j];
                    for (int l = 0; l < K; l++) {
                        t += l == i ? 0 : h[i][l] / h[i][i] * e[l][j];
                    }
                    double s = scale[2 * i / K][j];
                    assertEquals(Math.clamp(t, -7 * s, 7 * s), w[i][j] - e[i][j], 0.501 * s, "input " + i + " of output " + j);
                }
            }
            assertEquals(1, Feedback.descend(K, N, gram, 0, weight, codes, lost, 200, algebra, executor));
        }
    }

    /** What is rounded in another order is the same problem with rows in that order. */
    @Test
    void anyOrder() {
        try (Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared(); LinearAlgebra algebra = new LinearAlgebra(executor)) {
            MemorySegment gram = arena.allocate(8L * K * K, 64);
            MemorySegment weight = arena.allocate(4L * K * N, 64);
            MemorySegment lost = arena.allocate(4L * K * N, 64);
            Feedback.Codes codes = problem(arena, gram, weight, false);
            int[] order = IntStream.range(0, K).map(i -> (i * 7 + 3) % K).toArray();
            assertTrue(Feedback.gptq(K, N, gram, 2, order, weight, codes, lost, algebra, executor));
            MemorySegment turnedGram = arena.allocate(gram.byteSize(), 64);
            MemorySegment turnedWeight = arena.allocate(weight.byteSize(), 64);
            MemorySegment turnedLost = arena.allocate(lost.byteSize(), 64);
            MemorySegment groups = arena.allocate(JAVA_INT, K);
            for (int i = 0; i < K; i++) {
                groups.setAtIndex(JAVA_INT, i, codes.groups().getAtIndex(JAVA_INT, order[i]));
                for (int l = 0; l < K; l++) {
                    turnedGram.setAtIndex(JAVA_DOUBLE, i * K + l, h[order[i]][order[l]] + (i == l ? 2 : 0));
                }
                for (int j = 0; j < N; j++) {
                    turnedWeight.setAtIndex(JAVA_FLOAT, i * N + j, (float) w[order[i]][j]);
                }
            }
            Feedback.Codes turned = new Feedback.Codes(-7, 7, groups, codes.scales(), MemorySegment.NULL, 2, false);
            assertTrue(Feedback.gptq(K, N, turnedGram, 0, IntStream.range(0, K).toArray(), turnedWeight, turned, turnedLost, algebra, executor));
            for (int i = 0; i < K; i++) {
                for (int j = 0; j < N; j++) {
                    assertEquals(turnedLost.getAtIndex(JAVA_FLOAT, i * N + j), lost.getAtIndex(JAVA_FLOAT, order[i] * N + j));
                }
            }
        }
    }

    /** Whoever has come to its end is left out, which no other output notices. */
    @Test
    void outputsDoNotDependOnEachOther() {
        try (Executor executor = Executor.cpu(2); Arena arena = Arena.ofShared(); LinearAlgebra algebra = new LinearAlgebra(executor)) {
            MemorySegment gram = arena.allocate(8L * K * K, 64);
            MemorySegment weight = arena.allocate(4L * K * N, 64);
            MemorySegment lost = arena.allocate(4L * K * N, 64);
            Feedback.Codes codes = problem(arena, gram, weight, false);
            int most = Feedback.descend(K, N, gram, 0, weight, codes, lost, 200, algebra, executor);
            int longest = 0;
            for (int j = 0; j < N; j++) {
                MemorySegment one = arena.allocate(4L * K, 64);
                MemorySegment oneLost = arena.allocate(4L * K, 64);
                MemorySegment scales = arena.allocate(8, 64);
                for (int i = 0; i < K; i++) {
                    one.setAtIndex(JAVA_FLOAT, i, (float) w[i][j]);
                }
                for (int g = 0; g < 2; g++) {
                    scales.setAtIndex(JAVA_FLOAT, g, (float) scale[g][j]);
                }
                longest = Math.max(longest, Feedback.descend(K, 1, gram, 0, one, new Feedback.Codes(-7, 7, codes.groups(), scales,
                        MemorySegment.NULL, 2, false), oneLost, 200, algebra, executor));
                for (int i = 0; i < K; i++) {
                    assertEquals(oneLost.getAtIndex(JAVA_FLOAT, i), lost.getAtIndex(JAVA_FLOAT, i * N + j), "input " + i + " of output " + j);
                }
            }
            assertEquals(most, longest);
        }
    }

    @Test
    void zerosStayIfTheyShould() {
        try (Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared(); LinearAlgebra algebra = new LinearAlgebra(executor)) {
            MemorySegment gram = arena.allocate(8L * K * K, 64);
            MemorySegment weight = arena.allocate(4L * K * N, 64);
            MemorySegment lost = arena.allocate(4L * K * N, 64);
            Feedback.Codes codes = problem(arena, gram, weight, true);
            int[] order = IntStream.range(0, K).toArray();
            assertTrue(Feedback.gptq(K, N, gram, 0, order, weight, codes, lost, algebra, executor));
            Feedback.descend(K, N, gram, 0, weight, codes, lost, 5, algebra, executor);
            for (int i = 0; i < K * N; i++) {
                assertTrue(weight.getAtIndex(JAVA_FLOAT, i) != 0 || lost.getAtIndex(JAVA_FLOAT, i) == 0);
            }
        }
    }

    @Test
    void whatIsNotDefiniteIsSaid() {
        try (Executor executor = Executor.cpu(1); Arena arena = Arena.ofShared(); LinearAlgebra algebra = new LinearAlgebra(executor)) {
            MemorySegment gram = arena.allocate(8L * K * K, 64);
            MemorySegment weight = arena.allocate(4L * K * N, 64);
            MemorySegment lost = arena.allocate(4L * K * N, 64);
            Feedback.Codes codes = problem(arena, gram, weight, true);
            int[] order = IntStream.range(0, K).toArray();
            assertFalse(Feedback.gptq(K, N, gram.fill((byte) 0), 0, order, weight, codes, lost, algebra, executor));
            assertThrows(IllegalArgumentException.class, () -> Feedback.gptq(K + 1, N, gram, 0, order, weight, codes, lost, algebra, executor));
            assertThrows(IllegalArgumentException.class, () -> Feedback.descend(K, N, gram, 0, weight, codes, weight, 1, algebra, executor));
            MemorySegment mask = arena.allocate(K * (N + 7) / 8 + K);
            for (int choices : new int[] {0, 3}) {
                assertThrows(IllegalArgumentException.class, () -> Feedback.prune(K, N, gram, 1, weight, (scores, kept) -> { }, choices, 2, mask, lost,
                        algebra, executor));
            }
            assertThrows(IllegalArgumentException.class, () -> Feedback.prune(K, N, gram, 1, weight, (scores, kept) -> { }, 1, 2, mask.asSlice(0, 9),
                    lost, algebra, executor));
            codes.groups().setAtIndex(JAVA_INT, 3, 2);
            assertThrows(IllegalArgumentException.class, () -> Feedback.descend(K, N, gram, 0, weight, codes, lost, 1, algebra, executor));
        }
    }
}
