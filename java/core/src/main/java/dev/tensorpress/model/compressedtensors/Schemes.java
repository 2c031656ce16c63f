package dev.tensorpress.model.compressedtensors;

import com.fasterxml.jackson.core.JsonToken;
import dev.tensorpress.io.StrictJson;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * What {@code quantization_config} of a folder of compressed-tensors says: by which scheme which modules are stored. What is
 * left out means what the format's specification has as its default; what is not known here is refused.
 */
final class Schemes {
    static final String KEY = "quantization_config";
    static final String METHOD = "compressed-tensors";
    private static final String LINEAR = "Linear";
    private static final String PATTERN = "re:";
    /** Characters of all patterns together, and what matching them takes for each character of a name: more is no use of them. */
    private static final int MOST_CHARACTERS = 1 << 14;
    private static final int MOST_STATES = 1 << 12;

    private final Path path;
    private final Map<String, Scheme> byName = new HashMap<>();
    private final Map<NamePattern, Scheme> byPattern = new LinkedHashMap<>();
    private Scheme linear;
    private final Set<String> ignored = new HashSet<>();
    private final List<NamePattern> ignoredPatterns = new ArrayList<>();
    private int characters;
    private int states;

    private Schemes(Path path) {
        this.path = path;
    }

    /**
     * Reads a configuration.
     *
     * @return null if it says nothing of quantization
     * @throws MalformedModelException if it is not JSON, or not what the specification describes
     * @throws UnsupportedRequestException if it asks for something that is not known here
     */
    static Schemes read(Path path) throws IOException {
        return StrictJson.read(path, "the configuration of a model", json -> {
            Schemes[] found = new Schemes[1];
            json.next();
            json.members("the configuration", key -> {
                if (key.equals(KEY) && json.token() != JsonToken.VALUE_NULL) {
                    found[0] = new Schemes(path);
                    found[0].readAll(json);
                } else {
                    json.skip();
                }
            });
            json.end();
            return found[0];
        });
    }

    /** The scheme of a module, or null if it has none: names count before patterns, patterns before the type. */
    Scheme of(String module) {
        if (ignored(module)) {
            return null;
        }
        Scheme s = byName.get(module);
        for (Map.Entry<NamePattern, Scheme> e : byPattern.entrySet()) {
            if (s == null && e.getKey().matches(module)) {
                s = e.getValue();
            }
        }
        return s == null ? linear : s;
    }

    /** True if a group names this very module. */
    boolean names(String module) {
        return byName.containsKey(module) && !ignored(module);
    }

    /** True if a module is stored as if nothing were said of it. */
    boolean ignored(String module) {
        boolean found = ignored.contains(module);
        for (NamePattern p : ignoredPatterns) {
            found = found || p.matches(module);
        }
        return found;
    }

    // Reading

    /** What has been read of a group. */
    private static final class Group {
        final List<String> targets = new ArrayList<>();
        String format;
        Arguments weights;
        Arguments inputs;
        Arguments outputs;
    }

    private void readAll(StrictJson json) {
        long at = json.at();
        String[] format = new String[1];
        String[] method = new String[1];
        Map<String, Group> groups = new LinkedHashMap<>();
        json.members("'" + KEY + "'", key -> {
            switch (key) {
                case "quant_method" -> method[0] = string(json, key);
                case "format" -> format[0] = string(json, key);
                case "quantization_status" -> {
                    if (!string(json, key).equals("compressed")) {
                        throw unsupported("a quantization_status of '" + json.text() + "'", "compressed");
                    }
                }
                case "config_groups" -> json.members("'" + key + "'", name -> groups.put(name, group(json, name)));
                case "ignore" -> strings(json, key, ignored);
                case "kv_cache_scheme" -> nothing(json, "a scheme for the cache of keys and values, kv_cache_scheme,");
                case "sparsity_config" -> nothing(json, "sparsity_config");
                case "transform_config" -> nothing(json, "transform_config");
                case "version", "global_compression_ratio", "run_compressed" -> json.skip();
                default -> throw unsupported("'" + key + "' of " + KEY, null);
            }
        });
        if (!METHOD.equals(method[0])) {
            throw unsupported("the method " + method[0], METHOD);
        }
        if (groups.isEmpty()) {
            throw bad(at, KEY + " has no config_groups");
        }
        for (Map.Entry<String, Group> e : groups.entrySet()) {
            add(e.getKey(), e.getValue(), format[0], at);
        }
        for (String name : ignored) {
            if (name.startsWith(PATTERN)) {
                ignoredPatterns.add(pattern(name, at));
            }
        }
    }

