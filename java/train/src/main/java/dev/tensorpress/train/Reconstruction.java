package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.training.GradientCollector;
import dev.tensorpress.Simulation;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.SmoothMethod;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.runtime.SampleReader;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.IntStream;

/**
 * Trains a compressed student one block after the other: each to make what the teacher's block makes, of what the blocks before it make as they are compressed
 * (AdaRound, Nagel et al. 2020; BRECQ, Li et al. 2021). Blocks lie between the places of the graph where a single value is alive that depends on inputs and
 * weights. PyTorch holds one block at a time; values between blocks are in a temporary file.
 *
 * <p>What is lost is the mean of squared differences of what a block makes, as part of the mean square of the teacher's. A block that is no better on the
 * samples that are held out stays as it was.
 */
public final class Reconstruction implements AutoCloseable {
    /** How an element gets its code, where weights become integer codes. */
    public enum Rounding {
        /** The nearest, of elements that are trained. */
        NEAREST,
        /** The one below or the one above, which is learned; elements stay. */
        LEARNED
    }

    /**
     * How.
     *
     * @param steps of each block, at least 1
     * @param batch samples of a step
     * @param scales whether scales of integer codes are trained, too
     * @param holdZeros whether zeros of matrices stay
     * @param rate the largest learning rate of elements and, as part of what they are, of scales; it rises over a tenth of the steps and falls as a cosine
     * @param seed of the order of samples
     * @param heldOut part of the samples that are not trained on, from 0 on and below 1; the last ones
     * @param checkpoint file that is written after each block, with the number of the block behind its name, and gone on from if it is there; null for none
     */
    public record Options(int steps, int batch, Rounding rounding, boolean scales, boolean holdZeros, double rate, long seed, double heldOut, Path checkpoint) {
        public static final Options DEFAULT = new Options(200, 16, Rounding.NEAREST, false, false, 5e-4, 1, 0.1, null);

        public Options {
            if (steps < 1 || batch < 1) {
                throw new IllegalArgumentException("steps and batch must be at least 1");
            }
            if (!(rate > 0 && rate < Double.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("the learning rate must be above 0, but is " + rate);
            }
            if (!(heldOut >= 0 && heldOut < 1)) {
                throw new IllegalArgumentException("the part that is held out must be at least 0 and below 1, but is " + heldOut);
            }
        }

        public Options steps(int steps) {
            return new Options(steps, batch, rounding, scales, holdZeros, rate, seed, heldOut, checkpoint);
        }

        public Options batch(int batch) {
            return new Options(steps, batch, rounding, scales, holdZeros, rate, seed, heldOut, checkpoint);
        }

        public Options rounding(Rounding rounding) {
            return new Options(steps, batch, rounding, scales, holdZeros, rate, seed, heldOut, checkpoint);
        }

        public Options scales(boolean scales) {
            return new Options(steps, batch, rounding, scales, holdZeros, rate, seed, heldOut, checkpoint);
        }

        public Options holdZeros(boolean holdZeros) {
            return new Options(steps, batch, rounding, scales, holdZeros, rate, seed, heldOut, checkpoint);
        }

        public Options rate(double rate) {
            return new Options(steps, batch, rounding, scales, holdZeros, rate, seed, heldOut, checkpoint);
        }

        public Options seed(long seed) {
            return new Options(steps, batch, rounding, scales, holdZeros, rate, seed, heldOut, checkpoint);
        }

        public Options heldOut(double heldOut) {
            return new Options(steps, batch, rounding, scales, holdZeros, rate, seed, heldOut, checkpoint);
        }

        public Options checkpoint(Path checkpoint) {
            return new Options(steps, batch, rounding, scales, holdZeros, rate, seed, heldOut, checkpoint);
        }
    }

    /**
     * Where training is.
     *
     * @param block from 1 on, of {@code blocks}
     * @param step from 1 on, of {@code steps} of this block
     * @param loss of the step's batch
     * @param secondsLeft for all blocks, as far as it can be told
     */
    public record Progress(int block, int blocks, int step, int steps, double loss, double secondsLeft) {}

