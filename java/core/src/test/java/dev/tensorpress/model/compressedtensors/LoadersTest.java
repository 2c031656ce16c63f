package dev.tensorpress.model.compressedtensors;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Effort;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What is written is what loaders of compressed-tensors take. */
class LoadersTest {

    @TempDir
    Path folder;
    private int outputs;

    /** Layers as those of Llama, each tensor with the prefix before it. */
    private static SmallFolder layers(SmallFolder m, String prefix, int layers, int width) {
        for (int i = 0; i < layers; i++) {
            String layer = prefix + "layers." + i + ".";
            for (String name : List.of("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")) {
                m.add(layer + name + ".weight", DType.F32, name.contains("k_") || name.contains("v_") ? width / 2 : width, width);
            }
            m.add(layer + "input_layernorm.weight", DType.F32, width);
        }
        return m;
    }

    private static SmallFolder llama() {
        return layers(new SmallFolder(Effort.seed()).add("model.embed_tokens.weight", DType.F32, 40, 128), "model.", 3, 128)
                .add("lm_head.weight", DType.F32, 40, 128);
    }

    private static SmallFolder experts(int hidden, int inner) {
        SmallFolder m = layers(new SmallFolder(Effort.seed()), "model.", 2, hidden);
        for (int i = 0; i < 2; i++) {
            String moe = "model.layers." + i + ".block_sparse_moe.";
            m.add(moe + "gate.weight", DType.F32, 3, hidden);
            for (int k = 0; k < 3; k++) {
                m.add(moe + "experts." + k + ".w1.weight", DType.F32, inner, hidden)
                        .add(moe + "experts." + k + ".w2.weight", DType.F32, hidden, inner)
                        .add(moe + "experts." + k + ".w3.weight", DType.F32, inner, hidden);
            }
        }
        return m;
    }

    private Map<String, Plan.Entry> plan(SmallFolder m, Recipe recipe) throws IOException {
        Map<String, Plan.Entry> entries = new LinkedHashMap<>();
        try (Compressor c = Compressor.open(m.write(folder.resolve("in" + outputs++), 1))) {
            for (Plan.Entry e : c.plan(recipe).entries()) {
                entries.put(e.weight().name().replace(".weight", ""), e);
            }
        }
        return entries;
    }

    private PlainDecoder compress(SmallFolder m, Recipe recipe) throws IOException {
        Path out = folder.resolve("out" + outputs);
        try (Compressor c = Compressor.open(m.write(folder.resolve("in" + outputs++), 1))) {
            c.compress(c.plan(recipe), out);
        }
        return new PlainDecoder(out);
    }

    @Test
    void fusedProductsShareTheFinestScheme() throws IOException {
        Recipe int4 = Recipe.named("int4");
        Map<String, Plan.Entry> e = plan(llama(), int4);
        for (String name : List.of("q_proj", "k_proj", "v_proj")) {
            assertEquals("int8 block 128", e.get("model.layers.1.self_attn." + name).form().describe());
        }
        assertEquals("int4 block 32 asymmetric", e.get("model.layers.1.mlp.down_proj").form().describe());
        String note = e.get("model.layers.1.self_attn.q_proj").note();
        assertTrue(note.contains("as model.layers.1.self_attn.v_proj.weight") && note.contains("one product of q_proj, k_proj"), note);
        PlainDecoder d = compress(llama(), int4);
        assertEquals(d.group("model.layers.2.self_attn.q_proj"), d.group("model.layers.2.self_attn.v_proj"));
        assertNotEquals(d.group("model.layers.2.self_attn.q_proj"), d.group("model.layers.2.mlp.down_proj"));
        e = plan(llama(), int4.set("force-scheme", "true"));
        assertEquals("int4 block 32 asymmetric", e.get("model.layers.1.self_attn.q_proj").form().describe());
        // One that is too small for the step goes with the others.
        e = plan(llama(), Recipe.named("w8a16").set("min-size", "10000"));
        assertEquals("int8 per channel", e.get("model.layers.0.self_attn.k_proj").form().describe());
    }

