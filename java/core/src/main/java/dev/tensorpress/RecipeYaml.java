package dev.tensorpress;

import dev.tensorpress.method.CorrectMethod;
import dev.tensorpress.method.FactorizeMethod;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnknownNameException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.snakeyaml.engine.v2.api.LoadSettings;
import org.snakeyaml.engine.v2.composer.Composer;
import org.snakeyaml.engine.v2.events.CollectionEndEvent;
import org.snakeyaml.engine.v2.events.CollectionStartEvent;
import org.snakeyaml.engine.v2.events.Event;
import org.snakeyaml.engine.v2.exceptions.Mark;
import org.snakeyaml.engine.v2.exceptions.MarkedYamlEngineException;
import org.snakeyaml.engine.v2.exceptions.YamlEngineException;
import org.snakeyaml.engine.v2.nodes.MappingNode;
import org.snakeyaml.engine.v2.nodes.Node;
import org.snakeyaml.engine.v2.nodes.NodeTuple;
import org.snakeyaml.engine.v2.nodes.ScalarNode;
import org.snakeyaml.engine.v2.nodes.SequenceNode;
import org.snakeyaml.engine.v2.parser.ParserImpl;
import org.snakeyaml.engine.v2.scanner.StreamReader;

/**
 * Recipes as YAML; {@code docs/recipes.md} describes them by example. It works on the tree of nodes, not on loaded
 * objects: nodes know their line, and values reach the methods as the text that {@code --set} would give them.
 */
final class RecipeYaml {
    /** The library takes seconds for a comment of a megabyte. */
    private static final int LONGEST = 1 << 18;
    private static final int DEEPEST = 32;
    private static final String ONE_METHOD = "a step needs one method: 'prune', 'factorize', 'quantize' or 'correct'";

    private final String source;

    private RecipeYaml(String source) {
        this.source = source;
    }

    /**
     * @param source what messages call the text, usually its file
     * @throws IllegalArgumentException naming source and line
     */
    static Recipe parse(String source, String text) {
        RecipeYaml yaml = new RecipeYaml(source);
        if (text.length() > LONGEST) {
            throw new IllegalArgumentException(source + " is too long for a recipe");
        }
        LoadSettings settings = LoadSettings.builder().setLabel(source).build();
        try {
            yaml.checkDepth(new ParserImpl(settings, new StreamReader(settings, text)));
            Iterator<Node> documents =
                    new Composer(settings, new ParserImpl(settings, new StreamReader(settings, text)));
            if (!documents.hasNext()) {
                throw new IllegalArgumentException(source + " is empty; a recipe has at least 'steps'");
            }
            Node recipe = documents.next();
            if (documents.hasNext()) {
                throw yaml.wrong(documents.next(), "a recipe is one document, but here starts another");
            }
            return yaml.recipe(recipe);
        } catch (MarkedYamlEngineException e) {
            int line = e.getProblemMark().map(mark -> mark.getLine() + 1).orElse(1);
            throw new IllegalArgumentException(source + ":" + line + ": " + e.getProblem(), e);
        } catch (YamlEngineException e) {
            throw new IllegalArgumentException(source + ": " + e.getMessage(), e);
        }
    }

    /** The library composes by recursion: text nested deep enough would overflow the stack. */
    private void checkDepth(Iterator<Event> events) {
        int depth = 0;
        while (events.hasNext()) {
            Event event = events.next();
            if (event instanceof CollectionStartEvent) {
                if (++depth > DEEPEST) {
                    throw misplaced(event.getStartMark(), "nested deeper than any recipe");
                }
            } else if (event instanceof CollectionEndEvent) {
                depth--;
            }
        }
    }

    private Recipe recipe(Node node) {
        Map<String, Node> keys = mapping(node, "a recipe", "name", "target", "min-size", "exclude", "options", "steps");
        long minSize = keys.containsKey("min-size") ? size(keys.get("min-size")) : Selector.DEFAULT_MIN_SIZE;
        Map<String, String> options = new LinkedHashMap<>();
        if (keys.containsKey("options")) {
            for (Map.Entry<String, Node> option : mapping(keys.get("options"), "options").entrySet()) {
                options.put(option.getKey(), text(option.getValue(), option.getKey()));
            }
        }
        Node list = keys.get("steps");
        if (!(list instanceof SequenceNode sequence) || sequence.getValue().isEmpty()) {
            throw wrong(list == null ? node : list, "a recipe needs 'steps', a list of at least one");
        }
        List<Recipe.Step> steps = new ArrayList<>();
        Set<String> names = new LinkedHashSet<>();
        for (Node item : sequence.getValue()) {
            Recipe.Step step = step(item, steps.size() + 1, minSize);
            if (!names.add(step.name())) {
                throw wrong(item, "there is a step '" + step.name() + "' already");
            }
            steps.add(step);
        }
        String name = keys.containsKey("name") ? text(keys.get("name"), "name") : source;
        String target = keys.containsKey("target") ? text(keys.get("target"), "target") : "";
        return new Recipe(name, target, steps, texts(keys.get("exclude"), "exclude"), options);
    }