    /**
     * What came of a block.
     *
     * @param number from 1 on
     * @param values what it makes
     * @param bytes of the constants that PyTorch held of it, without what training takes
     * @param before loss on what is held out, or on all samples if nothing is, before the first step
     * @param after of what is kept
     * @param trained whether that is what was trained, and not what was there before
     */
    public record Fitted(int number, List<String> values, long bytes, double before, double after, boolean trained) {}

    /** Of the numbers that say which way codes go. */
    private static final double ROUNDING_RATE = 0.2;
    /** What undecided codes count beside the loss, which is 1 at first. */
    private static final double UNDECIDED = 300;
    /** Part of the steps in which codes need not decide; exponents of what is undecided before and after. */
    private static final double FREE = 0.2;
    private static final double FLAT = 20;
    private static final double STEEP = 2;

    private final EditableModel teacher;
    private final EditableModel student;
    private final SampleReader reader;
    private final Set<String> trained;
    private final Simulation simulation;
    private final Options options;
    private final Path folder;
    private final Arena arena;
    private final Batches training;
    private final Batches heldOut;
    /** Batches of both, those that are trained on first. */
    private final List<int[]> batches;
    private final int trainedOn;
    private final List<Block> blocks;
    private final Digest digest;
    private final Map<String, Encoding.Quantized> codes = new LinkedHashMap<>();

    private Reconstruction(EditableModel teacher, EditableModel student, SampleReader reader, Set<String> trained, Simulation simulation, Options options,
            Path folder, Arena arena) throws IOException {
        this.teacher = teacher;
        this.student = student;
        this.reader = reader;
        this.trained = trained;
        this.simulation = simulation;
        this.options = options;
        this.folder = folder;
        this.arena = arena;
        int n = reader.size();
        int end = n - (int) Math.round(n * options.heldOut);
        digest = new Digest().add(options.checkpoint(null).toString()).add(trained.toString());
        Network.describe(student, digest);
        Network.describe(teacher, digest);
        if (simulation != null) {
            digest.add(simulation.recipe().yaml()).add(simulation.weights().stream().sorted().toList().toString());
        }
        training = new Batches(reader, 0, end, options.batch, options.seed, null, Augmentation.NONE, digest).checked();
        heldOut = end == n ? null : new Batches(reader, end, n, options.batch, options.seed, null, Augmentation.NONE, digest);
        batches = new ArrayList<>(training.epoch(0));
        trainedOn = batches.size();
        if (heldOut != null) {
            batches.addAll(heldOut.epoch(0));
        }
        Set<String> weights = new LinkedHashSet<>(trained);
        if (simulation != null) {
            weights.addAll(simulation.weights());
        }
        Set<String> ends = new HashSet<>();
        teacher.graph().nodes().forEach(node -> ends.addAll(node.outputs()));
        blocks = Block.of(student, trained, weights, ends);
    }

    /**
     * Prepares it: runs all blocks of both on one batch, so that what does not fit is found before anything is trained.
     *
     * @param student is changed by {@link #run}
     * @param reader of inputs that both take; closed with this
     * @param trained names of constants that are trained
     * @param simulation of what becomes of the student's weights; null if they stay as they are; to be closed by the caller, after this
     * @param folder for temporary files
     * @param arena for what becomes of constants, and for codes
     * @throws UnsupportedRequestException if something does not fit: operators, inputs, values; the message says what
     * @throws IOException if a sample cannot be read
     */
    public static Reconstruction of(EditableModel teacher, EditableModel student, SampleReader reader, Set<String> trained, Simulation simulation,
            Options options, Path folder, Arena arena) throws IOException {
        try {
            Reconstruction r = new Reconstruction(teacher, student, reader, trained, simulation, options, folder, arena);
            r.check();
            return r;
        } catch (IOException | RuntimeException | Error e) {
            reader.close();
            throw e;
        }
    }

