package dev.tensorpress.model.gguf;

import dev.tensorpress.model.Weight;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** What weights are called in GGUF, by what the usual libraries call them: models of language as Llama has them, and BERT. */
public final class Names {
    private static final Pattern LAYER = Pattern.compile("(?:model\\.|language_model\\.model\\.|model\\.language_model\\.)?layers\\.(\\d{1,9})\\.(.+)"
            + "|(?:bert\\.)?encoder\\.layer\\.(\\d{1,9})\\.(.+)");
    private static final Pattern EXPERT = Pattern.compile("(?:mlp|block_sparse_moe)\\.experts\\.(\\d{1,9})\\.(\\w+)");
    private static final String WEIGHT = ".weight";

    /** Modules outside of layers. */
    private static final Map<String, String> WHOLE = Map.of(
            "lm_head", "output",
            "language_model.lm_head", "output",
            "model.embed_tokens", "token_embd",
            "language_model.model.embed_tokens", "token_embd",
            "model.language_model.embed_tokens", "token_embd");

    /** Modules of a layer, by what follows its number. */
    private static final Map<String, String> PARTS = Map.ofEntries(
            Map.entry("self_attn.q_proj", "attn_q"),
            Map.entry("self_attn.k_proj", "attn_k"),
            Map.entry("self_attn.v_proj", "attn_v"),
            Map.entry("self_attn.qkv_proj", "attn_qkv"),
            Map.entry("self_attn.o_proj", "attn_output"),
            Map.entry("mlp.gate_proj", "ffn_gate"),
            Map.entry("mlp.up_proj", "ffn_up"),
            Map.entry("mlp.gate_up_proj", "ffn_up"),
            Map.entry("mlp.down_proj", "ffn_down"),
            Map.entry("mlp.gate", "ffn_gate_inp"),
            Map.entry("block_sparse_moe.gate", "ffn_gate_inp"),
            Map.entry("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
            Map.entry("mlp.shared_expert.up_proj", "ffn_up_shexp"),
            Map.entry("mlp.shared_expert.down_proj", "ffn_down_shexp"),
            Map.entry("mlp.shared_experts.gate_proj", "ffn_gate_shexp"),
            Map.entry("mlp.shared_experts.up_proj", "ffn_up_shexp"),
            Map.entry("mlp.shared_experts.down_proj", "ffn_down_shexp"),
            Map.entry("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
            Map.entry("attention.self.query", "attn_q"),
            Map.entry("attention.self.key", "attn_k"),
            Map.entry("attention.self.value", "attn_v"),
            Map.entry("attention.output.dense", "attn_output"),
            Map.entry("intermediate.dense", "ffn_up"),
            Map.entry("output.dense", "ffn_down"));

    /** Matrices of an expert. */
    private static final Map<String, String> EXPERTS = Map.of(
            "gate_proj", "ffn_gate_exps", "up_proj", "ffn_up_exps", "down_proj", "ffn_down_exps",
            "w1", "ffn_gate_exps", "w3", "ffn_up_exps", "w2", "ffn_down_exps");

    private Names() {}

    /**
     * Where a weight is in GGUF.
     *
     * @param tensor its name
     * @param expert which part of it, where it is a stack of experts, else -1
     */
    public record Place(String tensor, int expert) {
        @Override
        public String toString() {
            return tensor + (expert < 0 ? "" : ", expert " + expert);
        }
    }

    /** By the weight's name, or that of a product that reads it, which exporters call by the module's path. */
    public static Optional<Place> of(Weight weight) {
        String name = weight.name();
        Optional<Place> place = name.endsWith(WEIGHT) ? ofModule(name.substring(0, name.length() - WEIGHT.length())) : Optional.empty();
        for (String use : weight.uses()) {
            int start = use.indexOf(" /");
            int end = use.lastIndexOf('/');
            if (place.isEmpty() && start >= 0 && end > start + 1) {
                place = ofModule(use.substring(start + 2, end).replace('/', '.'));
            }
        }
        return place;
    }

    private static Optional<Place> ofModule(String module) {
        if (WHOLE.containsKey(module)) {
            return Optional.of(new Place(WHOLE.get(module) + WEIGHT, -1));
        }
        Matcher m = LAYER.matcher(module);
        if (!m.matches()) {
            return Optional.empty();
        }
        String layer = m.group(1) == null ? m.group(3) : m.group(1);
        String part = m.group(1) == null ? m.group(4) : m.group(2);
        Matcher expert = EXPERT.matcher(part);
        String name = expert.matches() ? EXPERTS.get(expert.group(2)) : PARTS.get(part);
        return Optional.ofNullable(name).map(n -> new Place("blk." + layer + "." + n + WEIGHT, expert.matches() ? Integer.parseInt(expert.group(1)) : -1));
    }
}