    private Recipe.Step step(Node node, int number, long minSize) {
        Map<String, Node> keys = mapping(node, "a step", "name", "select", "prune", "factorize", "quantize", "correct");
        String kind = null;
        for (String key : List.of("prune", "factorize", "quantize", "correct")) {
            if (keys.containsKey(key)) {
                if (kind != null) {
                    throw wrong(node, ONE_METHOD);
                }
                kind = key;
            }
        }
        if (kind == null) {
            throw wrong(node, ONE_METHOD);
        }
        String name = "step" + number;
        if (keys.containsKey("name")) {
            name = text(keys.get("name"), "name");
            if (name.isEmpty() || name.indexOf('.') >= 0) {
                throw wrong(keys.get("name"), "the name of a step must not be empty, nor hold a dot: the setting "
                        + name + ".bits could not tell it from the option");
            }
        }
        Node options = keys.get(kind);
        Method method = switch (kind) {
            case "prune" -> prune(options);
            case "factorize" -> factorize(options);
            case "quantize" -> quantize(options);
            default -> correct(options);
        };
        return new Recipe.Step(name, selector(keys.get("select"), minSize), method);
    }

    private Selector selector(Node node, long minSize) {
        if (node == null) {
            return new Selector(Set.of(), List.of(), minSize);
        }
        Map<String, Node> keys = mapping(node, "select", "role", "name", "min-size");
        Set<Role> roles = new LinkedHashSet<>();
        for (String role : texts(keys.get("role"), "role")) {
            roles.add(role(keys.get("role"), role));
        }
        long smallest = keys.containsKey("min-size") ? size(keys.get("min-size")) : minSize;
        return new Selector(roles, texts(keys.get("name"), "name"), smallest);
    }

    private Role role(Node node, String id) {
        try {
            return Role.of(id);
        } catch (UnknownNameException e) {
            throw wrong(node, e.getMessage());
        }
    }

    private Method quantize(Node node) {
        Map<String, Node> keys = options(node, QuantizeMethod.int8());
        if (keys.containsKey("block") && keys.containsKey("per")) {
            throw wrong(keys.get("per"), "'block' and 'per' exclude each other");
        }
        Method method = QuantizeMethod.int8();
        for (Map.Entry<String, Node> option : keys.entrySet()) {
            Node value = option.getValue();
            method = with(method, option.getKey(), value, value instanceof MappingNode && option.getKey().equals("clip")
                    ? clip(value)
                    : text(value, option.getKey()));
        }
        return method;
    }

    private Method with(Method method, String option, Node node, String value) {
        try {
            return method.with(option, value);
        } catch (IllegalArgumentException e) {
            throw wrong(node, e.getMessage());
        }
    }

    private Method prune(Node node) {
        Map<String, Node> keys = options(node, PruneMethod.sparsity(0));
        Method method = null;
        String said = null;
        for (String option : List.of("sparsity", "schedule", "threshold", "budget", "pattern")) {
            Node value = keys.get(option);
            if (value == null || option.equals("pattern") && !text(value, option).contains(":")) {
                continue;
            }
            if (said != null) {
                throw wrong(value, "'" + said + "' and '" + option + "' exclude each other: both say how much goes");
            }
            said = option;
            method = with(PruneMethod.sparsity(0), option, value, option.equals("schedule") ? schedule(value)
                    : text(value, option));
        }
        if (method == null) {
            throw wrong(node, "prune needs 'sparsity', 'schedule', 'threshold', 'budget', or a pattern N:M");
        }
        // What depends on others comes last, wherever it stands.
        for (String option : List.of("pattern", "scope", "step")) {
            Node value = keys.get(option);
            if (value == null || option.equals(said)) {
                continue;
            }
            if (!method.uses(option)) {
                throw wrong(value, "'" + option + "' means nothing beside '" + said + "'");
            }
            method = with(method, option, value, text(value, option));
        }
        return method;
    }