    /** The parameters of a model but for tables that are looked up, of whose rows samples see few: what there is to train. */
    public static Set<String> parameters(EditableModel model) {
        Set<String> parameters = new LinkedHashSet<>(Network.parameters(model));
        for (EditableNode n : model.graph().nodes()) {
            if (n.is("Gather")) {
                parameters.remove(n.input(0));
            }
        }
        return parameters;
    }

    private void check() throws IOException {
        if (blocks.isEmpty()) {
            throw new UnsupportedRequestException("no output depends on inputs and on what is trained");
        }
        boolean codes = options.rounding == Rounding.LEARNED || options.scales;
        if (codes && (simulation == null || trained.stream().noneMatch(name -> simulation.weights().contains(name) && simulation.integers(name)))) {
            throw new UnsupportedRequestException("no weight that is trained gets integer codes, of which rounding or scales could be learned");
        }
        if (simulation != null && simulation.recipe().steps().stream().anyMatch(s -> s.method() instanceof SmoothMethod)) {
            throw new UnsupportedRequestException("recipe " + simulation.recipe().name() + " smooths weights: what it divides in one block it multiplies in the next,"
                    + " so that no block makes what the teacher's does");
        }
        for (String name : options.scales ? trained : Set.<String>of()) {
            if (simulation.weights().contains(name) && simulation.integers(name) && simulation.powersOfTwo(name)) {
                throw new UnsupportedRequestException("scales of '" + name + "' are powers of two by the recipe, which they would not be once they are learned");
            }
        }
        try (ValueFile file = new ValueFile(folder)) {
            int at = 0;
            for (Block block : blocks) {
                try (Network teachers = part(teacher, block); NDManager scope = teachers.scope()) {
                    teachers.checkFinite();
                    Map<String, NDArray> inputs = inputs(0, scope, at == 0 ? null : file, at - 2);
                    teachers.checkInputs(inputs, "teacher");
                    file.add(checkFloats(teachers.run(scope, inputs, block.to())));
                }
                try (Network own = part(student, block); NDManager scope = own.scope()) {
                    own.checkFinite();
                    Map<String, NDArray> inputs = inputs(0, scope, at == 0 ? null : file, at - 1);
                    own.checkInputs(inputs, "student");
                    file.add(checkFloats(own.run(scope, inputs, block.to())));
                    objective(block).of(file.read(at + 1, scope), file.read(at, scope), training.mask(inputs), null, Map.of());
                }
                at += 2;
            }
        }
    }

    private static Map<String, NDArray> checkFloats(Map<String, NDArray> values) {
        values.forEach((name, a) -> {
            if (!a.getDataType().isFloating()) {
                throw new UnsupportedRequestException("'" + name + "' holds whole numbers: no block can be trained to make them");
            }
        });
        return values;
    }

    private Network part(EditableModel model, Block block) {
        Set<String> known = new HashSet<>(block.from());
        known.addAll(model.graph().inputs().keySet());
        return Network.between(model, known, block.to());
    }

    private static Objective objective(Block block) {
        return new Objective(block.to().stream().map(value -> Objective.Term.of(Objective.Kind.MSE, value)).toList());
    }

    private Batches of(int batch) {
        return batch < trainedOn ? training : heldOut;
    }

    /** Those of the graph, and what the block begins at. */
    private Map<String, NDArray> inputs(int batch, NDManager scope, ValueFile from, int at) throws IOException {
        Map<String, NDArray> inputs = new LinkedHashMap<>(of(batch).inputs(batches.get(batch), 0, scope));
        if (from != null) {
            inputs.putAll(from.read(at, scope));
        }
        return inputs;
    }

    /** How many blocks there are. */
    public int blocks() {
        return blocks.size();
    }

    /** The checkpoint of a block, from 1 on. */
    public static Path checkpoint(Path file, int block) {
        return file.resolveSibling(file.getFileName() + "." + block);
    }

