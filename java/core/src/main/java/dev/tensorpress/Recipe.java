package dev.tensorpress;

import dev.tensorpress.encoding.Form.Activations;
import dev.tensorpress.internal.Glob;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.method.CodebookMethod;
import dev.tensorpress.method.CorrectMethod;
import dev.tensorpress.method.FactorizeMethod;
import dev.tensorpress.method.GptqMethod;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.PruneMethod;
import dev.tensorpress.method.QuantizeMethod;
import dev.tensorpress.method.QuantizeMethod.Range;
import dev.tensorpress.method.QuantizeMethod.Weights;
import dev.tensorpress.method.SmoothMethod;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.SlimMethod;
import dev.tensorpress.structure.StructureMethod;
import dev.tensorpress.structure.StructuredPruning;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * What to do with a model: ordered steps, each a selector and a method. Among steps of one method, the first that selects
 * a weight takes it; steps of different methods follow each other. Before all of them come changes of the graph. Immutable.
 *
 * @param name shown in reports
 * @param target empty for the format's default
 * @param structure what becomes of the graph first, in order; for formats that have one
 * @param steps in order
 * @param excludes globs of weights that stay as they are
 * @param options settings of the target's lowering, such as {@code accuracy-level}
 */
public record Recipe(String name, String target, List<Change> structure, List<Step> steps, List<String> excludes, Map<String, String> options) {

    /** One pair of selector and method. */
    public record Step(String name, Selector selector, Method method) {}

    /**
     * One change of the graph.
     *
     * @param kinds of groups that it takes indices from; empty of what takes none
     * @param names globs, any of which fits the name of a group, as {@link Group#name} has it; empty for all groups
     */
    public record Change(String name, Set<Group.Kind> kinds, List<String> names, StructureMethod method) {
        /** What is selected if nothing is said. */
        static final Set<Group.Kind> DEFAULT_KINDS = Set.of(Group.Kind.NEURONS);

        public Change {
            kinds = Set.copyOf(kinds);
            names = List.copyOf(names);
        }

        boolean selects(StructuredPruning.Pruned group) {
            return kinds.contains(group.kind()) && (names.isEmpty() || names.stream().anyMatch(glob -> Glob.matches(glob, group.name())));
        }

        /** With a method of other options. */
        public Change with(StructureMethod other) {
            return new Change(name, kinds, names, other);
        }
    }

    /** Bytes of a file. */
    private static final int LONGEST = 1 << 20;

    /** Names of the presets. */
    public static final List<String> NAMES = List.of("int8", "int8-table4", "int8-dynamic", "int8-smooth", "int8-static", "int4", "prune-neurons",
            "prune-heads", "prune50", "sparse24", "prune50-int8", "lowrank", "lowrank-int8", "int4-corrected", "int4-gptq", "fixed8", "archive8", "archive4",
            "deep-compression", "w8a16", "w8a8", "w4a16");

    private static final Role[] PRODUCTS = {Role.LINEAR, Role.HEAD};
    private static final List<String> VALUES = List.of("*value*", "*v_proj*", "*v_lin*", "*/v/*");
    private static final List<String> ROUTERS = List.of("*.gate.weight", "*.router.weight", "*.shared_expert_gate.weight");

    public Recipe {
        structure = List.copyOf(structure);
        steps = List.copyOf(steps);
        excludes = List.copyOf(excludes);
        options = Map.copyOf(options);
    }

    /** One that leaves the graph as it is. */
    public Recipe(String name, String target, List<Step> steps, List<String> excludes, Map<String, String> options) {
        this(name, target, List.of(), steps, excludes, options);
    }

