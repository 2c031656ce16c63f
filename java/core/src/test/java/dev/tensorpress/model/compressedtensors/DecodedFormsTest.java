package dev.tensorpress.model.compressedtensors;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Effort;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.Selector;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Codes that the format does not hold: what they decode to is written in their place. */
class DecodedFormsTest {
    @TempDir
    Path folder;

    private static Recipe recipe(QuantizeMethod method, boolean pruned) {
        Selector all = new Selector(Set.of(), List.of(), 0);
        Recipe.Step codes = new Recipe.Step("codes", all, method);
        return new Recipe("codes", "", pruned ? List.of(new Recipe.Step("zeros", all, PruneMethod.sparsity(0.5)), codes) : List.of(codes),
                List.of(), Map.of());
    }

    @Test
    void codesOfOtherBitsAreDecoded() throws IOException {
        int n = 0;
        for (DType type : new DType[] {DType.F32, DType.F16, DType.BF16}) {
            SmallFolder m = new SmallFolder(Effort.seed()).add("e.embed_tokens.weight", type, 40, 64).add("a.weight", type, 48, 100)
                    .add("turned.kernel", type, 64, 32).add("m.mlp.experts.gate_up_proj", type, 3, 32, 48).add("conv.weight", type, 8, 4, 3, 3);
            Path in = m.write(folder.resolve("in" + type), 1);
            for (int bits : new int[] {2, 3, 5, 6, 7}) {
                for (boolean pruned : new boolean[] {false, true}) {
                    QuantizeMethod method = (QuantizeMethod) QuantizeMethod.int8().perBlock(32).with("bits", Integer.toString(bits))
                            .with("symmetric", Boolean.toString(pruned));
                    check(in, recipe(method, pruned), method, folder.resolve("out" + n++));
                }
            }
        }
    }

    private static void check(Path in, Recipe recipe, QuantizeMethod method, Path out) throws IOException {
        try (Compressor c = Compressor.open(in); Executor executor = Executor.cpu(2); Workspace workspace = new Workspace(executor);
                Arena arena = Arena.ofShared()) {
            Plan plan = c.plan(recipe);
            Report report = c.compress(plan, out);
            assertEquals(plan.after(), report.bytesAfter());
            assertTrue(plan.remarks().stream().anyMatch(r -> r.contains("5 weights are written decoded")),
                    plan.entries().stream().map(e -> e.weight().name() + ": " + e.note() + "; ").toList().toString());
            try (SafetensorsModel written = SafetensorsModel.open(out, Map.of())) {
                Map<String, Weight> all = new TreeMap<>();
                written.weights().forEach(w -> all.put(w.name(), w));
                for (Report.Entry e : report.entries()) {
                    Weight w = e.planned().weight();
                    Form form = e.planned().form();
                    assertTrue(form.decoded() && form.describe().contains(" decoded from int" + method.bits() + " "), form.describe());
                    assertEquals("", e.planned().note(), w.name());
                    long n = w.tensor().shape().elements();
                    Encoding pruned = new Encoding.Dense(w.tensor());
                    if (form.sparse() != null) {
                        pruned = e.planned().steps().getFirst().prepared().apply(w, pruned, e.planned().forms().getFirst(), workspace)
                                .copy(arena);
                    }
                    Form made = form.made();
                    MemorySegment floats = arena.allocate(DType.F32.bytes(n), 64);
                    method.apply(w, pruned, made, workspace).decode(floats, executor);
                    DType type = w.tensor().dtype();
                    MemorySegment expected = arena.allocate(type.bytes(n), 64);
                    Quantize.convert(DType.F32, floats, n, type, expected);
                    assertArrayEquals(expected.toArray(ValueLayout.JAVA_BYTE), all.get(w.name()).tensor().data().toArray(ValueLayout.JAVA_BYTE),
                            w.name() + " " + form.describe());
                    double error = 0;
                    for (long i = 0; i < n; i++) {
                        double d = (double) Quantize.element(w.tensor(), i) - Quantize.element(all.get(w.name()).tensor(), i);
                        error += d * d;
                    }
                    assertEquals(error, e.sumSquaredError(), 1e-6 * error, w.name());
                }
            }
        }
    }

    @Test
    void rowsAreDecodedAsTheyCome() throws IOException {
        Path in = new SmallFolder(Effort.seed()).add("x.weight", DType.BF16, 40_000, 256).write(folder.resolve("in"), 1);
        QuantizeMethod method = (QuantizeMethod) QuantizeMethod.int8().perBlock(32).with("bits", "3");
        int[] told = {0};
        try (Compressor c = Compressor.open(in, Compressor.Options.DEFAULT.progress((index, count, entry, part) -> told[0]++))) {
            c.compress(c.plan(recipe(method, false)), folder.resolve("out"));
        }
        assertEquals(3, told[0], "two parts, and the end");
    }

    /** Whoever keeps the codes finds them beside the elements, also of a copy. */
    @Test
    void elementsKnowTheirCodes() throws IOException {
        try (Executor executor = Executor.cpu(1); Workspace workspace = new Workspace(executor); Arena arena = Arena.ofShared()) {
            SmallFolder m = new SmallFolder(Effort.seed()).add("x.weight", DType.F16, 20, 64);
            Path in = m.write(folder.resolve("in"), 1);
            try (SafetensorsModel model = SafetensorsModel.open(in, Map.of())) {
                Weight w = model.weights().getFirst();
                QuantizeMethod method = (QuantizeMethod) QuantizeMethod.int8().with("bits", "5");
                Encoding codes = method.apply(w, new Encoding.Dense(w.tensor()), method.plan(w, new Form.Dense(DType.F16)), workspace);
                MemorySegment out = arena.allocate(DType.F16.bytes(20 * 64), 64);
                Encoding.Dense dense = Encoding.Dense.decoded(codes, DType.F16, out, arena.allocate(DType.F32.bytes(20 * 64), 64), executor);
                assertEquals(new Form.Dense(DType.F16, Optional.of(codes.form())), dense.form());
                Encoding.Dense copy = dense.copy(arena);
                assertEquals(dense.form(), copy.form());
                assertArrayEquals(((Encoding.Quantized) codes).codes().data().toArray(ValueLayout.JAVA_BYTE),
                        ((Encoding.Quantized) copy.of().orElseThrow()).codes().data().toArray(ValueLayout.JAVA_BYTE));
            }
        }
    }
}