    private Group group(StrictJson json, String name) {
        Group g = new Group();
        json.members("'" + name + "'", key -> {
            switch (key) {
                case "targets" -> strings(json, key, g.targets);
                case "format" -> g.format = json.token() == JsonToken.VALUE_NULL ? null : string(json, key);
                case "weights" -> g.weights = arguments(json, key);
                case "input_activations" -> g.inputs = arguments(json, key);
                case "output_activations" -> g.outputs = arguments(json, key);
                default -> throw json.bad("'" + key + "' of '" + name + "' is not known");
            }
        });
        return g;
    }

    /** How values are quantized, as far as it concerns a reader of weights. */
    private static final class Arguments {
        long at;
        long bits = 8;
        String type = "int";
        boolean symmetric = true;
        String strategy;
        long size;
        boolean dynamic;
        String order;
    }

    private Arguments arguments(StrictJson json, String what) {
        if (json.token() == JsonToken.VALUE_NULL) {
            return null;
        }
        Arguments a = new Arguments();
        a.at = json.at();
        json.members("'" + what + "'", key -> {
            if (json.token() == JsonToken.VALUE_NULL) {
                return; // as if it were left out
            }
            switch (key) {
                case "num_bits" -> a.bits = number(json, key);
                case "type" -> a.type = string(json, key);
                case "symmetric" -> a.symmetric = truth(json, key);
                case "strategy" -> a.strategy = string(json, key);
                case "group_size" -> a.size = number(json, key);
                // Which values are found while the model runs, or by an order of columns, may be named instead of said.
                case "dynamic" -> a.dynamic = json.token() == JsonToken.VALUE_STRING || truth(json, key);
                case "actorder" -> a.order = json.token() == JsonToken.VALUE_STRING ? json.text()
                        : truth(json, key) ? "group" : null;
                case "block_structure", "observer", "observer_kwargs", "scale_dtype", "zp_dtype" -> json.skip();
                default -> throw json.bad("'" + key + "' of '" + what + "' is not known");
            }
        });
        return a;
    }

    private void add(String name, Group g, String format, long at) {
        String own = g.format == null ? format : g.format;
        Arguments w = g.weights;
        if (w == null || own == null) {
            throw unsupported("'" + name + "', which says nothing of " + (w == null ? "weights" : "their format"), null);
        }
        if (!Scheme.formats().contains(own)) {
            throw unsupported("the format '" + own + "' of '" + name + "'", String.join(" and ", Scheme.formats()));
        }
        if (!w.type.equals("int") || w.dynamic) {
            throw unsupported("weights of " + (w.dynamic ? "dynamic scales" : "the type '" + w.type + "'") + " in '" + name + "'",
                    "integers with scales of their own");
        }
        boolean packed = Scheme.isPacked(own);
        if (packed ? w.bits != 4 && w.bits != 8 : w.bits < 2 || w.bits > 8) {
            throw unsupported("weights of " + w.bits + " bits in '" + name + "'", packed ? "4 and 8" : "2 to 8");
        }
        if (w.order != null && !w.order.equals("weight") && !w.order.equals("static")) {
            throw unsupported("the order of columns '" + w.order + "' of '" + name + "'", "static ones");
        }
        if (g.outputs != null || g.inputs != null && !g.inputs.dynamic) {
            throw unsupported("scales of activations that are stored, as those of '" + name + "'",
                    "activations that are quantized when the model runs");
        }
        Scheme s = new Scheme(packed, (int) w.bits, w.symmetric, strategy(name, w), Math.max(0, w.size), g.inputs != null);
        if (g.targets.isEmpty()) {
            throw bad(at, "'" + name + "' has no targets");
        }
        for (String target : g.targets) {
            if (target.equals(LINEAR)) {
                linear = linear == null ? s : linear;
            } else if (target.startsWith(PATTERN)) {
                byPattern.put(pattern(target, at), s);
            } else {
                byName.putIfAbsent(target, s);
            }
        }
    }