    /** The codes that were learned, by name of the weight; what they are not known of is to be compressed as ever. */
    public Map<String, Encoding.Quantized> codes() {
        return Collections.unmodifiableMap(codes);
    }

    /**
     * Trains. The student has what was trained of its blocks afterwards, also if this fails.
     *
     * @param progress told after each step
     * @throws Distillation.DivergedException if a loss is no number
     * @throws ClosedByInterruptException if the thread is interrupted
     * @throws IOException if samples cannot be read, or files not be written
     */
    public List<Fitted> run(Consumer<Progress> progress) throws IOException {
        List<Fitted> all = new ArrayList<>();
        long start = System.nanoTime();
        ValueFile wanted = null;
        ValueFile made = null;
        try (Executor executor = Executor.cpu(Engines.threads())) {
            for (int i = 0; i < blocks.size(); i++) {
                ValueFile nextWanted = new ValueFile(folder);
                try (ValueFile before = wanted; Network network = part(teacher, blocks.get(i))) {
                    wanted = nextWanted;
                    advance(network, blocks.get(i), Map.of(), before, nextWanted);
                }
                ValueFile nextMade = new ValueFile(folder);
                try (ValueFile before = made) {
                    made = nextMade;
                    all.add(new Fitting(i + 1, start, before, nextWanted, executor, progress).run(nextMade));
                }
            }
            return List.copyOf(all);
        } finally {
            for (ValueFile file : Arrays.asList(wanted, made)) {
                if (file != null) {
                    file.close();
                }
            }
        }
    }

    private void advance(Network network, Block block, Map<String, NDArray> instead, ValueFile before, ValueFile next) throws IOException {
        for (int b = 0; b < batches.size(); b++) {
            checkInterrupt();
            try (NDManager scope = network.scope()) {
                next.add(network.run(scope, inputs(b, scope, before, b), instead, block.to()));
            }
        }
    }

    @Override
    public void close() {
        reader.close();
    }

    private static void checkInterrupt() throws ClosedByInterruptException {
        if (Thread.currentThread().isInterrupted()) {
            throw new ClosedByInterruptException();
        }
    }

    /** A block while it is trained. */
    private final class Fitting {
        private final int number;
        private final Block block;
        private final long start;
        private final ValueFile from;
        private final ValueFile wanted;
        private final Executor executor;
        private final Consumer<Progress> progress;
        private Network network;
        private NDManager own;
        private final Map<String, NDArray> elements = new LinkedHashMap<>();
        private final Map<String, NDArray> masks = new LinkedHashMap<>();
        private final Map<String, LearnedCodes> learned = new LinkedHashMap<>();
        /** What weights are once they are written, but those that stay as they are. */
        private final Map<String, NDArray> written = new LinkedHashMap<>();
        /** Those whose elements are trained, and written as something else: gradients pass straight through. */
        private final Set<String> straight = new LinkedHashSet<>();

        Fitting(int number, long start, ValueFile from, ValueFile wanted, Executor executor, Consumer<Progress> progress) {
            this.number = number;
            this.block = blocks.get(number - 1);
            this.start = start;
            this.from = from;
            this.wanted = wanted;
            this.executor = executor;
            this.progress = progress;
        }

        Fitted run(ValueFile next) throws IOException {
            try (Network part = part(student, block); NDManager manager = part.scope()) {
                network = part;
                own = manager;
                load();
                Map<String, NDArray> first = new LinkedHashMap<>();
                elements.forEach((name, a) -> {
                    NDArray copy = a.duplicate();
                    copy.attach(own);
                    first.put(name, copy);
                });
                double before = evaluate();
                double after = before;
                // What is exact already cannot be made better.
                if (before > 1e-12 && !(elements.isEmpty() && learned.isEmpty())) {
                    train(before);
                    learned.forEach((name, of) -> codes.put(name, of.codes(simulation, arena)));
                    write();
                    after = evaluate();
                    if (!(after < before)) {
                        after = before;
                        codes.keySet().removeAll(learned.keySet());
                        elements.forEach((name, a) -> first.get(name).copyTo(a));
                        write();
                    }
                }
                network.store(arena);
                advance(network, block, written, from, next);
                return new Fitted(number, block.to(), network.bytes(), before, after, after < before);
            }
        }