    /**
     * A preset.
     *
     * @throws UnknownNameException if there is none of this name
     */
    public static Recipe named(String name) {
        QuantizeMethod channel = QuantizeMethod.int8();
        QuantizeMethod blocks = channel.perBlock(64);
        QuantizeMethod four = QuantizeMethod.int4().asymmetric().clipSearch(20, 0.7f);
        QuantizeMethod table = channel;
        Step conv = null;
        List<Step> steps = new ArrayList<>();
        switch (name) {
            case "prune-neurons", "prune-heads" -> {
                Group.Kind kind = name.equals("prune-heads") ? Group.Kind.HEADS : Group.Kind.NEURONS;
                return new Recipe(name, "", List.of(new Change(kind.id(), Set.of(kind), List.of(), SlimMethod.DEFAULT)), List.of(), List.of(), Map.of());
            }
            case "prune50" -> {
                return new Recipe(name, "", List.of(half()), List.of(), Map.of());
            }
            case "sparse24" -> {
                Step step = step("prune", PruneMethod.nm(2, 4), PRODUCTS);
                return new Recipe(name, "", List.of(step), List.of(), Map.of());
            }
            case "prune50-int8" -> {
                steps.add(half());
                steps.addAll(named("int8").steps);
                return new Recipe(name, "", steps, List.of(), Map.of());
            }
            case "deep-compression" -> {
                steps.add(step("prune", PruneMethod.sparsity(0.9), PRODUCTS));
                steps.add(step("codebook", CodebookMethod.of(5), Role.LINEAR, Role.HEAD, Role.EMBEDDING));
                steps.add(step("conv", CodebookMethod.of(8), Role.CONV));
                return new Recipe(name, "", steps, List.of(), Map.of());
            }
            case "lowrank" -> {
                return new Recipe(name, "", List.of(factors()), List.of(), Map.of());
            }
            case "lowrank-int8" -> {
                steps.add(factors());
                steps.addAll(named("int8").steps);
                return new Recipe(name, "", steps, List.of(), Map.of());
            }
            case "int4-corrected" -> {
                steps.addAll(named("int4").steps);
                steps.add(step("correct", CorrectMethod.rank(32).factors(CorrectMethod.Storage.INT8).maxBits(4), PRODUCTS));
                return new Recipe(name, "", steps, List.of(), Map.of());
            }
            case "w8a16" -> {
                return language(name, channel.range(Range.FULL));
            }
            case "w8a8" -> {
                return language(name, channel.range(Range.FULL).activations(Activations.DYNAMIC));
            }
            case "w4a16" -> {
                // The search is as fast for eight ratios as for two, and twenty find hardly better ones.
                return language(name, QuantizeMethod.int4().perBlock(128).range(Range.FULL).clipSearch(8, 0.75f));
            }
            case "int8", "int8-table4" -> {
                steps.add(value(blocks));
                steps.add(step("linear", blocks.activations(Activations.BLOCKWISE), PRODUCTS));
                table = name.equals("int8") ? channel : four;
            }
            case "archive4" -> {
                return new Recipe(name, "", named("int4").steps, List.of(), Map.of());
            }
            // Codes of a block reach its largest element, and are as many as there can be; those of a channel are fewer.
            case "archive8" -> steps.add(step("linear", channel, PRODUCTS));
            case "fixed8" -> {
                table = channel = channel.scale(QuantizeMethod.Scale.POWER_OF_TWO);
                steps.add(step("linear", channel, PRODUCTS));
            }
            case "int8-dynamic", "int8-smooth" -> {
                if (name.equals("int8-smooth")) {
                    steps.add(step("smooth", new SmoothMethod(SmoothMethod.By.SMOOTHQUANT, 0.8, 20, true), PRODUCTS));
                }
                steps.add(step("linear", channel.asymmetric().activations(Activations.DYNAMIC), PRODUCTS));
            }
            case "int8-static" -> {
                // Seven bits are as fast as eight, and exact on every processor.
                QuantizeMethod integers = channel.clipSearch(20, 0.7f).weights(Weights.S7).activations(Activations.STATIC);
                steps.add(step("linear", integers, PRODUCTS));
                // Those of few channels are small, but see the largest images.
                conv = new Step("conv", new Selector(Set.of(Role.CONV), List.of(), 0), integers);
            }
            case "int4", "int4-gptq" -> {
                boolean byInputs = name.equals("int4-gptq");
                QuantizeMethod eight = channel.perBlock(128).activations(Activations.BLOCKWISE);
                QuantizeMethod fourBlockwise = four.activations(Activations.BLOCKWISE);
                steps.add(step("head", eight, Role.HEAD));
                steps.add(attention(byInputs ? GptqMethod.of(eight) : eight));
                steps.add(step("linear", byInputs ? GptqMethod.of(fourBlockwise) : fourBlockwise, Role.LINEAR));
                table = four.perBlock(64);
            }
            default -> throw new UnknownNameException("no recipe is named '" + name + "', and a recipe's file ends in .yaml",
                    name, NAMES);
        }
        steps.add(step("embedding", table, Role.EMBEDDING));
        steps.add(conv == null ? step("conv", channel, Role.CONV) : conv);
        steps.add(step("recurrent", channel, Role.RECURRENT));
        return new Recipe(name, "", steps, List.of(), Map.of());
    }

