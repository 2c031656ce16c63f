package dev.tensorpress.model.safetensors;

import dev.tensorpress.internal.Glob;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.Shape;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;

/**
 * What weights do, from their names and shapes: the format has no graph, but the libraries that write it name modules by
 * custom. A name is a path of modules with dots between, then what the module calls the tensor.
 */
final class Roles {
    private static final Set<String> TABLES = Set.of("wte", "wpe", "embed", "emb", "embed_in", "shared",
            "relative_attention_bias");
    /** Tables of words, as opposed to those of positions and of kinds of token. */
    private static final Set<String> WORDS = Set.of("embed_tokens", "wte", "word_embeddings", "tok_embeddings", "token_embedding",
            "embed", "emb", "embed_in", "shared", "embedding", "embeddings");
    private static final Set<String> HEADS = Set.of("lm_head", "embed_out");
    /** Heads only if they have the shape of a table: elsewhere these are names of other products. */
    private static final Set<String> PERHAPS_HEADS = Set.of("output", "head", "proj_out", "decoder");
    /** GPT-2 has products of another make, whose weights are [in, out]; its successors have the names with [out, in]. */
    private static final Set<String> PERHAPS_TRANSPOSED = Set.of("c_attn", "q_attn", "c_proj", "c_fc");

    /** Matrices of all experts of a layer in one tensor, [expert, in, out]. */
    private static final Set<String> STACKS = Set.of("gate_up_proj", "gate_proj", "up_proj", "down_proj");

    private final List<Safetensors> files;
    private final Function<String, Safetensors.Entry> tensors;
    private final Map<String, Role> given;
    private final Set<String> unused;
    /** Shapes of tables; null until they are asked for. */
    private Set<Shape> tables;
    private boolean transposed;

    /** A role and its axes. */
    record RoleAxes(Role role, int in, int out) {
        private static RoleAxes of(Role role) {
            return new RoleAxes(role, -1, -1);
        }
    }

    /** A name in its parts: {@code model.layers.0.mlp.up_proj.weight} is a weight of up_proj. */
    private record Name(String whole, String last, String leaf) {
        static Name of(String name) {
            int dot = name.lastIndexOf('.');
            return new Name(name, dot < 0 ? "" : name.substring(name.lastIndexOf('.', dot - 1) + 1, dot).toLowerCase(Locale.ROOT),
                    name.substring(dot + 1));
        }

        String module() {
            return whole.substring(0, Math.max(0, whole.length() - leaf.length() - 1));
        }
    }

    /**
     * @param files all of the model
     * @param tensors of the model by name; null if there is none
     * @param given roles by glob, which go before what names and shapes say; the first that fits counts
     */
    Roles(List<Safetensors> files, Function<String, Safetensors.Entry> tensors, Map<String, Role> given) {
        this.files = files;
        this.tensors = tensors;
        this.given = given;
        this.unused = new LinkedHashSet<>(given.keySet());
    }

    /** Looks at all tensors, once, for what tells of others. */
    private void survey() {
        if (tables != null) {
            return;
        }
        tables = new HashSet<>();
        int inFirst = 0;
        for (Safetensors file : files) {
            for (Safetensors.Entry e : file.inOrder()) {
                if (e.shape().rank() != 2) {
                    continue;
                }
                Name n = Name.of(e.name());
                if (isTable(n)) {
                    tables.add(e.shape());
                } else if (inFirst == 0 && PERHAPS_TRANSPOSED.contains(n.last) && n.leaf.equals("weight")) {
                    inFirst = inFirst(n, e.shape());
                }
            }
        }
        transposed = inFirst > 0;
    }

    private boolean asTable(Shape shape) {
        survey();
        return tables.contains(shape);
    }

    private boolean transposed() {
        survey();
        return transposed;
    }

    /** 1 if the bias tells that outputs are along the last axis, -1 if along the first, 0 if it does not tell. */
    private int inFirst(Name n, Shape shape) {
        Safetensors.Entry bias = tensors.apply(n.module() + ".bias");
        if (bias == null || bias.shape().rank() != 1 || shape.dim(0) == shape.dim(1)) {
            return 0;
        }
        return bias.shape().dim(0) == shape.dim(1) ? 1 : -1;
    }

    /**
     * The role of a tensor.
     *
     * @throws UnsupportedRequestException if it is given one that no tensor of its shape can have
     */
    RoleAxes of(String name, Shape shape) {
        RoleAxes found = find(name, shape);
        for (Map.Entry<String, Role> g : given.entrySet()) {
            if (Glob.matches(g.getKey(), name)) {
                unused.remove(g.getKey());
                return g.getValue() == found.role ? found : given(name, shape, g.getKey(), g.getValue());
            }
        }
        return found;
    }

