package dev.tensorpress;

import dev.tensorpress.method.Method;
import dev.tensorpress.method.Methods;
import dev.tensorpress.method.OptionException;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.SlimMethod;
import dev.tensorpress.structure.StructureMethod;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.UnaryOperator;
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

    private static final String NO_STEPS = "a recipe needs 'steps', a list of at least one";
    private static final String[] STEP = keys(Methods.NAMES);
    private static final String[] CHANGE = keys(StructureMethod.NAMES);
    private static final List<String> KINDS = Arrays.stream(Group.Kind.values()).map(Group.Kind::id).toList();

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
        Map<String, Node> keys = mapping(node, "a recipe", "name", "target", "min-size", "exclude", "options", "structure", "steps");
        long minSize = keys.containsKey("min-size") ? size(keys.get("min-size")) : Selector.DEFAULT_MIN_SIZE;
        Map<String, String> options = new LinkedHashMap<>();
        if (keys.containsKey("options")) {
            for (Map.Entry<String, Node> option : mapping(keys.get("options"), "options").entrySet()) {
                options.put(option.getKey(), text(option.getValue(), option.getKey()));
                checkTargets(option.getKey(), options.get(option.getKey()), option.getValue());
            }
        }
        if (!keys.containsKey("structure") && !keys.containsKey("steps")) {
            throw wrong(node, NO_STEPS);
        }
        Set<String> names = new LinkedHashSet<>();
        List<Recipe.Change> structure = new ArrayList<>();
        for (Node item : list(keys.get("structure"), "'structure' must be a list of at least one change")) {
            structure.add(change(item, names));
        }
        List<Recipe.Step> steps = new ArrayList<>();
        for (Node item : list(keys.get("steps"), NO_STEPS)) {
            steps.add(step(item, steps.size() + 1, minSize, names));
        }
        String name = keys.containsKey("name") ? text(keys.get("name"), "name") : source;
        String target = keys.containsKey("target") ? text(keys.get("target"), "target") : "";
        return new Recipe(name, target, structure, steps, texts(keys.get("exclude"), "exclude"), options);
    }

    /** Which target the recipe is for is not known yet, but an option means the same to all that have it. */
    private void checkTargets(String name, String value, Node node) {
        for (Formats.Entry format : Formats.ALL) {
            Option option = Option.of(format.options(), name);
            if (option != null) {
                try {
                    Option.check("", List.of(option), Map.of(name, value));
                } catch (IllegalArgumentException e) {
                    throw wrong(node, e.getMessage());
                }
            }
        }
    }

    /** The items; none if the key is not there. */
    private List<Node> list(Node node, String otherwise) {
        if (node == null) {
            return List.of();
        }
        if (!(node instanceof SequenceNode sequence) || sequence.getValue().isEmpty()) {
            throw wrong(node, otherwise);
        }
        return sequence.getValue();
    }

    private Recipe.Step step(Node node, int number, long minSize, Set<String> names) {
        Map<String, Node> keys = mapping(node, "a step", STEP);
        String kind = method(node, keys, Methods.NAMES, "a step needs one method: ");
        return new Recipe.Step(name(node, keys, "step" + number, names), selector(keys.get("select"), minSize), method(kind, keys.get(kind)));
    }

    /** Which of the methods the step names. */
    private String method(Node node, Map<String, Node> keys, List<String> methods, String otherwise) {
        List<String> named = methods.stream().filter(keys::containsKey).toList();
        if (named.size() != 1) {
            throw wrong(node, otherwise + Option.any(methods));
        }
        return named.getFirst();
    }

    /** What a step is called. */
    private String name(Node node, Map<String, Node> keys, String otherwise, Set<String> names) {
        String name = keys.containsKey("name") ? text(keys.get("name"), "name") : otherwise;
        if (name.isEmpty() || name.indexOf('.') >= 0) {
            throw wrong(keys.get("name"), "the name of a step must not be empty, nor hold a dot: the setting "
                    + name + ".bits could not tell it from the option");
        }
        if (!names.add(name)) {
            throw wrong(node, "there is a step '" + name + "' already");
        }
        return name;
    }

    private static String[] keys(List<String> methods) {
        List<String> keys = new ArrayList<>(List.of("name", "select"));
        keys.addAll(methods);
        return keys.toArray(String[]::new);
    }

    private Recipe.Change change(Node node, Set<String> names) {
        Map<String, Node> keys = mapping(node, "a change of the structure", CHANGE);
        String kind = method(node, keys, StructureMethod.NAMES, "a change of the structure needs one method: ");
        String name = name(node, keys, kind + (names.size() + 1), names);
        StructureMethod method = StructureMethod.of(kind);
        if (!(method instanceof SlimMethod) && keys.containsKey("select")) {
            throw wrong(keys.get("select"), "'select' means nothing beside '" + kind + "', which goes over the whole graph");
        }
        Map<String, Node> select = keys.containsKey("select") ? mapping(keys.get("select"), "select", "kind", "name") : Map.of();
        Set<Group.Kind> kinds = new LinkedHashSet<>();
        for (String id : some(select.get("kind"), "kind")) {
            int at = KINDS.indexOf(id);
            if (at < 0) {
                throw wrong(select.get("kind"), "there is no kind '" + id + "'" + UnknownNameException.hint(id, KINDS));
            }
            kinds.add(Group.Kind.values()[at]);
        }
        if (kinds.isEmpty() && method instanceof SlimMethod) {
            kinds.addAll(Recipe.Change.DEFAULT_KINDS);
        }
        return new Recipe.Change(name, kinds, some(select.get("name"), "name"), method(method, keys.get(kind)));
    }

    private StructureMethod method(StructureMethod start, Node node) {
        StructureMethod method = start;
        Map<String, Node> keys = mapping(node, start.name(), Option.names(start.options()).toArray(String[]::new));
        for (Map.Entry<String, Node> key : keys.entrySet()) {
            try {
                method = method.with(key.getKey(), value(Option.of(start.options(), key.getKey()), key.getValue()));
            } catch (IllegalArgumentException e) {
                throw wrong(key.getValue(), e.getMessage());
            }
        }
        for (Map.Entry<String, Node> key : keys.entrySet()) {
            if (!method.uses(key.getKey())) {
                throw wrong(key.getValue(), "'" + key.getKey() + "' means nothing beside what else '" + start.name() + "' says");
            }
        }
        return method;
    }

    private Selector selector(Node node, long minSize) {
        if (node == null) {
            return new Selector(Set.of(), List.of(), minSize);
        }
        Map<String, Node> keys = mapping(node, "select", "role", "name", "min-size");
        Set<Role> roles = new LinkedHashSet<>();
        for (String role : some(keys.get("role"), "role")) {
            roles.add(role(keys.get("role"), role));
        }
        long smallest = keys.containsKey("min-size") ? size(keys.get("min-size")) : minSize;
        return new Selector(roles, some(keys.get("name"), "name"), smallest);
    }

    private Role role(Node node, String id) {
        try {
            return Role.of(id);
        } catch (UnknownNameException e) {
            throw wrong(node, e.getMessage());
        }
    }

    private Method method(String name, Node node) {
        List<Option> options = Methods.options(name);
        Map<String, Node> keys = mapping(node, name, Option.names(options).toArray(String[]::new));
        Map<String, String> given = new LinkedHashMap<>();
        for (Map.Entry<String, Node> key : keys.entrySet()) {
            given.put(key.getKey(), value(Option.of(options, key.getKey()), key.getValue()));
        }
        try {
            return Methods.of(name, given);
        } catch (OptionException e) {
            throw wrong(keys.getOrDefault(e.option(), node), e.getMessage());
        }
    }

    /** The text that {@code --set} would give the option. */
    private String value(Option option, Node node) {
        if (option.type() instanceof Option.Text text) {
            if (node instanceof MappingNode && !text.parts().isEmpty()) {
                return parts(option.name(), text, node);
            }
            if (text.list()) {
                return String.join(",", texts(node, option.name()));
            }
        }
        return option.type() instanceof Option.WordList ? String.join(",", texts(node, option.name())) : text(node, option.name());
    }

    private String parts(String name, Option.Text text, Node node) {
        Map<String, Node> keys = mapping(node, name, Option.names(text.parts()).toArray(String[]::new));
        StringBuilder all = new StringBuilder(text.prefix());
        String colon = "";
        for (Option part : text.parts()) {
            if (keys.containsKey(part.name())) {
                all.append(colon).append(text(keys.get(part.name()), part.name()));
            } else if (part.fallback() == null) {
                throw wrong(node, name + " needs '" + part.name() + "'");
            }
            colon = ":";
        }
        return all.toString();
    }

    private long size(Node node) {
        String value = text(node, "min-size");
        try {
            return Selector.MIN_SIZE.whole(value);
        } catch (IllegalArgumentException e) {
            throw wrong(node, e.getMessage());
        }
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

    /** An empty list would select all. */
    private List<String> some(Node node, String key) {
        List<String> all = texts(node, key);
        if (node != null && all.isEmpty()) {
            throw wrong(node, "'" + key + "' must be one, or a list of at least one");
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
        if (!recipe.structure().isEmpty()) {
            out.append("structure:\n");
        }
        for (Recipe.Change change : recipe.structure()) {
            out.append("  - name: ").append(quoted(change.name())).append("\n    ");
            if (!change.kinds().isEmpty()) {
                out.append("select: {kind: [").append(String.join(", ", new TreeSet<>(change.kinds()).stream().map(Group.Kind::id).toList())).append(']')
                        .append(change.names().isEmpty() ? "" : ", name: " + quoted(change.names())).append("}\n    ");
            }
            out.append(change.method().name()).append(": ");
            options(change.method().options(), change.method()::get, out);
            out.append('\n');
        }
        if (!recipe.steps().isEmpty() || recipe.structure().isEmpty()) {
            out.append("steps:\n");
        }
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
            options(step.method().options(), step.method()::get, out);
            out.append('\n');
        }
        return out.toString();
    }

    private static void options(List<Option> options, UnaryOperator<String> get, StringBuilder out) {
        String comma = "{";
        for (Option option : options) {
            String value = get.apply(option.name());
            if (value != null) {
                out.append(comma).append(option.name()).append(": ").append(written(option, value));
                comma = ", ";
            }
        }
        out.append('}');
    }

    private static String written(Option option, String value) {
        if (!(option.type() instanceof Option.Text text)) {
            return option.type() instanceof Option.WordList ? "[" + value.replace(",", ", ") + "]" : value;
        }
        if (text.list()) {
            return "[" + value.replace(",", ", ") + "]";
        }
        if (text.parts().isEmpty()) {
            return quoted(value);
        }
        if (value.indexOf(':') < 0) {
            return value;
        }
        StringBuilder out = new StringBuilder();
        String[] parts = value.split(":", -1);
        for (int i = 0; i < parts.length; i++) {
            out.append(i == 0 ? "{" : ", ").append(text.parts().get(i).name()).append(": ").append(parts[i]);
        }
        return out.append('}').toString();
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