    @Test
    void whatIsExcludedKeepsItsGroupAsItIs() throws IOException {
        Recipe r = Recipe.named("w8a16").exclude("*layers.1.*v_proj*").exclude("*layers.2.mlp.up_proj*");
        Map<String, Plan.Entry> e = plan(llama(), r);
        for (String name : List.of("1.self_attn.q_proj", "1.self_attn.k_proj", "1.self_attn.v_proj", "2.mlp.gate_proj", "2.mlp.up_proj")) {
            assertFalse(e.get("model.layers." + name).compressed(), name);
        }
        String note = e.get("model.layers.1.self_attn.q_proj").note();
        assertTrue(note.startsWith("stays as model.layers.1.self_attn.v_proj.weight does, since loaders make one product"), note);
        for (String name : List.of("0.self_attn.q_proj", "1.mlp.gate_proj", "2.self_attn.v_proj", "2.mlp.down_proj")) {
            assertTrue(e.get("model.layers." + name).compressed(), name);
        }
        PlainDecoder d = compress(llama(), r);
        for (String name : e.keySet()) {
            if (e.get(name).weight().tensor().shape().rank() == 2 && !name.contains("embed")) {
                assertEquals(!e.get(name).compressed(), d.ignores(name), name);
            }
        }
        assertTrue(plan(llama(), r.set("force-scheme", "true")).get("model.layers.1.self_attn.q_proj").compressed());
        // Zeros are no scheme: pruned weights stay pruned.
        e = plan(llama(), Recipe.named("prune50-int8").exclude("*layers.1.*v_proj*"));
        assertEquals("f32 sparse 50 % per channel", e.get("model.layers.1.self_attn.q_proj").form().describe());
    }

    @Test
    void expertsShareASchemeThatLoadersHaveKernelsFor() throws IOException {
        // Rows of 128 and 96: only 32 divides both.
        Map<String, Plan.Entry> e = plan(experts(128, 96), Recipe.named("w4a16").set("symmetric", "false"));
        for (String name : List.of("w1", "w2", "w3")) {
            for (int k = 0; k < 3; k++) {
                Plan.Entry x = e.get("model.layers.1.block_sparse_moe.experts." + k + "." + name);
                assertEquals("int4 block 32", x.form().describe());
                assertEquals("wanted int4 block 128 asymmetric", x.note());
            }
        }
        assertEquals("int4 block 128 asymmetric", e.get("model.layers.1.self_attn.q_proj").form().describe());
        e = plan(experts(128, 96), Recipe.named("w8a8"));
        assertEquals("int8 per channel", e.get("model.layers.1.block_sparse_moe.experts.2.w3").form().describe());
        assertEquals("int8 per channel dynamic", e.get("model.layers.1.self_attn.q_proj").form().describe());
        e = plan(experts(128, 96), Recipe.named("w8a8").set("force-scheme", "true"));
        assertEquals("int8 per channel dynamic", e.get("model.layers.1.block_sparse_moe.experts.2.w3").form().describe());
        // One of them excluded: all stay, of whatever layer.
        e = plan(experts(128, 96), Recipe.named("w8a16").exclude("*layers.0.*experts.1.w2*"));
        assertFalse(e.get("model.layers.1.block_sparse_moe.experts.0.w1").compressed());
        assertTrue(e.get("model.layers.1.self_attn.q_proj").compressed());
    }

    /** Loaders have other names for experts, and take the first group that speaks of experts. */
    @Test
    void expertsAreNamedAsAWhole() throws IOException {
        PlainDecoder d = compress(experts(128, 96), Recipe.named("w4a16").set("symmetric", "false"));
        assertEquals("group_0", d.group("model.layers.0.block_sparse_moe.experts.0.gate_proj"));
        assertEquals("group_0", d.group("model.layers.0.block_sparse_moe.experts.2.w2"));
        assertEquals("group_1", d.group("model.layers.0.self_attn.q_proj"));
        assertTrue(d.ignores("model.layers.0.block_sparse_moe.gate"));
        d = compress(experts(128, 96), Recipe.named("w8a16").exclude("*experts*"));
        assertTrue(d.ignores("model.layers.0.block_sparse_moe.experts.0.gate_proj"));
        assertFalse(d.ignores("model.layers.0.self_attn.q_proj"));
    }

    /** A head that is tied to the token embedding is a module without a tensor, which must not be taken for a compressed one. */
    @Test
    void tiedHeadsAreIgnoredByTheNamesOfTheirModules() throws IOException {
        SmallFolder whisper = new SmallFolder(Effort.seed()).add("model.decoder.embed_tokens.weight", DType.F32, 40, 128);
        layers(whisper, "model.decoder.", 1, 128);
        for (String config : List.of("{\"model_type\":\"whisper\"}", "{\"tie_word_embeddings\":true}")) {
            whisper.config = config;
            PlainDecoder d = compress(whisper, Recipe.named("w8a16"));
            for (String head : List.of("proj_out", "lm_head", "embed_out")) {
                assertTrue(d.ignores(head), head);
            }
            assertNotNull(d.group("model.decoder.layers.0.self_attn.q_proj"));
        }
        PlainDecoder d = compress(llama(), Recipe.named("w8a16"));
        assertTrue(d.ignores("lm_head"));
    }