    private Method factorize(Node node) {
        Map<String, Node> keys = options(node, FactorizeMethod.rank(1));
        Node relative = keys.remove("relative");
        Method method = null;
        String said = null;
        for (Map.Entry<String, Node> option : keys.entrySet()) {
            if (said != null) {
                throw wrong(option.getValue(), "'" + said + "' and '" + option.getKey()
                        + "' exclude each other: both say how much stays");
            }
            said = option.getKey();
            method = with(FactorizeMethod.rank(1), said, option.getValue(), text(option.getValue(), said));
        }
        if (method == null) {
            throw wrong(node, "factorize needs 'rank', 'energy', 'error' or 'budget'");
        }
        if (relative == null) {
            return method;
        }
        if (!method.uses("relative")) {
            throw wrong(relative, "'relative' means nothing beside '" + said + "'");
        }
        return with(method, "relative", relative, text(relative, "relative"));
    }

    private Method correct(Node node) {
        Method method = CorrectMethod.rank(1);
        Map<String, Node> keys = options(node, method);
        if (!keys.containsKey("rank")) {
            throw wrong(node, "correct needs 'rank'");
        }
        for (Map.Entry<String, Node> option : keys.entrySet()) {
            method = with(method, option.getKey(), option.getValue(), text(option.getValue(), option.getKey()));
        }
        return method;
    }

    /** A list of levels, or a map of the cubic one. */
    private String schedule(Node node) {
        if (node instanceof MappingNode) {
            Map<String, Node> keys = mapping(node, "schedule", "from", "to", "steps");
            StringBuilder cubic = new StringBuilder("cubic");
            for (String key : List.of("from", "to", "steps")) {
                if (!keys.containsKey(key)) {
                    throw wrong(node, "schedule needs '" + key + "'");
                }
                cubic.append(':').append(text(keys.get(key), key));
            }
            return cubic.toString();
        }
        return String.join(",", texts(node, "schedule"));
    }

    private String clip(Node node) {
        Map<String, Node> keys = mapping(node, "clip", "steps", "min");
        if (!keys.containsKey("steps")) {
            throw wrong(node, "clip needs 'steps'");
        }
        String steps = text(keys.get("steps"), "steps");
        return keys.containsKey("min") ? steps + ":" + text(keys.get("min"), "min") : steps;
    }

    private long size(Node node) {
        String value = text(node, "min-size");
        try {
            long size = Long.parseLong(value);
            if (size >= 0) {
                return size;
            }
        } catch (NumberFormatException e) {
            // said below
        }
        throw wrong(node, "min-size must be a number of elements, but is '" + value + "'");
    }

    private Map<String, Node> options(Node node, Method method) {
        return mapping(node, method.name(), method.options().toArray(String[]::new));
    }

    /** Keys and values in order; {@code known} empty for any key. */
    private Map<String, Node> mapping(Node node, String what, String... known) {
        if (!(node instanceof MappingNode mapping)) {
            throw wrong(node, what + " must be a map of keys and values");
        }
        Map<String, Node> keys = new LinkedHashMap<>();
        for (NodeTuple pair : mapping.getValue()) {
            String key = text(pair.getKeyNode(), "a key");
            if (known.length > 0 && !List.of(known).contains(key)) {
                throw wrong(pair.getKeyNode(),
                        "unknown key '" + key + "' in " + what + UnknownNameException.hint(key, List.of(known)));
            }
            if (keys.put(key, pair.getValueNode()) != null) {
                throw wrong(pair.getKeyNode(), "key '" + key + "' is there twice");
            }
        }
        return keys;
    }

    /** One text or a list of them; none if the key is not there. */
    private List<String> texts(Node node, String key) {
        if (node == null) {
            return List.of();
        }
        if (!(node instanceof SequenceNode sequence)) {
            return List.of(text(node, key));
        }
        List<String> all = new ArrayList<>();
        for (Node item : sequence.getValue()) {
            all.add(text(item, key));
        }
        return all;
    }

    private String text(Node node, String key) {
        if (node instanceof ScalarNode scalar) {
            return scalar.getValue();
        }
        throw wrong(node, key + " must be a single value");
    }

    private IllegalArgumentException wrong(Node node, String message) {
        return misplaced(node.getStartMark(), message);
    }

    private IllegalArgumentException misplaced(Optional<Mark> mark, String message) {
        return new IllegalArgumentException(source + ":" + mark.map(m -> m.getLine() + 1).orElse(1) + ": " + message);
    }