    private Scheme.Strategy strategy(String name, Arguments w) {
        String said = w.strategy != null ? w.strategy : w.size == 0 ? "tensor" : w.size < 0 ? "channel" : "group";
        Scheme.Strategy s = switch (said) {
            case "tensor" -> Scheme.Strategy.TENSOR;
            case "channel" -> Scheme.Strategy.CHANNEL;
            case "group" -> Scheme.Strategy.GROUP;
            default -> throw unsupported("the strategy '" + said + "' of '" + name + "'", "tensor, channel and group");
        };
        if (s == Scheme.Strategy.GROUP != w.size > 0) {
            throw bad(w.at, "a group_size of " + w.size + " does not go with the strategy '" + said + "'");
        }
        return s;
    }

    private NamePattern pattern(String target, long at) {
        characters = Math.min(MOST_CHARACTERS + 1, characters + target.length());
        if (characters > MOST_CHARACTERS) {
            throw unsupported("patterns of more than " + MOST_CHARACTERS + " characters", null);
        }
        try {
            NamePattern p = new NamePattern(target.substring(PATTERN.length()), MOST_STATES - states);
            states += p.size();
            return p;
        } catch (IllegalArgumentException e) {
            throw bad(at, "'" + target + "' is no pattern: " + e.getMessage());
        } catch (UnsupportedOperationException e) {
            throw unsupported("the pattern '" + target + "', which " + e.getMessage(), "modules by their names");
        }
    }

    private static String string(StrictJson json, String key) {
        if (json.token() != JsonToken.VALUE_STRING) {
            throw json.bad("expected a string as '" + key + "'");
        }
        return json.text();
    }

    private static long number(StrictJson json, String key) {
        if (json.token() != JsonToken.VALUE_NUMBER_INT || !json.fits()) {
            throw json.bad("expected a whole number as '" + key + "'");
        }
        return json.number();
    }

    private static boolean truth(StrictJson json, String key) {
        Boolean b = json.truth();
        if (b == null) {
            throw json.bad("expected true or false as '" + key + "'");
        }
        return b;
    }

    private static void strings(StrictJson json, String key, Collection<String> to) {
        if (json.token() == JsonToken.VALUE_NULL) {
            return;
        }
        if (json.token() != JsonToken.START_ARRAY) {
            throw json.bad("expected an array as '" + key + "'");
        }
        while (json.next() != JsonToken.END_ARRAY) {
            to.add(string(json, key));
        }
    }

    /** Null, or an object without keys, as some writers put for what is not there. */
    private void nothing(StrictJson json, String what) {
        if (json.token() != JsonToken.VALUE_NULL
                && (json.token() != JsonToken.START_OBJECT || json.next() != JsonToken.END_OBJECT)) {
            throw unsupported(what, null);
        }
    }

    /** @param instead what can be read, or null */
    private UnsupportedRequestException unsupported(String what, String instead) {
        return new UnsupportedRequestException(path + ": cannot read " + what + (instead == null ? "" : "; can read " + instead));
    }

    private MalformedModelException bad(long at, String expected) {
        return new MalformedModelException(path, at, expected);
    }
}
