package dev.tensorpress.method;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.PruneMethod.Pattern;
import dev.tensorpress.method.PruneMethod.Scope;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PruneMethodTest {
    private Arena arena;
    private Workspace workspace;
    private Executor executor;

    @BeforeEach
    void open() {
        arena = Arena.ofShared();
        executor = Executor.cpu(2);
        workspace = new Workspace(executor);
    }

    @AfterEach
    void close() {
        workspace.close();
        executor.close();
        arena.close();
    }

    private Weight weight(String name, Role role, int in, int out, DType type, float[] x, long... dims) {
        MemorySegment data = arena.allocate(Math.max(1, type.bytes(x.length)), 4).asSlice(0, type.bytes(x.length));
        for (int i = 0; i < x.length; i++) {
            if (type == DType.F32) {
                data.setAtIndex(ValueLayout.JAVA_FLOAT, i, x[i]);
            } else {
                short bits = type == DType.F16 ? Float.floatToFloat16(x[i])
                        : (short) (Float.floatToRawIntBits(x[i]) >>> 16);
                data.setAtIndex(ValueLayout.JAVA_SHORT, i, bits);
            }
        }
        return new Weight(name, role, new Tensor(type, Shape.of(dims), data), in, out, List.of("MatMul " + name),
                Optional.empty());
    }

    /** [K, N], as in a MatMul. */
    private Weight linear(String name, float[] x, long... dims) {
        return weight(name, Role.LINEAR, 0, 1, DType.F32, x, dims);
    }

    private static float[] random(int n) {
        Random r = new Random(n);
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) r.nextGaussian();
        }
        return x;
    }

    private static float[] ramp(int n) {
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            x[i] = i % 2 == 0 ? i + 1 : -i - 1;
        }
        return x;
    }

    private List<float[]> prune(PruneMethod method, Weight... weights) {
        Prepared choice = method.prepare(new Evidence(List.of(weights), workspace));
        List<float[]> results = new ArrayList<>();
        for (Weight w : weights) {
            results.add(apply(choice, w));
        }
        return results;
    }

    private float[] apply(Prepared choice, Weight w) {
        Form.Sparse form = (Form.Sparse) choice.plan(w, new Form.Dense(w.tensor().dtype()));
        assertEquals(Form.Storage.MASKED, form.storage());
        Encoding.Sparse e = (Encoding.Sparse) choice.apply(w, new Encoding.Dense(w.tensor()),
                form.stored(Form.Storage.COORDINATES), workspace);
        assertEquals(form.stored(Form.Storage.COORDINATES), e.form());
        float[] x = decode(e);
        assertEquals(form.nnz(), nnz(x));
        float[] before = decode(new Encoding.Dense(w.tensor()));
        for (int i = 0; i < x.length; i++) {
            assertTrue(x[i] == 0 || x[i] == before[i]);
        }
        return x;
    }

    private float[] decode(Encoding e) {
        int n = (int) e.shape().elements();
        MemorySegment out = arena.allocate(4L * n + 4, 4);
        e.decode(out, executor);
        return out.asSlice(0, 4L * n).toArray(ValueLayout.JAVA_FLOAT);
    }

    private static long nnz(float[] x) {
        long n = 0;
        for (float v : x) {
            n += v != 0 ? 1 : 0;
        }
        return n;
    }

    /** Of one output channel after another, in both orders of axes and every type: against sums of the elements themselves. */
    @Test
    void whatIsLostIsKnownBeforehand() {
        for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
            for (boolean outputsFirst : new boolean[] {true, false}) {
                float[] x = random(60 * 50);
                for (int i = 0; i < x.length; i++) {
                    int output = outputsFirst ? i / 50 : i % 60;
                    x[i] = output == 7 ? 1e-3f * x[i] : output == 9 ? 0 : x[i];
                }
                Weight w = weight("w", Role.LINEAR, outputsFirst ? 1 : 0, outputsFirst ? 0 : 1, type, x, outputsFirst ? 60 : 50,
                        outputsFirst ? 50 : 60);
                for (PruneMethod method : List.of(PruneMethod.sparsity(0.3), PruneMethod.sparsity(0.3).scope(Scope.CHANNEL), PruneMethod.nm(2, 4))) {
                    Prepared choice = method.prepare(new Evidence(List.of(w), workspace));
                    Loss loss = choice.loss(w).orElseThrow();
                    float[] before = decode(new Encoding.Dense(w.tensor()));
                    float[] after = apply(choice, w);
                    double[] all = new double[61];
                    double[] lost = new double[61];
                    for (int i = 0; i < x.length; i++) {
                        double square = (double) before[i] * before[i];
                        for (int at : new int[] {outputsFirst ? i / 50 : i % 60, 60}) {
                            all[at] += square;
                            lost[at] += after[i] == 0 ? square : 0;
                        }
                    }
                    double largest = 0;
                    for (int i = 0; i < 60; i++) {
                        largest = all[i] == 0 ? largest : Math.max(largest, lost[i] / all[i]);
                    }
                    assertEquals(lost[60] / all[60], loss.whole(), 1e-12);
                    assertEquals(largest, loss.output(), 1e-12);
                    assertEquals(method.scope() == Scope.TENSOR && !method.pattern().groups(), loss.output() == 1);
                }
            }
        }
        Weight bias = weight("bias", Role.BIAS, -1, -1, DType.F32, random(100), 100);
        Loss unknown = PruneMethod.sparsity(0.5).prepare(new Evidence(List.of(bias), workspace)).loss(bias).orElseThrow();
        assertTrue(unknown.whole() > 0 && Double.isNaN(unknown.output()));
        Weight zeros = linear("zeros", new float[64], 8, 8);
        assertEquals(new Loss(0, 0), PruneMethod.nm(2, 4).prepare(new Evidence(List.of(zeros), workspace)).loss(zeros).orElseThrow());
    }

    private static float least(float[] x) {
        float least = Float.POSITIVE_INFINITY;
        for (float v : x) {
            least = v == 0 ? least : Math.min(least, Math.abs(v));
        }
        return least;
    }

    @Test
    void eachWeightKeepsItsLargest() {
        for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
            Weight a = weight("a", Role.LINEAR, 0, 1, type, ramp(60), 6, 10);
            float[] x = prune(PruneMethod.sparsity(0.7), a).getFirst();
            assertEquals(18, nnz(x));
            assertEquals(43, least(x));
        }
        Weight odd = linear("odd", ramp(7), 7, 1);
        assertEquals(3, nnz(prune(PruneMethod.sparsity(0.5), odd).getFirst()), "3.5 rounds up to 4 zeros");
        assertEquals(7, nnz(prune(PruneMethod.sparsity(0), odd).getFirst()));
        assertEquals(0, nnz(prune(PruneMethod.sparsity(0.99), odd).getFirst()));
        Weight scalar = weight("s", Role.OTHER, -1, -1, DType.F32, new float[] {3});
        assertEquals(1, nnz(prune(PruneMethod.sparsity(0.4), scalar).getFirst()));
    }

    @Test
    void globalComparesAllWeightsAndTiesGoToTheFirst() {
        PruneMethod half = PruneMethod.sparsity(0.5).scope(Scope.GLOBAL);
        float[] small = random(200);
        float[] large = random(200);
        for (int i = 0; i < 200; i++) {
            large[i] = 100 + Math.abs(large[i]);
        }
        List<float[]> x = prune(half, linear("small", small, 20, 10), linear("large", large, 20, 10));
        assertEquals(0, nnz(x.get(0)));
        assertEquals(200, nnz(x.get(1)));
        float[] same = new float[40];
        java.util.Arrays.fill(same, -2);
        x = prune(half.schedule(List.of(0.375)), linear("a", same, 4, 10), linear("b", same, 4, 10));
        assertEquals(40, nnz(x.get(0)));
        assertEquals(10, nnz(x.get(1)));
        for (int i = 0; i < 40; i++) {
            assertEquals(i < 10 ? -2 : 0, x.get(1)[i]);
        }
        Weight c = linear("c", same, 4, 10);
        Prepared choice = half.prepare(new Evidence(List.of(c), workspace));
        assertEquals("f32 sparse 50 % global", choice.plan(c, new Form.Dense(DType.F32)).describe());
        Weight unseen = linear("d", same, 4, 10);
        assertThrows(IllegalStateException.class, () -> choice.plan(unseen, new Form.Dense(DType.F32)));
    }

    /** The inputs of an output channel are a column of [K, N], a row of [N, K], and of a kernel all behind the first axis. */
    @Test
    void channelsKeepTheirOwnLargest() {
        PruneMethod method = PruneMethod.sparsity(0.75).scope(Scope.CHANNEL);
        float[] x = prune(method, linear("kn", random(120), 12, 10)).getFirst();
        for (int c = 0; c < 10; c++) {
            int kept = 0;
            for (int r = 0; r < 12; r++) {
                kept += x[r * 10 + c] != 0 ? 1 : 0;
            }
            assertEquals(3, kept);
        }
        for (Weight w : List.of(weight("nk", Role.LINEAR, 1, 0, DType.F32, random(120), 10, 12),
                weight("kernel", Role.CONV, 1, 0, DType.F32, random(120), 10, 3, 2, 2),
                weight("table", Role.EMBEDDING, -1, 0, DType.F32, random(120), 10, 12),
                weight("gates", Role.RECURRENT, 2, 1, DType.F32, random(120), 2, 5, 12))) {
            x = prune(method, w).getFirst();
            for (int row = 0; row < 10; row++) {
                assertEquals(3, nnz(java.util.Arrays.copyOfRange(x, row * 12, row * 12 + 12)), w.name());
            }
        }
    }

    @Test
    void groupsLieAlongTheInputAxis() {
        float[] down = prune(PruneMethod.nm(2, 4), linear("kn", random(66), 11, 6)).getFirst();
        for (int c = 0; c < 6; c++) {
            for (int g = 0; g < 11; g += 4) {
                int kept = 0;
                for (int r = g; r < Math.min(11, g + 4); r++) {
                    kept += down[r * 6 + c] != 0 ? 1 : 0;
                }
                assertEquals(2, kept, "the last group has three rows");
            }
        }
        for (Weight w : List.of(weight("nk", Role.LINEAR, 1, 0, DType.F32, random(48), 4, 12),
                weight("kernel", Role.CONV, 1, 0, DType.F32, random(48), 4, 3, 2, 2))) {
            float[] along = prune(PruneMethod.nm(1, 4), w).getFirst();
            for (int g = 0; g < 48; g += 4) {
                assertEquals(1, nnz(java.util.Arrays.copyOfRange(along, g, g + 4)), w.name());
            }
        }
        Weight transposed = weight("t", Role.CONV, 0, 1, DType.F32, random(48), 4, 3, 2, 2);
        assertEquals(24, nnz(prune(PruneMethod.nm(2, 4), transposed).getFirst()));
    }

    @Test
    void blocksGoTogetherAndEdgesHavePartialOnes() {
        Weight w = linear("w", random(7 * 10), 7, 10);
        float[] x = prune(PruneMethod.sparsity(0.5).pattern(Pattern.block(4, 4)), w).getFirst();
        int kept = 0;
        for (int i = 0; i < 7; i += 4) {
            for (int j = 0; j < 10; j += 4) {
                int inside = 0;
                int set = 0;
                for (int r = i; r < Math.min(7, i + 4); r++) {
                    for (int c = j; c < Math.min(10, j + 4); c++) {
                        inside++;
                        set += x[r * 10 + c] != 0 ? 1 : 0;
                    }
                }
                assertTrue(set == 0 || set == inside);
                kept += set > 0 ? 1 : 0;
            }
        }
        assertEquals(3, kept, "of six blocks");
        float[] ramp = ramp(20);
        x = prune(PruneMethod.sparsity(0.5).pattern(Pattern.ROW), linear("r", ramp, 4, 5)).getFirst();
        for (int i = 0; i < 20; i++) {
            assertEquals(i < 10 ? 0 : ramp[i], x[i]);
        }
        x = prune(PruneMethod.sparsity(0.6).pattern(Pattern.COLUMN), linear("c", ramp, 4, 5)).getFirst();
        for (int i = 0; i < 20; i++) {
            assertEquals(i % 5 < 3 ? 0 : ramp[i], x[i]);
        }
        List<float[]> both = prune(PruneMethod.sparsity(0.5).pattern(Pattern.block(2, 2)).scope(Scope.GLOBAL),
                linear("a", ramp(16), 4, 4), linear("b", new float[16], 4, 4));
        assertEquals(16, nnz(both.get(0)));
        // Below a threshold are blocks by their norm: 1 2 5 6 against 3 4 7 8 and those below.
        x = prune(PruneMethod.below(9).pattern(Pattern.block(2, 2)), linear("t", ramp(16), 4, 4)).getFirst();
        assertEquals(12, nnz(x));
        assertEquals(0, x[5]);
    }

    @Test
    void thresholdsKeepWhatReachesThem() {
        float[] x = prune(PruneMethod.below(4), linear("w", ramp(10), 2, 5)).getFirst();
        assertEquals(7, nnz(x));
        assertEquals(4, least(x));
        assertEquals(0, nnz(prune(PruneMethod.below(1e30), linear("w", ramp(10), 2, 5)).getFirst()));
    }

    @Test
    void aBudgetKeepsAsMuchAsFits() {
        Weight a = linear("a", random(4000), 40, 100);
        Weight b = linear("b", random(1000), 100, 10);
        long all = size(a, 4000) + size(b, 1000);
        long none = size(a, 0) + size(b, 0);
        for (long budget : new long[] {none, none + 5, 9000, 12_345, all - 1, all, all + 1}) {
            Prepared choice = PruneMethod.budget(budget).prepare(new Evidence(List.of(a, b), workspace));
            long inA = nnz(apply(choice, a));
            long inB = nnz(apply(choice, b));
            assertTrue(size(a, inA) + size(b, inB) <= budget);
            assertTrue(inA + inB == 5000 || size(a, inA + 1) + size(b, inB) > budget
                    || size(a, inA) + size(b, inB + 1) > budget, inA + " and " + inB + " for " + budget);
            float lost = 0;
            for (Weight w : List.of(a, b)) {
                float[] before = decode(new Encoding.Dense(w.tensor()));
                float[] after = apply(choice, w);
                for (int i = 0; i < before.length; i++) {
                    lost = after[i] == 0 ? Math.max(lost, Math.abs(before[i])) : lost;
                }
            }
            assertTrue(Math.min(least(apply(choice, a)), least(apply(choice, b))) >= lost);
        }
        Prepared choice = PruneMethod.budget(none - 1).prepare(new Evidence(List.of(a, b), workspace));
        refused("more than the budget of " + (none - 1), choice, a);
        // Zeros take no room, so that all else stays.
        float[] sparse = new float[4000];
        sparse[17] = 1;
        assertEquals(1, nnz(prune(PruneMethod.budget(size(a, 1)), linear("s", sparse, 40, 100)).getFirst()));
        Prepared blocks = PruneMethod.budget(9000).pattern(Pattern.block(3, 7)).prepare(new Evidence(List.of(a, b), workspace));
        long inA = nnz(apply(blocks, a));
        long inB = nnz(apply(blocks, b));
        assertTrue(size(a, inA) + size(b, inB) <= 9000 && inA + inB > 1000);
    }

    private static long size(Weight w, long nnz) {
        return Form.Sparse.packed(w.tensor().shape(), DType.F32, nnz);
    }

    /** Trained on in between or not: what is zero is smallest, whatever the level. */
    @Test
    void prunedAgainAModelKeepsItsZeros() {
        for (PruneMethod method : List.of(PruneMethod.sparsity(0.6), PruneMethod.sparsity(0.6).scope(Scope.CHANNEL),
                PruneMethod.nm(2, 5), PruneMethod.sparsity(0.6).scope(Scope.GLOBAL), PruneMethod.below(0.8))) {
            float[] once = prune(method, linear("w", random(400), 20, 20)).getFirst();
            for (PruneMethod again : List.of(method, PruneMethod.sparsity(0.1), PruneMethod.sparsity(0.8), PruneMethod.nm(3, 4))) {
                float[] twice = prune(again, linear("w", once, 20, 20)).getFirst();
                for (int i = 0; i < 400; i++) {
                    assertTrue(twice[i] == 0 || once[i] != 0);
                }
                if (again == method) {
                    assertEquals(nnz(once), nnz(twice));
                }
            }
        }
        float[] minus = {-0f, 1, -0f, 2};
        assertEquals(2, nnz(decode(pruned(PruneMethod.sparsity(0.25), linear("w", minus, 2, 2)))));
    }

    private Encoding pruned(PruneMethod method, Weight w) {
        Prepared choice = method.prepare(new Evidence(List.of(w), workspace));
        return choice.apply(w, new Encoding.Dense(w.tensor()), choice.plan(w, new Form.Dense(DType.F32)), workspace);
    }

    @Test
    void schedulesRiseToTheirLastLevel() {
        List<Double> levels = PruneMethod.cubic(0.2, 0.8, 4);
        assertEquals(4, levels.size());
        double[] want = {0.8 - 0.6 * 27 / 64, 0.8 - 0.6 * 8 / 64, 0.8 - 0.6 / 64, 0.8};
        PruneMethod method = PruneMethod.sparsity(0).schedule(levels);
        assertEquals(4, method.steps());
        Weight w = linear("w", random(1000), 10, 100);
        for (int i = 0; i < 4; i++) {
            assertEquals(want[i], levels.get(i), 1e-15);
            assertEquals(1000 - Math.round(1000 * levels.get(i)), nnz(prune(method.atStep(i + 1), w).getFirst()));
        }
        assertEquals(method.atStep(4).sparsity(), method.sparsity());
        assertEquals(method.atStep(4), method.atStep(99));
        assertEquals(method.atStep(2), method.with("step", "2"));
        assertEquals(1, PruneMethod.nm(2, 4).steps());
        assertEquals(1, QuantizeMethod.int8().steps());
        assertEquals(QuantizeMethod.int8(), QuantizeMethod.int8().atStep(7));
    }

    /** Blocks go whole, so that the largest magnitude of a group of scales may be gone, or all of the group. */
    @Test
    void quantizedZerosStayZerosAndScalesAreThoseOfTheRest() {
        float[] x = random(64 * 48);
        for (int i = 0; i < x.length; i++) {
            // A column without survivors, one of outliers, and none that is negative.
            x[i] = i % 48 == 0 ? 1e-6f : i % 48 == 1 ? x[i] * 1000 : i % 48 == 2 ? Math.abs(x[i]) + 1 : x[i];
        }
        Weight w = linear("w", x, 64, 48);
        for (PruneMethod prune : List.of(PruneMethod.sparsity(0.5), PruneMethod.sparsity(0.8).pattern(Pattern.block(4, 4)),
                PruneMethod.nm(2, 4), PruneMethod.sparsity(0.9).scope(Scope.CHANNEL))) {
            Prepared choice = prune.prepare(new Evidence(List.of(w), workspace));
            float[] masked = apply(choice, w);
            Weight rest = linear("rest", masked, 64, 48);
            for (QuantizeMethod q : List.of(QuantizeMethod.int8(), QuantizeMethod.int8().asymmetric(),
                    QuantizeMethod.int8().perTensor(), QuantizeMethod.int8().perTensor().asymmetric(),
                    QuantizeMethod.int8().perBlock(16), QuantizeMethod.int8().perBlock(32).asymmetric().clipSearch(9, 0.5f),
                    QuantizeMethod.int4(), QuantizeMethod.int4().asymmetric(), QuantizeMethod.int4().perChannel(),
                    QuantizeMethod.int4().clipSearch(20, 0.5f), QuantizeMethod.int4().asymmetric().clipSearch(20, 0.5f))) {
                Form.Sparse first = (Form.Sparse) choice.plan(w, new Form.Dense(DType.F32));
                Form.Sparse form = (Form.Sparse) q.plan(w, first);
                Form.Quantized codes = (Form.Quantized) form.values();
                for (Form.Quantized stored : List.of(codes,
                        codes.stored(codes.bits() == 4 ? DType.U4 : DType.U8, DType.F16, false, false))) {
                    Encoding.Sparse e = (Encoding.Sparse) q.apply(w,
                            choice.apply(w, new Encoding.Dense(w.tensor()), first, workspace), form.of(stored),
                            workspace);
                    float[] decoded = decode(e);
                    for (int i = 0; i < decoded.length; i++) {
                        assertTrue(masked[i] != 0 || decoded[i] == 0, prune + " " + q + " at " + i);
                    }
                    Encoding.Quantized got = (Encoding.Quantized) e.values();
                    if (q.clipSteps() == 1) {
                        scales(got, masked, q, prune.toString());
                    }
                    byte[] bytes = got.codes().data().toArray(ValueLayout.JAVA_BYTE);
                    Encoding.Quantized alone = (Encoding.Quantized) q.apply(rest, new Encoding.Dense(rest.tensor()),
                            stored, workspace);
                    assertEquals(-1, java.util.Arrays.mismatch(bytes,
                            alone.codes().data().toArray(ValueLayout.JAVA_BYTE)));
                }
            }
        }
    }

    /** Of each group, from its survivors alone. */
    private void scales(Encoding.Quantized got, float[] masked, QuantizeMethod q, String what) {
        Form.Grid g = got.form().grid(got.shape());
        MemorySegment scales = got.scalesAsF32(arena);
        int steps = got.form().qmax() - got.form().qmin();
        for (int i = 0; i < g.groupsDown(); i++) {
            for (int j = 0; j < g.groupsAcross(); j++) {
                float min = 0;
                float max = 0;
                for (long r = i * g.groupRows(); r < Math.min(g.rows(), (i + 1) * g.groupRows()); r++) {
                    for (long c = j * g.groupCols(); c < Math.min(g.cols(), (j + 1) * g.groupCols()); c++) {
                        float v = masked[(int) (r * g.cols() + c)];
                        min = v != 0 ? Math.min(min, v) : min;
                        max = v != 0 ? Math.max(max, v) : max;
                    }
                }
                float want = q.symmetric() ? Math.max(-min, max) / (steps / 2) : max / steps - min / steps;
                want = max == 0 && min == 0 ? 1 : want;
                if (got.form().scaleType() == DType.F16) {
                    want = Math.max(0x1p-24f, Float.float16ToFloat(Float.floatToFloat16(want)));
                }
                assertEquals(want, scales.getAtIndex(ValueLayout.JAVA_FLOAT, i * g.groupsAcross() + j), what + " " + q);
            }
        }
    }

    @Test
    void notANumberIsNamedWithItsIndex() {
        for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
            for (PruneMethod method : List.of(PruneMethod.sparsity(0.5), PruneMethod.nm(2, 4), PruneMethod.below(1),
                    PruneMethod.sparsity(0.5).scope(Scope.GLOBAL), PruneMethod.sparsity(0.5).scope(Scope.CHANNEL),
                    PruneMethod.sparsity(0.5).pattern(Pattern.block(4, 4)), PruneMethod.budget(1000))) {
                for (DType type : List.of(DType.F32, DType.F16, DType.BF16)) {
                    float[] x = random(512);
                    x[77] = bad;
                    Weight w = weight("w", Role.LINEAR, 0, 1, type, x, 64, 8);
                    NonFiniteWeightException e = assertThrows(NonFiniteWeightException.class,
                            () -> method.prepare(new Evidence(List.of(w), workspace)), method.toString());
                    assertEquals("w", e.weight());
                    assertEquals(77, e.index());
                }
            }
        }
    }

    @Test
    void whatCannotBePrunedIsRefusedWithTheReason() {
        PruneMethod half = PruneMethod.sparsity(0.5);
        PruneMethod channel = half.scope(Scope.CHANNEL);
        Weight empty = linear("empty", new float[0], 4, 0);
        Weight table = weight("table", Role.EMBEDDING, -1, 0, DType.F32, random(12), 3, 4);
        Weight transposed = weight("t", Role.CONV, 0, 1, DType.F32, random(48), 4, 3, 2, 2);
        Weight batch = weight("b", Role.LINEAR, 1, 2, DType.F32, random(24), 2, 3, 4);
        Weight other = weight("o", Role.OTHER, -1, -1, DType.F32, random(12), 3, 4);
        Weight ints = new Weight("i", Role.LINEAR, new Tensor(DType.I32, Shape.of(1, 4), arena.allocate(16)), 0, 1,
                List.of(), Optional.empty());
        refused("has no elements", prepare(half, empty), empty);
        refused("cannot prune i32", prepare(half, ints), ints);
        refused("role embedding has no input axis for 2:4", prepare(PruneMethod.nm(2, 4), table), table);
        refused("role other has no input axis for channels", prepare(channel, other), other);
        refused("its input axis 0 of shape 4x3x2x2", prepare(channel, transposed), transposed);
        refused("its input axis 1 of shape 2x3x4", prepare(PruneMethod.nm(2, 4), batch), batch);
        Weight a = weight("a", Role.LINEAR, 0, 1, DType.F16, random(12), 3, 4);
        Weight b = weight("b", Role.LINEAR, 0, 1, DType.F32, random(12), 3, 4);
        Prepared mixed = half.scope(Scope.GLOBAL).prepare(new Evidence(List.of(a, b), workspace));
        refused("cannot compare f16", mixed, a);
        refused("cannot compare f16", mixed, b);
        Prepared choice = prepare(half, b);
        String message = assertThrows(UnsupportedRequestException.class,
                () -> choice.plan(b, QuantizeMethod.int8().plan(b, new Form.Dense(DType.F32)))).getMessage();
        assertTrue(message.contains("cannot prune int8 per channel: prune comes first"), message);
        assertThrows(UnsupportedRequestException.class, () -> choice.plan(b, choice.plan(b, new Form.Dense(DType.F32))));
    }

    private Prepared prepare(PruneMethod method, Weight w) {
        return method.prepare(new Evidence(List.of(w), workspace));
    }

    private static void refused(String reason, Prepared prepared, Weight w) {
        String message = assertThrows(UnsupportedRequestException.class,
                () -> prepared.plan(w, new Form.Dense(w.tensor().dtype()))).getMessage();
        assertTrue(message.contains(reason), message);
    }

    @Test
    void optionsReplaceEachOther() {
        PruneMethod half = PruneMethod.sparsity(0.5);
        assertEquals(PruneMethod.sparsity(0.7), half.with("sparsity", "0.7"));
        assertEquals(half.schedule(List.of(0.1, 0.5)), half.with("schedule", "0.1, 0.5"));
        assertEquals(half.schedule(PruneMethod.cubic(0, 0.5, 3)), half.with("schedule", "cubic:0:0.5:3"));
        assertEquals(PruneMethod.below(0.25), half.scope(Scope.CHANNEL).with("threshold", "0.25"));
        assertEquals(PruneMethod.budget(99), half.with("budget", "99"));
        assertEquals(PruneMethod.nm(2, 4), half.with("pattern", "2:4"));
        assertEquals(half, PruneMethod.nm(2, 4).with("sparsity", "0.5"));
        assertEquals(half.pattern(Pattern.block(4, 8)), half.with("pattern", "4x8"));
        assertEquals(half.pattern(Pattern.ROW), half.with("pattern", "row"));
        assertEquals(half.pattern(Pattern.COLUMN), half.with("pattern", "column"));
        assertEquals(half, half.with("pattern", "4x8").with("pattern", "element"));
        assertEquals(half.scope(Scope.CHANNEL), half.with("scope", "channel"));
        assertNull(half.with("block", "32"));
        assertFalse(half.uses("block") || half.uses("step") || PruneMethod.nm(1, 2).uses("sparsity"));
        assertTrue(half.uses("sparsity") && half.uses("scope") && PruneMethod.nm(1, 2).uses("pattern"));
        assertEquals("50 % of 4x4 global", half.pattern(Pattern.block(4, 4)).scope(Scope.GLOBAL).describe());
        assertEquals("33.33 % per channel", PruneMethod.sparsity(1 / 3.0).scope(Scope.CHANNEL).describe());
        assertEquals("50 % of rows", half.pattern(Pattern.ROW).describe());
        assertEquals("below 0.1", PruneMethod.below(0.1).describe());
        assertEquals("to 5 bytes", PruneMethod.budget(5).describe());
        assertEquals("2:4", PruneMethod.nm(2, 4).describe());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "sparsity  | 1         | at least 0 and below 1, but is 1.0",
        "sparsity  | -0.1      | at least 0 and below 1",
        "sparsity  | NaN       | at least 0 and below 1",
        "sparsity  | half      | sparsity must be a number",
        "schedule  | 0.5,0.2   | must not fall",
        "schedule  | 0.5,      | schedule must be sparsities such as",
        "schedule  | cubic:0:0.5:0 | steps must be 1 to 10000",
        "schedule  | cubic:0:1:3   | below 1",
        "schedule  | cubic:0.9:0.1:3 | must not fall",
        "schedule  | cubic:0:0.5   | schedule must be sparsities such as",
        "threshold | -1        | finite number above 0",
        "threshold | Infinity  | finite number above 0",
        "threshold | 0         | finite number above 0",
        "budget    | -1        | budget must be at least 0",
        "budget    | 1e6       | budget must be a whole number",
        "pattern   | 3:2       | 1 <= N <= M <= 16, but is 3:2",
        "pattern   | 0:4       | 1 <= N <= M <= 16",
        "pattern   | 2:17      | 1 <= N <= M <= 16",
        "pattern   | 0:0       | 1 <= N <= M <= 16",
        "pattern   | 0x4       | at least one row and column",
        "pattern   | 4x        | element, row, column, ROWSxCOLUMNS or N:M",
        "pattern   | x4        | element, row, column, ROWSxCOLUMNS or N:M",
        "pattern   | 4         | element, row, column, ROWSxCOLUMNS or N:M",
        "scope     | row       | global, tensor or channel",
        "scope     | GLOBAL    | global, tensor or channel",
        "step      | 2         | step must be 1 to 1",
        "step      | 0         | step must be at least 1",
        "step      | x         | step must be a whole number",
    })
    void badOptionsAreNamed(String option, String value, String message) {
        String said = assertThrows(IllegalArgumentException.class, () -> PruneMethod.sparsity(0.5).with(option, value))
                .getMessage();
        assertTrue(said.contains(message), said);
    }

    @Test
    void combinationsThatMeanNothing() {
        PruneMethod half = PruneMethod.sparsity(0.5);
        for (Runnable call : List.<Runnable>of(
                () -> half.pattern(Pattern.block(4, 4)).scope(Scope.CHANNEL),
                () -> half.scope(Scope.CHANNEL).pattern(Pattern.ROW),
                () -> PruneMethod.below(0.1).scope(Scope.CHANNEL),
                () -> PruneMethod.nm(2, 4).scope(Scope.CHANNEL),
                () -> PruneMethod.nm(2, 4).scope(Scope.GLOBAL),
                () -> PruneMethod.budget(10).scope(Scope.TENSOR),
                () -> new PruneMethod(Pattern.ELEMENT, Scope.TENSOR, List.of(), 0, 0, -1),
                () -> new PruneMethod(Pattern.ELEMENT, Scope.TENSOR, List.of(0.5), 0, 0.1, -1),
                () -> new PruneMethod(Pattern.nm(2, 4), Scope.TENSOR, List.of(0.5), 0, 0, -1),
                () -> new PruneMethod(Pattern.ELEMENT, Scope.TENSOR, List.of(0.5), 0, 0, -2),
                () -> new Pattern(4, 4, 2, 4),
                () -> new Pattern(4, 4, 2, 0),
                () -> Pattern.block((1L << 31) + 1, 1))) {
            assertThrows(IllegalArgumentException.class, call::run);
        }
    }
}
