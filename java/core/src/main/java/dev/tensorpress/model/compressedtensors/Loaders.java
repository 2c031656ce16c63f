package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.model.Role;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * What loaders of compressed-tensors ask of a folder beyond the format: vLLM puts some products of a layer into one, and the experts
 * of a layer into one kernel; transformers stacks experts of all layers by one scheme. They refuse folders that do not suit that, or
 * read them wrongly.
 */
final class Loaders {
    /** Products of the same input that become one: what each group's members are called. */
    private static final List<List<String>> FUSED = List.of(List.of("q_proj", "k_proj", "v_proj"), List.of("query", "key", "value"),
            List.of("gate_proj", "up_proj"), List.of("w1", "w3"), List.of("q_a_proj", "kv_a_proj_with_mqa"),
            List.of("in_proj_qkv", "in_proj_z"), List.of("in_proj_b", "in_proj_a"));

    private Loaders() {}

    /** Weights that have to be stored by one scheme. */
    static List<Target.Group> groups(List<Weight> weights) {
        Map<String, List<Weight>> fused = new LinkedHashMap<>();
        Map<String, String> why = new TreeMap<>();
        List<Weight> experts = new ArrayList<>();
        for (Weight w : weights) {
            String module = w.role() == Role.LINEAR && w.tensor().shape().rank() == 2 ? CompressedLowering.module(w.name()) : null;
            if (module == null) {
                continue;
            }
            if (ModulePatterns.isExpert(module)) {
                experts.add(w);
                continue;
            }
            String leaf = module.substring(module.lastIndexOf('.') + 1);
            for (List<String> names : FUSED) {
                if (names.contains(leaf)) {
                    String key = module.substring(0, module.length() - leaf.length()) + names.getFirst();
                    fused.computeIfAbsent(key, k -> new ArrayList<>()).add(w);
                    why.put(key, "loaders make one product of " + String.join(", ", names) + ", which share a scheme");
                }
            }
        }
        List<Target.Group> groups = new ArrayList<>();
        for (Map.Entry<String, List<Weight>> e : fused.entrySet()) {
            if (e.getValue().size() > 1) {
                groups.add(new Target.Group(e.getValue(), why.get(e.getKey())));
            }
        }
        if (experts.size() > 1) {
            groups.add(new Target.Group(experts, "loaders read all experts by one scheme"));
        }
        return groups;
    }

    /** The sizes of the rows of all experts. */
    static long[] expertColumns(List<Weight> weights) {
        Set<Long> columns = new LinkedHashSet<>();
        for (Weight w : weights) {
            if (w.role() == Role.LINEAR && w.tensor().shape().rank() == 2 && ModulePatterns.isExpert(w.name())) {
                columns.add(w.tensor().shape().dim(1));
            }
        }
        long[] all = new long[columns.size()];
        int n = 0;
        for (long c : columns) {
            all[n++] = c;
        }
        return all;
    }
}