        private void load() {
            for (String name : network.parameters()) {
                boolean mine = trained.contains(name) && block.weights().contains(name);
                boolean simulated = simulation != null && simulation.weights().contains(name);
                NDArray p = network.parameter(name);
                if (simulated && mine && (options.rounding == Rounding.LEARNED || options.scales)) {
                    Encoding.Quantized at = start(name, p);
                    if (at != null) {
                        boolean rounding = options.rounding == Rounding.LEARNED;
                        learned.put(name, new LearnedCodes(name, p, at, rounding, options.scales, options.holdZeros, own));
                        if (!rounding) {
                            train(name, p);
                        }
                        written.put(name, own.zeros(p.getShape()));
                        continue;
                    }
                }
                if (mine) {
                    train(name, p);
                    if (simulated) {
                        straight.add(name);
                    }
                }
                if (simulated) {
                    written.put(name, own.zeros(p.getShape()));
                }
            }
            write();
        }

        private void train(String name, NDArray p) {
            elements.put(name, p);
            if (options.holdZeros && p.getShape().dimension() > 1) {
                try (NDManager scope = network.scope()) {
                    NDArray mask = Optimizer.view(p, scope).neq(0).toType(p.getDataType(), true);
                    mask.attach(own);
                    masks.put(name, mask);
                }
            }
        }

        /** The codes that a weight has; null if it gets no integers. */
        private Encoding.Quantized start(String name, NDArray p) {
            return simulation.codes(name, Tensors.memory(p), arena).orElse(null);
        }

        /** Decodes what is written of weights, as they are now. */
        private void write() {
            written.forEach((name, array) -> write(name, array));
        }

        private void write(String name, NDArray array) {
            if (codes.containsKey(name)) {
                simulation.decode(codes.get(name), Tensors.memory(array));
            } else {
                simulation.decode(name, Tensors.memory(network.parameter(name)), Tensors.memory(array));
            }
        }

        private double evaluate() throws IOException {
            double sum = 0;
            int seen = 0;
            for (int b = heldOut == null ? 0 : trainedOn; b < batches.size(); b++) {
                checkInterrupt();
                try (NDManager scope = network.scope()) {
                    sum += Distillation.number(loss(b, Map.of(), scope)) * batches.get(b).length;
                    seen += batches.get(b).length;
                }
            }
            double mean = sum / seen;
            if (!Double.isFinite(mean)) {
                throw new Distillation.DivergedException("the loss of block " + number + " is " + mean + ": a lower learning rate may help");
            }
            return mean;
        }

        /** @param learning what weights are whose codes are learned, if not what is written */
        private NDArray loss(int batch, Map<String, NDArray> learning, NDManager scope) throws IOException {
            Map<String, NDArray> inputs = inputs(batch, scope, from, batch);
            Map<String, NDArray> values = new LinkedHashMap<>();
            written.forEach((name, a) -> values.put(name, Optimizer.view(a, scope)));
            values.putAll(learning);
            Map<String, NDArray> made = network.run(scope, inputs, values, block.to());
            return objective(block).of(made, wanted.read(batch, scope), of(batch).mask(inputs), null, Map.of());
        }