    /** What a loader calls a module is what the file calls its tensor, but for what is around the whole. */
    @Test
    void modulesAreFoundUnderTheNamesThatLoadersGiveThem() throws IOException {
        SmallFolder m = layers(new SmallFolder(Effort.seed()), "model.", 2, 128);
        layers(m, "visual.", 2, 128);
        PlainDecoder d = compress(m, Recipe.named("int4"));
        String coarse = d.group("model.layers.0.mlp.down_proj");
        String fine = d.group("model.layers.1.self_attn.v_proj");
        assertNotEquals(coarse, fine);
        for (String around : List.of("", "model.", "model.language_model.", "language_model.model.")) {
            assertEquals(coarse, d.group(around + "layers.0.mlp.down_proj"), around);
            assertEquals(fine, d.group(around + "layers.0.self_attn.q_proj"), around);
            assertNull(d.group(around + "layers.0.mlp.down_proj_other"));
        }
        assertEquals(coarse, d.group("model.visual.layers.1.mlp.down_proj"));
        assertNull(d.group("other.layers.0.mlp.down_proj"));
        // Two that would have one name keep theirs.
        m = layers(new SmallFolder(Effort.seed()), "model.", 1, 128);
        layers(m, "transformer.", 1, 128);
        d = compress(m, Recipe.named("int4").exclude("transformer.*"));
        assertNotNull(d.group("model.layers.0.mlp.up_proj"));
        assertNull(d.group("transformer.layers.0.mlp.up_proj"));
        assertNull(d.group("language_model.layers.0.mlp.up_proj"));
        // Some layers of many.
        d = compress(llama(), Recipe.named("w8a16").exclude("*layers.0.mlp*").exclude("*layers.2.mlp*"));
        assertTrue(d.ignores("model.layers.0.mlp.up_proj") && d.ignores("model.layers.2.mlp.up_proj"), d.ignored().toString());
        assertFalse(d.ignores("model.layers.1.mlp.up_proj"));
    }

    @Test
    void theFormatIsSaidOfEachGroup() throws IOException {
        for (String recipe : List.of("w8a16", "w8a8")) {
            PlainDecoder d = compress(llama(), Recipe.named(recipe));
            Map<?, ?> group = (Map<?, ?>) ((Map<?, ?>) d.quantization.get("config_groups")).get("group_0");
            assertEquals(d.quantization.get("format"), group.get("format"));
            assertEquals(List.of("Linear"), group.get("targets"));
        }
    }

    @Test
    void factorsHaveNoLoader() throws IOException {
        Recipe few = Recipe.named("lowrank").set("energy", "0.2");
        Map<String, Plan.Entry> e = plan(llama(), few);
        Plan.Entry q = e.get("model.layers.0.self_attn.q_proj");
        assertTrue(!q.compressed() && q.note().contains("no loader puts factors together; option force-scheme"), q.note());
        assertTrue(plan(llama(), few.set("force-scheme", "true")).get("model.layers.0.self_attn.q_proj").compressed());
        // What else the recipe says is done.
        q = plan(llama(), Recipe.named("lowrank-int8")).get("model.layers.0.self_attn.o_proj");
        assertEquals("int8 block 64", q.form().describe());
        assertTrue(q.note().contains("no factorize: no loader"), q.note());
    }

    @Test
    void groupsThatDivideTheRowAreFoundForAnyMultipleOfSixteen() throws IOException {
        for (int[] c : new int[][] {{240, 128, 80}, {240, 32, 48}, {240, 64, 80}, {176, 128, 16}, {144, 128, 48}, {112, 128, 112},
            {96, 128, 32}}) {
            Map<String, Plan.Entry> e = plan(layers(new SmallFolder(Effort.seed()), "model.", 1, c[0]),
                    Recipe.named("w4a16").set("block", Integer.toString(c[1])));
            assertEquals("int4 block " + c[2], e.get("model.layers.0.mlp.up_proj").form().describe(), c[0] + " in " + c[1]);
        }
        PlainDecoder d = compress(layers(new SmallFolder(Effort.seed()), "model.", 1, 240), Recipe.named("w4a16"));
        assertEquals(80, d.modules.get("model.layers.0.mlp.up_proj").group());
    }
}