    /** For servers of language models: all products but the head, and the routers of experts, which such servers want whole. */
    private static Recipe language(String name, Method method) {
        return new Recipe(name, "", List.of(step("linear", method, Role.LINEAR)), ROUTERS, Map.of());
    }

    /** Half of what each output sums over, in products and convolutions; see {@code docs/recipes.md} for the reasons. */
    private static Step half() {
        return step("prune", PruneMethod.sparsity(0.5).scope(PruneMethod.Scope.CHANNEL), Role.LINEAR, Role.HEAD, Role.CONV);
    }

    /** 99 % of the energy of each matrix: a relative error of 0.1; see {@code docs/recipes.md}. */
    private static Step factors() {
        return step("factorize", FactorizeMethod.energy(0.99), Role.LINEAR, Role.HEAD, Role.CONV);
    }

    /**
     * Attention adds up what value projections give, unlike scores, which method a softmax: they bear coarse rounding worst.
     * Only their usual names tell them apart from other matrices.
     */
    private static Step value(Method method) {
        return new Step("value", new Selector(Set.of(Role.LINEAR), VALUES, Selector.DEFAULT_MIN_SIZE), method);
    }

    /** What attention adds up and what it makes of that: of four bits these projections cost most. */
    private static Step attention(Method method) {
        List<String> names = new ArrayList<>(VALUES);
        names.addAll(List.of("*attention/output*", "*o_proj*", "*out_proj*", "*out_lin*", "*/o/*"));
        return new Step("attention", new Selector(Set.of(Role.LINEAR), names, Selector.DEFAULT_MIN_SIZE), method);
    }