        private void train(double first) throws IOException {
            Map<String, NDArray> slow = new LinkedHashMap<>(elements);
            Map<String, NDArray> fast = new LinkedHashMap<>();
            learned.values().forEach(of -> of.learned().forEach((name, a) -> (name.endsWith(LearnedCodes.ROUNDING) ? fast : slow).put(name, a)));
            Map<String, NDArray> all = new LinkedHashMap<>(slow);
            all.putAll(fast);
            Path file = options.checkpoint == null ? null : checkpoint(options.checkpoint, number);
            if (file != null && Files.exists(file)) {
                Checkpoint.read(file, digest.text(), all);
                return;
            }
            Optimizer ofSlow = new Optimizer(Optimizer.Kind.ADAMW, 0, 0, slow, own, executor);
            Optimizer ofFast = new Optimizer(Optimizer.Kind.ADAMW, 0, 0, fast, own, executor);
            Schedule schedule = new Schedule(Schedule.Shape.COSINE, options.rate, 0.1);
            Random random = new Random(options.seed * 0x9e3779b97f4a7c15L + number);
            List<Integer> order = new ArrayList<>();
            for (int step = 1; step <= options.steps; step++) {
                checkInterrupt();
                if (order.isEmpty()) {
                    IntStream.range(0, trainedOn).forEach(order::add);
                    Collections.shuffle(order, random);
                }
                double part = (step - 1.0) / options.steps;
                double loss;
                try (NDManager scope = network.scope()) {
                    straight.forEach(name -> write(name, written.get(name)));
                    // Gradients of what is written are those of the elements.
                    Map<String, NDArray> leaves = new LinkedHashMap<>(all);
                    straight.forEach(name -> leaves.put(name, written.get(name)));
                    leaves.values().forEach(p -> p.setRequiresGradient(true));
                    try (GradientCollector collector = Engines.engine().newGradientCollector()) {
                        Map<String, NDArray> learning = new LinkedHashMap<>();
                        learned.forEach((name, of) -> learning.put(name, of.value(scope)));
                        NDArray value = loss(order.removeLast(), learning, scope);
                        loss = Distillation.number(value);
                        if (!Double.isFinite(loss)) {
                            throw new Distillation.DivergedException("the loss of block " + number + " is " + loss + " in step " + step
                                    + ": a lower learning rate may help");
                        }
                        NDArray undecided = part < FREE ? null : undecided(FLAT + (STEEP - FLAT) * (part - FREE) / (1 - FREE), scope);
                        collector.backward(undecided == null ? value : Scalars.over(value, first).add(Scalars.times(undecided, UNDECIDED)));
                    }
                    Map<String, NDArray> gradients = gradients(leaves, scope);
                    Map<String, NDArray> ofRounding = new LinkedHashMap<>(gradients);
                    ofRounding.keySet().retainAll(fast.keySet());
                    gradients.keySet().removeAll(fast.keySet());
                    ofSlow.step(gradients, step, schedule.at(part), 0);
                    ofFast.step(ofRounding, step, ROUNDING_RATE, 0);
                    gradients.values().forEach(g -> g.muli(0));
                    ofRounding.values().forEach(g -> g.muli(0));
                    masks.forEach((name, mask) -> elements.get(name).muli(mask).addi(0)); // -0 + 0 is 0
                }
                double now = (System.nanoTime() - start) / 1e9;
                double done = (number - 1) * (double) options.steps + step;
                progress.accept(new Progress(number, blocks.size(), step, options.steps, loss, now / done * (blocks.size() * (double) options.steps - done)));
            }
            if (file != null) {
                Checkpoint.write(file, digest.text(), all, Map.of());
            }
        }

        /** The mean over all codes of the block that are learned; null if none is. */
        private NDArray undecided(double beta, NDManager scope) {
            NDArray sum = null;
            long count = 0;
            for (Map.Entry<String, LearnedCodes> e : learned.entrySet()) {
                NDArray one = e.getValue().undecided(beta, scope);
                if (one != null) {
                    sum = sum == null ? one : sum.add(one);
                    count += network.parameter(e.getKey()).size();
                }
            }
            return sum == null ? null : Scalars.over(sum, count);
        }

        private static Map<String, NDArray> gradients(Map<String, NDArray> of, NDManager scope) {
            Map<String, NDArray> gradients = new LinkedHashMap<>();
            of.forEach((name, p) -> {
                NDArray g = p.getGradient();
                if (g != null) {
                    g.attach(scope);
                    gradients.put(name, g);
                }
                p.setRequiresGradient(false);
            });
            return gradients;
        }
    }
}