    /**
     * A recipe as text that {@link #parse} makes the same recipe of. Every option is said, and sets and maps are sorted: equal
     * recipes have equal texts, whatever the defaults become.
     *
     * <p>What only Java can say is not in it: of weights of inputs that a correction has, a comment holds a digest, and
     * a method of another class is written as it prints itself.
     */
    static String write(Recipe recipe) {
        StringBuilder out = new StringBuilder("name: ").append(quoted(recipe.name())).append('\n');
        if (!recipe.target().isEmpty()) {
            out.append("target: ").append(quoted(recipe.target())).append('\n');
        }
        if (!recipe.excludes().isEmpty()) {
            out.append("exclude: ").append(quoted(recipe.excludes())).append('\n');
        }
        if (!recipe.options().isEmpty()) {
            out.append("options:\n");
            for (Map.Entry<String, String> option : new TreeMap<>(recipe.options()).entrySet()) {
                out.append("  ").append(quoted(option.getKey())).append(": ").append(quoted(option.getValue())).append('\n');
            }
        }
        out.append("steps:\n");
        for (Recipe.Step step : recipe.steps()) {
            Selector s = step.selector();
            out.append("  - name: ").append(quoted(step.name())).append("\n    select: {");
            if (!s.roles().isEmpty()) {
                List<String> roles = new ArrayList<>();
                for (Role role : new TreeSet<>(s.roles())) {
                    roles.add(role.id());
                }
                out.append("role: [").append(String.join(", ", roles)).append("], ");
            }
            if (!s.names().isEmpty()) {
                out.append("name: ").append(quoted(s.names())).append(", ");
            }
            out.append("min-size: ").append(s.minSize()).append("}\n    ").append(step.method().name()).append(": ");
            options(step.method(), out);
            out.append('\n');
        }
        return out.toString();
    }

    private static void options(Method method, StringBuilder out) {
        if (method instanceof QuantizeMethod q) {
            out.append("{bits: ").append(q.bits()).append(q.grain() == QuantizeMethod.Grain.BLOCK ? ", block: " + q.block()
                    : ", per: " + q.grain().name().toLowerCase(Locale.ROOT));
            out.append(", symmetric: ").append(q.symmetric()).append(", range: ").append(q.range().id()).append(", clip: ");
            if (q.clipSteps() == 1 && q.clipMin() == 1) {
                out.append("none");
            } else {
                out.append("{steps: ").append(q.clipSteps()).append(", min: ").append(q.clipMin()).append('}');
            }
            out.append(", activations: ").append(q.activations().id()).append(", weights: ").append(q.weights().id()).append('}');
        } else if (method instanceof PruneMethod p && p.pattern().groups()) {
            out.append("{pattern: ").append(quoted(p.pattern().toString())).append('}');
        } else if (method instanceof PruneMethod p) {
            out.append("{pattern: ").append(quoted(p.pattern().toString())).append(", scope: ").append(p.scope().id());
            if (p.budget() >= 0) {
                out.append(", budget: ").append(p.budget());
            } else if (p.threshold() > 0) {
                out.append(", threshold: ").append(p.threshold());
            } else if (p.levels().size() == 1) {
                out.append(", sparsity: ").append(p.levels().getFirst());
            } else {
                out.append(", schedule: ").append(p.levels()).append(p.step() == 0 ? "" : ", step: " + p.step());
            }
            out.append('}');
        } else if (method instanceof FactorizeMethod f) {
            out.append(f.rank() > 0 ? "{rank: " + f.rank() : f.energy() > 0 ? "{energy: " + f.energy()
                    : f.error() > 0 ? "{error: " + f.error()
                    : "{budget: " + f.budget() + ", relative: " + f.relative()).append('}');
        } else if (method instanceof CorrectMethod c) {
            out.append("{rank: ").append(c.rank()).append(", factors: ").append(c.factors().name().toLowerCase(Locale.ROOT))
                    .append(", max-bits: ").append(c.maxBits()).append('}');
            if (!c.inputs().isEmpty()) {
                out.append(" # weights of inputs: SHA-256 ").append(digest(c.inputs()));
            }
        } else {
            out.append(quoted(method.toString()));
        }
    }

    private static String digest(Map<String, double[]> inputs) {
        MessageDigest sha;
        try {
            sha = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every Java has it
        }
        for (Map.Entry<String, double[]> e : new TreeMap<>(inputs).entrySet()) {
            byte[] name = e.getKey().getBytes(StandardCharsets.UTF_8);
            ByteBuffer b = ByteBuffer.allocate(8 + name.length + 8 * e.getValue().length);
            b.putInt(name.length).put(name).putInt(e.getValue().length);
            for (double d : e.getValue()) {
                b.putDouble(d);
            }
            sha.update(b.flip());
        }
        return HexFormat.of().formatHex(sha.digest());
    }

    private static String quoted(List<String> texts) {
        List<String> all = new ArrayList<>();
        for (String text : texts) {
            all.add(quoted(text));
        }
        return "[" + String.join(", ", all) + "]";
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        text.codePoints().forEach(c -> {
            if (c == '"' || c == '\\') {
                out.append('\\').append((char) c);
            } else if (c >= ' ' && c <= '~') {
                out.append((char) c);
            } else {
                out.append("\\U").append(HexFormat.of().toHexDigits(c, 8));
            }
        });
        return out.append('"').toString();
    }
}
