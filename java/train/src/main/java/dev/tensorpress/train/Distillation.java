package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDArrays;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import dev.tensorpress.Simulation;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.runtime.SampleReader;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.function.Consumer;

/**
 * Trains a student to compute what a teacher does, or to fit labels, or both. A part of the samples is held out: the parameters that lose least on it are
 * kept. The same options, samples and threads give the same bits, also when training is interrupted and goes on from its checkpoint.
 */
public final class Distillation implements AutoCloseable {
    /** Above what rounding makes of no loss at all. */
    private static final double NOTHING = 1e-6;

    /**
     * How.
     *
     * @param batch samples of a step
     * @param epochs how often all samples are seen, at most
     * @param sgd stochastic gradient descent with {@code momentum}, in the place of AdamW
     * @param decay of weights, at least 0
     * @param clip of the norm of all gradients; 0 for none
     * @param seed of the order of samples, and of projections
     * @param heldOut part of the samples that are not trained on, from 0 on and below 1; the last ones
     * @param patience epochs in a row that may be no better on what is held out, before training ends
     * @param time after which training ends, if not before; the schedule follows the clock then, and bits depend on it; null for none
     * @param augmentation of images that are trained on
     * @param checkpoint file that is written after each epoch, and gone on from if it is there; null for none
     */
    public record Options(int batch, int epochs, Schedule schedule, boolean sgd, double momentum, double decay, double clip, long seed, double heldOut,
            int patience, Duration time, Augmentation augmentation, Path checkpoint) {
        public static final Options DEFAULT = new Options(16, 10, new Schedule(Schedule.Shape.COSINE, 5e-5, 0.1), false, 0.9, 0.01, 1, 1, 0.1,
                Integer.MAX_VALUE, null, Augmentation.NONE, null);

        public Options {
            if (batch < 1 || epochs < 1 || patience < 1) {
                throw new IllegalArgumentException("batch, epochs and patience must be at least 1");
            }
            if (!(momentum >= 0 && momentum < 1) || !(decay >= 0) || !(clip >= 0)) {
                throw new IllegalArgumentException("momentum must be at least 0 and below 1, decay and clip at least 0");
            }
            if (time != null && (time.isNegative() || time.isZero())) {
                throw new IllegalArgumentException("the time must be above 0, but is " + time);
            }
            if (!(heldOut >= 0 && heldOut < 1)) {
                throw new IllegalArgumentException("the part that is held out must be at least 0 and below 1, but is " + heldOut);
            }
        }

        public Options batch(int batch) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options epochs(int epochs) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options schedule(Schedule schedule) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options sgd(double momentum) {
            return new Options(batch, epochs, schedule, true, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options decay(double decay) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options clip(double clip) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options seed(long seed) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options heldOut(double heldOut) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options patience(int patience) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options time(Duration time) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options augmentation(Augmentation augmentation) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }

        public Options checkpoint(Path checkpoint) {
            return new Options(batch, epochs, schedule, sgd, momentum, decay, clip, seed, heldOut, patience, time, augmentation, checkpoint);
        }
    }

    /**
     * Where training is.
     *
     * @param step from 1 on, of {@code steps}, which are as many as are expected where time ends training
     * @param loss of the step's batch
     * @param secondsLeft as far as it can be told
     */
    public record Progress(int epoch, long step, long steps, double loss, double secondsLeft) {}

    /**
     * An epoch.
     *
     * @param loss mean over its batches
     * @param heldOut loss on what is held out; empty if nothing is
     */
    public record Epoch(int number, double loss, Optional<Double> heldOut) {}

    /**
     * What came of it.
     *
     * @param before loss on what is held out, or on all samples if nothing is, before the first step
     * @param after of the parameters that are kept
     * @param kept epoch that these are of; 0 if no epoch was better than the beginning
     */
    public record Result(double before, double after, int kept, List<Epoch> epochs) {}

    /** Training that cannot go on: a loss that is no number. What the student has is what was best before. */
    public static final class DivergedException extends UnsupportedRequestException {
        private static final long serialVersionUID = 1;

        DivergedException(String message) {
            super(message);
        }
    }

    private final Network teacher;
    private final Network student;
    private final SampleReader reader;
    private final Objective objective;
    private final Options options;
    private final Batches training;
    private final Batches heldOut;
    /** Of all that has to be the same for a checkpoint to be gone on from. */
    private final Digest digest;
    private final NDManager own;
    private final Map<String, NDArray> parameters = new LinkedHashMap<>();
    private final Map<String, NDArray> best = new LinkedHashMap<>();
    private final Map<String, NDArray> projections = new LinkedHashMap<>();
    private final Map<String, NDArray> masks = new LinkedHashMap<>();
    /** What becomes of parameters when they are written. */
    private final Map<String, NDArray> written = new LinkedHashMap<>();
    private final Executor executor = Executor.cpu(Engines.threads());
    private Simulation simulation;
    private Optimizer optimizer;

    private Distillation(Network teacher, Network student, SampleReader reader, Batches training, Batches heldOut, Objective objective, Options options,
            Digest digest) {
        this.teacher = teacher;
        this.student = student;
        this.reader = reader;
        this.training = training;
        this.heldOut = heldOut;
        this.objective = objective;
        this.options = options;
        this.digest = digest;
        this.own = student.scope();
    }

    /**
     * Prepares it: runs both on one batch, so that what does not fit is found before anything is trained.
     *
     * @param teacher null if no term of the objective has one
     * @param reader of inputs that both take; closed with this
     * @param labels class of each sample; null if there are none
     * @param parameters names of those that are trained
     * @throws UnsupportedRequestException if something does not fit: inputs, values, labels, augmentation of what is no image; the message says what
     * @throws IOException if a sample cannot be read
     */
    public static Distillation of(Network teacher, Network student, SampleReader reader, int[] labels, Set<String> parameters, Objective objective,
            Options options) throws IOException {
        int n = reader.size();
        if (labels != null && labels.length != n) {
            throw new UnsupportedRequestException("there are " + labels.length + " labels for " + n + " samples");
        }
        if (teacher == null && !objective.ofTeacher().isEmpty()) {
            throw new IllegalArgumentException("the objective compares with a teacher, and there is none");
        }
        int end = n - (int) Math.round(n * options.heldOut);
        student.checkFinite();
        Digest digest = new Digest().add(objective + " " + options.checkpoint(null)).add(Arrays.toString(labels)).add(parameters.toString());
        student.describe(digest);
        if (teacher != null) {
            teacher.checkFinite();
            teacher.describe(digest);
        }
        Batches training = new Batches(reader, 0, end, options.batch, options.seed, labels, options.augmentation, digest).checked();
        Batches heldOut = end == n ? null : new Batches(reader, end, n, options.batch, options.seed, labels, options.augmentation, digest);
        Distillation d = new Distillation(teacher, student, reader, training, heldOut, objective, options, digest);
        try {
            parameters.forEach(name -> d.parameters.put(name, student.parameter(name)));
            d.project();
            return d;
        } catch (IOException | RuntimeException | Error e) {
            d.close();
            throw e;
        }
    }

    /** Where widths of hidden values differ, a matrix that is learned with the rest turns the student's into the teacher's. */
    private void project() throws IOException {
        try (NDManager scope = student.scope()) {
            Map<String, NDArray> inputs = training.inputs(training.epoch(0).getFirst(), 0, scope);
            student.checkInputs(inputs, "student");
            if (teacher != null) {
                teacher.checkInputs(inputs, "teacher");
            }
            Map<String, NDArray> got = student.run(scope, inputs, objective.ofStudent());
            Map<String, NDArray> wanted = teacher == null ? Map.of() : teacher.run(scope, inputs, objective.ofTeacher());
            Random random = new Random(options.seed);
            for (Objective.Term t : objective.terms()) {
                if (t.kind() != Objective.Kind.MSE && t.kind() != Objective.Kind.COSINE) {
                    continue;
                }
                Shape s = got.get(t.student()).getShape();
                Shape of = wanted.get(t.teacher()).getShape();
                int last = s.dimension() - 1;
                if (last > 0 && last == of.dimension() - 1 && s.slice(0, last).equals(of.slice(0, last)) && s.get(last) != of.get(last)) {
                    if (student.isOutput(t.student()) && teacher.isOutput(t.teacher())) {
                        throw new UnsupportedRequestException("the output '" + t.student() + "' of the student is " + s + ", that of the teacher " + of
                                + ": outputs that are compared have one width");
                    }
                    float[] p = new float[Math.toIntExact(s.get(last) * of.get(last))];
                    for (int i = 0; i < p.length; i++) {
                        p[i] = (float) (random.nextGaussian() / Math.sqrt(s.get(last)));
                    }
                    projections.put(t.teacher(), own.create(p, new Shape(s.get(last), of.get(last))));
                }
            }
            objective.of(got, wanted, training.mask(inputs), training.labels(training.epoch(0).getFirst(), scope), views(projections, scope));
        }
    }

    /** Parameters of two axes or more, and tables, keep the zeros that they have, as pruning has left them. */
    public Distillation holdZeros() {
        digest.add("zeros are held");
        for (String name : parameters.keySet()) {
            NDArray p = parameters.get(name);
            if (p.getShape().dimension() > 1 || student.isTable(name)) {
                try (NDManager scope = student.scope()) {
                    NDArray mask = Optimizer.view(p, scope).neq(0).toType(p.getDataType(), true);
                    mask.attach(own);
                    masks.put(name, mask);
                }
            }
        }
        return this;
    }

    /**
     * The student computes with what its weights become by a plan; gradients pass straight through (Bengio et al. 2013).
     *
     * @param simulation of the student's model; to be closed by the caller, after this
     */
    public Distillation through(Simulation simulation) {
        return through(simulation, null);
    }

    /**
     * {@link #through(Simulation)} from what a plan that goes by statistics makes of the student's weights. Their scales and zero points stay: {@link #codes} are
     * what is written.
     *
     * @param start of the same model and of plans for the same codes; null for none
     */
    public Distillation through(Simulation simulation, Simulation start) {
        this.simulation = simulation;
        if (start != null) {
            begin(start);
        }
        digest.add(simulation.recipe().yaml()).add(simulation.weights().stream().sorted().toList().toString());
        for (String name : simulation.weights()) {
            if (student.parameters().contains(name)) {
                NDArray p = student.parameter(name);
                written.put(name, own.zeros(p.getShape()));
                simulation.decode(name, Tensors.memory(p), Tensors.memory(written.get(name)));
            }
        }
        return this;
    }

    private void begin(Simulation start) {
        digest.add("from").add(start.recipe().yaml()).add(start.weights().stream().sorted().toList().toString());
        try (NDManager scope = student.scope(); Arena arena = Arena.ofShared()) {
            for (String name : start.weights().stream().filter(student.parameters()::contains).sorted().toList()) {
                NDArray p = student.parameter(name);
                NDArray made = scope.zeros(p.getShape());
                Optional<Encoding.Quantized> codes = simulation.weights().contains(name) ? start.codes(name, Tensors.memory(p), arena) : Optional.empty();
                if (codes.isEmpty()) {
                    start.decode(name, Tensors.memory(p), Tensors.memory(made));
                    made.copyTo(p);
                    continue;
                }
                // Elements whose nearest code was chosen stay where they are, near to another code or not; others begin in the middle of theirs.
                start.decode(codes.get(), Tensors.memory(made));
                simulation.hold(name, codes.get());
                NDArray nearest = scope.zeros(p.getShape());
                simulation.decode(name, Tensors.memory(p), Tensors.memory(nearest));
                NDArrays.where(nearest.eq(made), Optimizer.view(p, scope), made).copyTo(p);
            }
        }
    }

    /**
     * Codes of the student's parameters as they are, by name: of those that keep scales and zero points, what {@link dev.tensorpress.Compressor#compress(
     * dev.tensorpress.Plan, Path, Map)} has to be given.
     *
     * @param arena for the codes
     */
    public Map<String, Encoding.Quantized> codes(Arena arena) {
        Map<String, Encoding.Quantized> codes = new LinkedHashMap<>();
        if (simulation != null) {
            simulation.held().stream().sorted().forEach(name ->
                    codes.put(name, simulation.codes(name, Tensors.memory(student.parameter(name)), arena).orElseThrow()));
        }
        return codes;
    }

    /** What the student's recipe says: zeros that it has pruned stay, and the student computes with what its weights become. */
    public Distillation by(Student opened) {
        if (opened.pruned() && masks.isEmpty()) {
            holdZeros();
        }
        return opened.simulation() == null ? this : through(opened.simulation(), opened.start());
    }

    private static Map<String, NDArray> views(Map<String, NDArray> arrays, NDManager scope) {
        Map<String, NDArray> views = new LinkedHashMap<>();
        arrays.forEach((name, a) -> views.put(name, Optimizer.view(a, scope)));
        return views;
    }

    /**
     * Trains. The student's parameters are the best ones afterwards, also if this fails.
     *
     * @param progress told after each step
     * @throws DivergedException if a loss is no number
     * @throws UnsupportedRequestException if no parameter has a gradient
     * @throws ClosedByInterruptException if the thread is interrupted; the checkpoint, if there is one, is that of the last epoch
     * @throws IOException if samples cannot be read, or the checkpoint not written
     */
    public Result run(Consumer<Progress> progress) throws IOException {
        Map<String, NDArray> trained = new LinkedHashMap<>(parameters);
        projections.forEach((name, p) -> trained.put("projection." + name, p));
        optimizer = new Optimizer(options.sgd ? Optimizer.Kind.SGD : Optimizer.Kind.ADAMW, options.decay, options.momentum, trained, own,
                executor);
        parameters.forEach((name, p) -> {
            NDArray copy = p.duplicate();
            copy.attach(own);
            best.put(name, copy);
        });
        List<Epoch> epochs = new ArrayList<>();
        double before = evaluate();
        if (!Double.isFinite(before)) {
            throw new DivergedException("the loss is " + before + " before training: student" + (teacher == null ? "" : " or teacher") + " makes no numbers of these samples");
        }
        double least = before;
        int kept = 0;
        int first = 1;
        double spent = 0;
        if (options.checkpoint != null && Files.exists(options.checkpoint)) {
            Map<String, String> saved = Checkpoint.read(options.checkpoint, digest.text(), saved(trained));
            for (String line : saved.get("epochs").lines().toList()) {
                String[] parts = line.split(" ");
                epochs.add(new Epoch(Integer.parseInt(parts[0]), Double.parseDouble(parts[1]),
                        parts[2].equals("-") ? Optional.empty() : Optional.of(Double.parseDouble(parts[2]))));
            }
            before = Double.parseDouble(saved.get("before"));
            least = Double.parseDouble(saved.get("least"));
            kept = Integer.parseInt(saved.get("kept"));
            spent = Double.parseDouble(saved.get("spent"));
            first = epochs.size() + 1;
        }
        long perEpoch = training.epoch(0).size();
        long steps = perEpoch * options.epochs;
        double begun = spent;
        long start = System.nanoTime();
        double limit = options.time == null ? Double.POSITIVE_INFINITY : options.time.toNanos() / 1e9;
        long done = 0;
        try {
            for (int epoch = first; epoch <= options.epochs && epoch - kept <= options.patience && spent < limit; epoch++) {
                double sum = 0;
                int seen = 0;
                List<int[]> batches = training.epoch(epoch);
                for (int b = 0; b < batches.size() && spent < limit; b++) {
                    if (Thread.currentThread().isInterrupted()) {
                        throw new ClosedByInterruptException();
                    }
                    long step = (epoch - 1) * perEpoch + b + 1;
                    double part = Math.max((step - 1.0) / steps, spent / limit);
                    double loss = step(batches.get(b), epoch, step, options.schedule.at(part), trained);
                    if (!Double.isFinite(loss)) {
                        throw new DivergedException("the loss is " + loss + " in step " + step + " of " + steps + ", epoch " + epoch
                                + ": a lower learning rate may help");
                    }
                    if (done == 0 && loss > NOTHING && optimizer.norm() == 0) {
                        throw new UnsupportedRequestException("the loss is " + loss + ", and no parameter that is trained can change it: all gradients are 0");
                    }
                    sum += loss * batches.get(b).length;
                    seen += batches.get(b).length;
                    done++;
                    double now = (System.nanoTime() - start) / 1e9;
                    spent = begun + now;
                    long all = Math.clamp(Math.round(step / spent * limit), step, steps);
                    progress.accept(new Progress(epoch, step, all, loss, Math.min(now / done * (steps - step), Math.max(0, limit - spent))));
                }
                double mean = sum / Math.max(1, seen);
                double now = heldOut == null ? mean : evaluate();
                if (!Double.isFinite(now)) {
                    throw new DivergedException("the loss is " + now + " after epoch " + epoch + ": a lower learning rate may help");
                }
                epochs.add(new Epoch(epoch, mean, heldOut == null ? Optional.empty() : Optional.of(now)));
                if (now < least || heldOut == null) {
                    least = now;
                    kept = epoch;
                    parameters.forEach((name, p) -> p.copyTo(best.get(name)));
                }
                if (options.checkpoint != null) {
                    save(trained, epochs, before, least, kept, spent);
                }
            }
        } finally {
            parameters.forEach((name, p) -> best.get(name).copyTo(p));
        }
        return new Result(before, least, kept, List.copyOf(epochs));
    }

    private Map<String, NDArray> saved(Map<String, NDArray> trained) {
        Map<String, NDArray> all = new LinkedHashMap<>();
        trained.forEach((name, a) -> all.put("now." + name, a));
        best.forEach((name, a) -> all.put("best." + name, a));
        all.putAll(optimizer.state());
        return all;
    }

    private void save(Map<String, NDArray> trained, List<Epoch> epochs, double before, double least, int kept, double spent)
            throws IOException {
        StringBuilder lines = new StringBuilder();
        epochs.forEach(e -> lines.append(e.number).append(' ').append(e.loss).append(' ').append(e.heldOut.map(String::valueOf).orElse("-")).append('\n'));
        Checkpoint.write(options.checkpoint, digest.text(), saved(trained), Map.of("epochs", lines.toString(), "before", Double.toString(before), "least",
                Double.toString(least), "kept", Integer.toString(kept), "spent",
                Double.toString(spent)));
    }

    private double step(int[] batch, int epoch, long number, double rate, Map<String, NDArray> trained) throws IOException {
        try (NDManager scope = student.scope()) {
            simulate();
            // Gradients of what is written are those of the parameter.
            Map<String, NDArray> leaves = new LinkedHashMap<>(trained);
            leaves.replaceAll((name, p) -> written.getOrDefault(name, p));
            double loss = optimizer.step(() -> loss(training, batch, epoch, scope), leaves, number, rate, options.clip, scope);
            if (!Double.isFinite(loss)) {
                return loss;
            }
            masks.forEach((name, mask) -> parameters.get(name).muli(mask).addi(0)); // -0 + 0 is 0
            return loss;
        }
    }

    private NDArray loss(Batches of, int[] batch, int epoch, NDManager scope) throws IOException {
        Map<String, NDArray> inputs = of.inputs(batch, epoch, scope);
        Map<String, NDArray> wanted = teacher == null ? Map.of() : teacher.run(scope, inputs, objective.ofTeacher());
        Map<String, NDArray> got = student.run(scope, inputs, views(written, scope), objective.ofStudent());
        return objective.of(got, wanted, of.mask(inputs), of.labels(batch, scope), views(projections, scope));
    }

    /** Numbers of Java are f64, and so is what is made of them and a scalar. */
    static double number(NDArray scalar) {
        return scalar.toType(DataType.FLOAT64, false).getDouble();
    }

    /** What is written of parameters that have been trained since. */
    private void simulate() {
        written.forEach((name, array) -> {
            if (parameters.containsKey(name)) {
                simulation.decode(name, Tensors.memory(student.parameter(name)), Tensors.memory(array));
            }
        });
    }

    /** On what is held out, or on all. */
    private double evaluate() throws IOException {
        Batches of = heldOut == null ? training : heldOut;
        double sum = 0;
        simulate();
        for (int[] batch : of.epoch(0)) {
            try (NDManager scope = student.scope()) {
                sum += number(loss(of, batch, 0, scope)) * batch.length;
            }
        }
        return sum / of.samples();
    }

    @Override
    public void close() {
        own.close();
        executor.close();
        reader.close();
    }
}