    /**
     * A recipe from a YAML file; {@code docs/recipes.md} describes it by example.
     *
     * @throws IllegalArgumentException if the file is not a recipe; the message names line or key
     * @throws IOException if it cannot be read
     */
    public static Recipe read(Path file) throws IOException {
        if (Files.exists(file) && !InputFiles.isFile(file)) {
            throw new IllegalArgumentException(file + ": expected a recipe, this is not a regular file");
        }
        byte[] text;
        try (InputStream in = Files.newInputStream(file)) {
            text = in.readNBytes(LONGEST + 1);
        }
        if (text.length > LONGEST) {
            throw new IllegalArgumentException(file + ": more than " + LONGEST + " bytes, as no recipe has");
        }
        try {
            return RecipeYaml.parse(file.toString(), StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(text)).toString());
        } catch (CharacterCodingException e) {
            throw new IllegalArgumentException(file + ": not UTF-8 text", e);
        }
    }

    /** A preset's name, or the path of a file that ends in {@code .yaml} or {@code .yml}. */
    public static Recipe of(String nameOrFile) throws IOException {
        return isFile(nameOrFile) ? read(Path.of(nameOrFile)) : named(nameOrFile);
    }

    /** True for what {@link #of} takes for the path of a file. */
    public static boolean isFile(String nameOrFile) {
        return nameOrFile.endsWith(".yaml") || nameOrFile.endsWith(".yml");
    }

    private static Step step(String name, Method method, Role... roles) {
        return new Step(name, new Selector(Set.of(roles), List.of(), Selector.DEFAULT_MIN_SIZE), method);
    }

    /**
     * The recipe as YAML, of which {@link #read} makes the same: every option is said.
     */
    public String yaml() {
        return RecipeYaml.write(this);
    }

    /**
     * The JSON Schema of recipes in YAML: keys, types, ranges and defaults. What options mean to each other, such as amounts that
     * exclude each other, it does not say.
     */
    public static String schema() {
        return RecipeSchema.write();
    }

    /** Whether it leaves all as it is. */
    public boolean isEmpty() {
        return structure.isEmpty() && steps.isEmpty();
    }

    /** Whether one of its methods has to be shown this. */
    public boolean requires(Method.Requirement requirement) {
        return steps.stream().anyMatch(s -> s.method().requires().contains(requirement));
    }

    /** The longest schedule of its methods: how often a model is pruned, and trained in between; 1 if there is none. */
    public int scheduled() {
        int most = 1;
        for (Step step : steps) {
            most = Math.max(most, step.method.steps());
        }
        return most;
    }

    /** This recipe with every schedule at this step, from 1 to {@link #scheduled}; shorter ones at their last. */
    public Recipe atStep(int number) {
        if (number < 1 || number > scheduled()) {
            throw new IllegalArgumentException("step must be 1 to " + scheduled() + ", but is " + number);
        }
        List<Step> all = new ArrayList<>();
        for (Step step : steps) {
            all.add(new Step(step.name, step.selector, step.method.atStep(number)));
        }
        return new Recipe(name, target, structure, all, excludes, options);
    }

    /** This recipe with codes that are rounded to the nearest, where they are chosen by statistics: of the same form, for weights that change. */
    public Recipe nearest() {
        return new Recipe(name, target, structure, steps.stream().map(s -> new Step(s.name, s.selector, s.method.nearest())).toList(), excludes, options);
    }

    /** This recipe without what changes the graph. */
    public Recipe withoutStructure() {
        return new Recipe(name, target, List.of(), steps, excludes, options);
    }

    /** This recipe for another target. */
    public Recipe target(String target) {
        return new Recipe(name, target, structure, steps, excludes, options);
    }

    /** This recipe leaving out weights whose name, or the name of a node that uses them, fits the glob. */
    public Recipe exclude(String glob) {
        List<String> all = new ArrayList<>(excludes);
        all.add(glob);
        return new Recipe(name, target, structure, steps, all, options);
    }

    /**
     * This recipe with one option changed.
     *
     * @param key {@code min-size}; an option of a method, which changes every step that uses it on its own terms
     *     ({@code block} changes the steps that have blocks, see {@link QuantizeMethod#with}); {@code STEP.OPTION} for one
     *     step whatever it has; or an option of the target
     * @throws IllegalArgumentException if the value does not fit
     * @throws UnknownNameException if there is no such step, or it has no such option
     */
    public Recipe set(String key, String value) {
        int dot = key.indexOf('.');
        String stepName = dot < 0 ? null : key.substring(0, dot);
        String option = key.substring(dot + 1);
        List<Change> restructured = new ArrayList<>();
        boolean known = false;
        for (Change change : structure) {
            boolean meant = stepName == null ? change.method.uses(option) : stepName.equals(change.name);
            StructureMethod method = meant ? change.method.with(option, value) : null;
            known |= method != null;
            restructured.add(method == null ? change : change.with(method));
        }
        List<Step> changed = new ArrayList<>();
        for (Step step : steps) {
            Step now = step;
            if (stepName == null || stepName.equals(step.name)) {
                if (option.equals("min-size")) {
                    Selector s = step.selector;
                    now = new Step(step.name, new Selector(s.roles(), s.names(), Selector.MIN_SIZE.whole(value)), step.method);
                    known = true;
                } else if (stepName != null || step.method.uses(option)) {
                    Method method = step.method.with(option, value);
                    known |= method != null;
                    now = method == null ? step : new Step(step.name, step.selector, method);
                }
            }
            changed.add(now);
        }
        if (known) {
            return new Recipe(name, target, restructured, changed, excludes, options);
        }
        if (stepName != null) {
            throw unknown(stepName, option);
        }
        Map<String, String> more = new LinkedHashMap<>(options);
        more.put(key, value); // the target refuses what it does not know
        return new Recipe(name, target, structure, steps, excludes, more);
    }

    private UnknownNameException unknown(String stepName, String option) {
        Map<String, Set<String>> settings = new LinkedHashMap<>();
        structure.forEach(change -> settings.put(change.name, new LinkedHashSet<>(Option.names(change.method.options()))));
        steps.forEach(step -> settings.put(step.name, settings(step)));
        if (settings.containsKey(stepName)) {
            return new UnknownNameException("step '" + stepName + "' of recipe " + name + " has no option '" + option + "'", option, settings.get(stepName));
        }
        return new UnknownNameException("recipe " + name + " has no step '" + stepName + "'", stepName, settings.keySet());
    }

    private static Set<String> settings(Step step) {
        Set<String> all = new LinkedHashSet<>(Option.names(step.method.options()));
        all.add("min-size");
        return all;
    }

    /** What {@link #set} changes in some of the steps. */
    Set<String> settings() {
        Set<String> all = new LinkedHashSet<>();
        structure.forEach(change -> all.addAll(Option.names(change.method.options())));
        steps.forEach(step -> all.addAll(settings(step)));
        return all;
    }
}