    /** Globs that no name fitted so far, or whose names an earlier one took. */
    Set<String> unused() {
        return unused;
    }

    private static RoleAxes given(String name, Shape shape, String glob, Role role) {
        int rank = shape.rank();
        int least = switch (role) {
            case LINEAR, HEAD, EMBEDDING, RECURRENT -> 2;
            case CONV -> 3;
            case NORM, BIAS, OTHER -> 0;
        };
        if (rank < least) {
            throw new UnsupportedRequestException("role '" + role.id() + "' is given to '" + glob + "', but '" + name
                    + "' of shape " + shape + " cannot have it");
        }
        return switch (role) {
            case LINEAR, HEAD, RECURRENT -> new RoleAxes(role, rank - 1, rank - 2);
            case EMBEDDING -> new RoleAxes(role, -1, 0);
            case CONV -> new RoleAxes(role, 1, 0);
            case NORM, BIAS, OTHER -> RoleAxes.of(role);
        };
    }

    private RoleAxes find(String name, Shape shape) {
        Name n = Name.of(name);
        return switch (shape.rank()) {
            case 1 -> vector(n);
            case 2 -> matrix(n, shape);
            case 3 -> n.last.equals("experts") && STACKS.contains(n.leaf) ? new RoleAxes(Role.LINEAR, 1, 2)
                    : n.leaf.equals("weight") && n.module().contains("conv") ? new RoleAxes(Role.CONV, 1, 0) : RoleAxes.of(Role.OTHER);
            case 4, 5 -> n.leaf.equals("weight") ? new RoleAxes(Role.CONV, 1, 0) : RoleAxes.of(Role.OTHER);
            default -> RoleAxes.of(Role.OTHER);
        };
    }

    private RoleAxes vector(Name n) {
        boolean norm = isNorm(n.last);
        if (n.leaf.equals("bias") || n.leaf.endsWith("_bias") || n.leaf.startsWith("bias_")) {
            Safetensors.Entry weight = tensors.apply(n.module() + ".weight");
            return RoleAxes.of(norm || weight != null && weight.shape().rank() == 1 ? Role.NORM : Role.BIAS);
        }
        // Modules with a vector as their weight are normalisations, whatever they are called.
        return RoleAxes.of(n.leaf.equals("weight") || norm && (n.leaf.equals("gamma") || n.leaf.equals("beta")
                || n.leaf.equals("scale")) ? Role.NORM : Role.OTHER);
    }

    private RoleAxes matrix(Name n, Shape shape) {
        if (isTable(n)) {
            return new RoleAxes(Role.EMBEDDING, -1, 0);
        }
        if (n.leaf.startsWith("weight_ih") || n.leaf.startsWith("weight_hh")) {
            return new RoleAxes(Role.RECURRENT, 1, 0);
        }
        if (n.leaf.equals("kernel")) {
            return new RoleAxes(Role.LINEAR, 0, 1);
        }
        if (!n.leaf.equals("weight") && !n.leaf.endsWith("_weight")) {
            return RoleAxes.of(Role.OTHER);
        }
        if (isNorm(n.last)) {
            return RoleAxes.of(Role.NORM);
        }
        if (HEADS.contains(n.last) || n.whole.endsWith("lm_head.decoder.weight") || n.whole.endsWith("predictions.decoder.weight")
                || PERHAPS_HEADS.contains(n.last) && asTable(shape)) {
            return new RoleAxes(Role.HEAD, 1, 0);
        }
        return PERHAPS_TRANSPOSED.contains(n.last) && transposed() ? new RoleAxes(Role.LINEAR, 0, 1) : new RoleAxes(Role.LINEAR, 1, 0);
    }

    private static boolean isNorm(String module) {
        return module.contains("norm") || module.equals("ln") || module.startsWith("ln_") || numbered(module, "ln")
                || numbered(module, "bn");
    }

    private static boolean numbered(String module, String name) {
        return module.startsWith(name) && module.length() > name.length() && Character.isDigit(module.charAt(name.length()));
    }

    /** A weight of a module of tables, or a table that belongs to a larger module. */
    private static boolean isTable(Name n) {
        return n.leaf.equals("weight") ? isTable(n.last) : n.leaf.equals("embedding") || isTable(n.leaf);
    }

    private static boolean isTable(String module) {
        return !isNorm(module) && !module.contains("patch")
                && (TABLES.contains(module) || module.startsWith("embed_tokens") || module.startsWith("embed_positions")
                || module.endsWith("embedding") || module.endsWith("embeddings") || module.endsWith("_embed")
                || module.endsWith("_emb"));
    }

    /** True for the token embedding, whose rows a head can share. */
    static boolean isTokenEmbedding(String name) {
        Name n = Name.of(name);
        return n.leaf.equals("weight") && WORDS.contains(n.last);
    }
}
