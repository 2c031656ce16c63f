package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.Compressor;
import dev.tensorpress.Golden;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Manifest;
import dev.tensorpress.kernel.Device;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.Method.Requirement;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What every recipe makes of small folders, in several files and in one, and what {@code expand} makes of that, byte for byte. */
final class GoldenTest {
    @TempDir
    Path folder;

    private static SmallFolder llama(DType type) {
        SmallFolder m = new SmallFolder(type.ordinal()).add("model.embed_tokens.weight", type, 96, 128);
        for (int layer = 0; layer < 2; layer++) {
            String l = "model.layers." + layer + ".";
            for (String name : new String[] {"q_proj", "k_proj", "v_proj", "o_proj"}) {
                m.add(l + "self_attn." + name + ".weight", type, 128, 128);
            }
            m.add(l + "mlp.gate_proj.weight", type, 256, 128).add(l + "mlp.up_proj.weight", type, 256, 128)
                    .add(l + "mlp.down_proj.weight", type, 128, 256).add(l + "input_layernorm.weight", type, 128);
        }
        return m.add("model.norm.weight", type, 128).add("lm_head.weight", type, 96, 128);
    }

    /** Products stored [in, out], and sizes that no group divides. */
    private static SmallFolder odd() {
        return new SmallFolder(11).add("h.0.attn.c_attn.weight", DType.F32, 64, 192).add("h.0.attn.c_attn.bias", DType.F32, 192)
                .add("a.weight", DType.F32, 48, 100).add("conv.weight", DType.F32, 8, 4, 3, 3).add("ids", DType.I64, 3);
    }

    @Test
    void everyRecipe() throws IOException {
        write(Device.CPU, DType.F32, DType.F16, DType.BF16).check();
    }

    @Test
    void everyRecipeOnADevice() throws IOException {
        write(Device.cuda(0), DType.F16).checkPart();
    }

    private Golden write(Device device, DType... types) throws IOException {
        Golden golden = new Golden("safetensors");
        Map<String, Path> models = new LinkedHashMap<>();
        for (DType type : types) {
            models.put("llama-" + type.name().toLowerCase(), llama(type).write(folder.resolve("in-" + type), 2));
        }
        models.put("odd", odd().write(folder.resolve("in-odd"), 1));
        for (Map.Entry<String, Path> model : models.entrySet()) {
            for (String recipe : Recipe.NAMES) {
                if (Recipe.named(recipe).requires(Requirement.STATISTICS) || !Recipe.named(recipe).structure().isEmpty()) {
                    continue; // these models have none, nor a graph
                }
                for (boolean force : model.getKey().equals("llama-f32") ? new boolean[] {false, true} : new boolean[] {false}) {
                    String what = model.getKey() + " " + recipe + (force ? " forced" : "");
                    Path out = folder.resolve(what);
                    Collection<Form> forms;
                    try (Compressor c = Compressor.open(model.getValue(), Compressor.Options.DEFAULT.device(device))) {
                        Plan plan = c.plan(Recipe.named(recipe).set("min-size", "0").set("force-scheme", "" + force)
                                .set("shard-size", "200000"));
                        c.compress(plan, out);
                        forms = Targets.forms(plan).values();
                    }
                    boolean factors = forms.stream().anyMatch(f -> f instanceof Form.LowRank);
                    add(golden, what, out, factors);
                    if (!factors && forms.stream().noneMatch(f -> f instanceof Form.Quantized)) {
                        continue; // nothing to expand
                    }
                    Path expanded = folder.resolve(what + " expanded");
                    try (Executor executor = Executor.on(device, 1); CompressedModel m = CompressedModel.open(out, false)) {
                        m.expand(new Destination(expanded, false, false, 1 << 20, Map.of()), 200_000, executor, (tensor, bytes) -> {});
                    }
                    add(golden, what + " expanded", expanded, factors);
                }
            }
        }
        return golden;
    }

    /** All but the manifest, which names versions and times. */
    private static void add(Golden golden, String what, Path out, boolean factors) throws IOException {
        golden.add(what, out, name -> !name.equals(Manifest.NAME), factors);
    }
}
