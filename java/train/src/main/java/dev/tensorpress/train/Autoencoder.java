package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.kernel.Pca;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.EditableValue;
import dev.tensorpress.runtime.InputException;
import dev.tensorpress.runtime.LatentCodec;
import dev.tensorpress.runtime.LatentCoder.Table;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;

/**
 * Trains {@link LatentCodec}s: variational autoencoders whose latents have the uniform posterior that rounding makes of them (Ballé et al. 2017). In training
 * uniform noise of width 1 is in the place of rounding, a mixture of three logistics for each latent is the prior, and what is made small is
 *
 * <pre>bits of the latents under the prior + lambda (squared error of the sample), lambda = 6 / (ln(2) step^2)</pre>
 *
 * <p>Encoder and decoder are sums of a matrix and of a perceptron with two hidden layers; of bytes the decoder's is clipped to 0 to 255. They start as principal
 * components in multiples of the step, which is best for Gaussians at high rates: there an error of step<sup>2</sup> / 12 in each component costs as much as the bits that it saves. Without an epoch they stay
 * that. The prior's tables are made of the mixtures and of the latents of all samples.
 */
public final class Autoencoder implements AutoCloseable {
    /** Logistics of a prior. */
    private static final int MIXED = 3;
    /** Components with less of a deviation, in steps, are nearly always rounded to 0. */
    private static final double LEAST_DEVIATION = 0.2;
    /** As how many samples the mixture counts in tables. */
    private static final double WEIGHT = 16;
    private static final double LEAST_PROBABILITY = 1e-9;
    /** Deviations whose squares, of all numbers of a batch, f32 still adds up, and one through them. */
    private static final double FARTHEST = 1e10;
    /** Steps in deviations: with far smaller ones every component is rounded to 0 already. */
    private static final double COARSEST = 1e5;
    /** Numbers of a matrix. Several like it are kept while it is trained. */
    private static final long LARGEST_LAYER = 1 << 26;
    private static final long OPSET = 17;
    private static final List<String> LAYERS = List.of("matrix", "first", "first.bias", "second", "second.bias", "third", "third.bias");

    /**
     * How.
     *
     * @param latents numbers that a sample becomes; 0 for all components that are not nearly always rounded to 0
     * @param width of hidden layers
     * @param step of the components to begin with, in units of the data; 0 for their deviation from their means
     * @param batch samples of a step of training
     * @param epochs how often all samples are seen, at most; 0 for principal components
     * @param rate the largest learning rate; it falls as a cosine
     * @param heldOut part of the samples, the last ones, by which the epoch is chosen
     * @param seed of the order of samples, of noise and of the perceptrons
     * @param time after which training ends, if not before; the rate follows the clock then, and bits depend on it; null for none
     */
    public record Options(int latents, int width, double step, int batch, int epochs, double rate, double heldOut, long seed, Duration time) {
        public static final Options DEFAULT = new Options(0, 256, 0, 128, 100, 1e-3, 0.1, 1, null);

        public Options {
            if (latents < 0 || width < 1 || batch < 1 || epochs < 0) {
                throw new IllegalArgumentException("width and batch must be at least 1, latents and epochs at least 0");
            }
            if (!(step >= 0 && step < Double.POSITIVE_INFINITY) || !(rate > 0 && rate < Double.POSITIVE_INFINITY) || !(heldOut >= 0 && heldOut < 1)) {
                throw new IllegalArgumentException("the step must be at least 0, the rate above 0, and the part that is held out at least 0 and below 1");
            }
        }

        public Options latents(int latents) {
            return new Options(latents, width, step, batch, epochs, rate, heldOut, seed, time);
        }

        public Options width(int width) {
            return new Options(latents, width, step, batch, epochs, rate, heldOut, seed, time);
        }

        public Options step(double step) {
            return new Options(latents, width, step, batch, epochs, rate, heldOut, seed, time);
        }

        public Options batch(int batch) {
            return new Options(latents, width, step, batch, epochs, rate, heldOut, seed, time);
        }

        public Options epochs(int epochs) {
            return new Options(latents, width, step, batch, epochs, rate, heldOut, seed, time);
        }

        public Options rate(double rate) {
            return new Options(latents, width, step, batch, epochs, rate, heldOut, seed, time);
        }

        public Options heldOut(double heldOut) {
            return new Options(latents, width, step, batch, epochs, rate, heldOut, seed, time);
        }

        public Options seed(long seed) {
            return new Options(latents, width, step, batch, epochs, rate, heldOut, seed, time);
        }

        public Options time(Duration time) {
            return new Options(latents, width, step, batch, epochs, rate, heldOut, seed, time);
        }
    }

    /**
     * What a sample takes and loses, with latents rounded.
     *
     * @param bits of a sample under the prior, mean
     * @param squaredError mean over all elements
     */
    public record Measured(double bits, double squaredError) {}

    /**
     * Where training is.
     *
     * @param step from 1 on, of {@code steps}, which are as many as are expected where time ends training
     * @param loss of the step's batch, by element
     * @param secondsLeft as far as it can be told
     */
    public record Progress(int epoch, long step, long steps, double loss, double secondsLeft) {}

    /**
     * What came of it.
     *
     * @param latents numbers that a sample becomes
     * @param step see {@link Options}
     * @param before of principal components, on what is held out, or on all samples if nothing is
     * @param after of what is written
     * @param kept epoch that is written; 0 for principal components, if no epoch was better
     */
    public record Result(int latents, double step, Measured before, Measured after, int kept) {}

    private final DType type;
    private final dev.tensorpress.tensor.Shape sample;
    private final float[] data;
    private final int samples;
    private final int features;
    private final Options options;
    private final int training;
    private final double step;
    private final double lambda;
    private final int latents;
    private final Network encoder;
    private final Network decoder;
    private final EditableModel encoderModel;
    private final EditableModel decoderModel;
    private final Executor executor = Executor.cpu(Engines.threads());
    private final Arena arena = Arena.ofShared();
    private final NDManager own;
    private final Map<String, NDArray> trained = new LinkedHashMap<>();
    private final NDArray logits;
    private final NDArray means;
    private final NDArray logScales;

    /**
     * Finds the principal components.
     *
     * @param data [samples, ...], F32 or U8, at least two samples
     * @throws InputException if the data are not that, hold NaN or infinity, or are all the same, if f32 does not hold their squares, if the step is far too
     *     small or large for them, or if less than two samples are not held out
     * @throws UnsupportedRequestException if a layer would have more than 2^26 numbers
     * @throws IllegalStateException if PyTorch cannot be loaded
     */
    public Autoencoder(Tensor data, Options options) {
        this.options = options;
        type = data.dtype();
        if (data.shape().rank() < 2 || data.shape().dim(0) < 2 || data.shape().elements() == 0) {
            throw new InputException("expected an array of two or more samples along its first axis, found " + data.shape());
        }
        this.data = LatentCodec.floats(data);
        samples = Math.toIntExact(data.shape().dim(0));
        features = this.data.length / samples;
        sample = dev.tensorpress.tensor.Shape.of(Arrays.copyOfRange(data.shape().dims(), 1, data.shape().rank()));
        training = Math.max(1, samples - (int) Math.round(samples * options.heldOut));
        if (training < 2) {
            throw new InputException("of " + samples + " samples, only " + training + " is left to learn from, beside what is held out");
        }
        try (Arena work = Arena.ofShared()) {
            MemorySegment x = work.allocate(4L * training * features, 64).copyFrom(MemorySegment.ofArray(this.data).asSlice(0, 4L * training * features));
            View view = new View(DType.F32, x, features);
            try (Pca pca = Pca.of(view, training, features, executor)) {
                double deviation = Math.sqrt(pca.totalVariance() / features);
                if (!(deviation > 0)) {
                    throw new InputException("all samples are the same: there is nothing to learn");
                }
                if (!(deviation > 1 / FARTHEST && deviation < FARTHEST)) {
                    throw new InputException("numbers deviate by " + (float) deviation + " from their means, which is beyond " + 1 / FARTHEST + " to " + FARTHEST
                            + ": they have to be in another unit");
                }
                step = options.step == 0 ? deviation : options.step;
                if (step > COARSEST * deviation) {
                    throw new InputException("a step of " + (float) step + " is too large for numbers that deviate by " + (float) deviation + " from their means");
                }
                lambda = 6 / (Math.log(2) * step * step);
                double[] deviations = Arrays.stream(pca.variance()).map(v -> Math.sqrt(v) / step).toArray();
                int worth = (int) Arrays.stream(deviations).filter(d -> d > LEAST_DEVIATION).count();
                latents = Math.min(deviations.length, options.latents == 0 ? Math.max(1, worth) : options.latents);
                MemorySegment scores = work.allocate(8L * training * pca.rank(), 64);
                if ((long) Math.max(features, options.width) * Math.max(latents, options.width) > LARGEST_LAYER) {
                    throw new UnsupportedRequestException("a layer of " + Math.max(features, options.width) + " times " + Math.max(latents, options.width)
                            + " numbers is too large to be trained");
                }
                pca.transform(view, training, scores, executor);
                double largest = Arrays.stream(scores.toArray(ValueLayout.JAVA_DOUBLE)).map(Math::abs).max().orElseThrow();
                if (largest / step > LatentCodec.LARGEST) {
                    throw new InputException("a step of " + (float) step + " is too small: components of up to " + (float) largest + " would become numbers above "
                            + LatentCodec.LARGEST + ", the largest that is coded");
                }
                Random random = new Random(options.seed);
                encoderModel = encoder(pca, deviation, random);
                decoderModel = decoder(pca, deviation, shrinkage(scores.toArray(ValueLayout.JAVA_DOUBLE), (int) pca.rank()), random);
                encoder = Network.of(encoderModel);
                decoder = Network.of(decoderModel);
                own = encoder.scope();
                float[] mean = new float[latents * MIXED];
                float[] scale = new float[latents * MIXED];
                for (int i = 0; i < mean.length; i++) {
                    mean[i] = (float) ((i % MIXED - 1) * 0.5 * deviations[i / MIXED]);
                    scale[i] = (float) Math.log(Math.max(0.1, 0.5 * deviations[i / MIXED]));
                }
                logits = own.zeros(new Shape(latents, MIXED));
                means = own.create(mean, new Shape(latents, MIXED));
                logScales = own.create(scale, new Shape(latents, MIXED));
            }
        } catch (RuntimeException | Error e) {
            close();
            throw e;
        }
        for (String name : LAYERS) {
            // Without training there are no layers, and one number alone is no parameter.
            if (encoder.parameters().contains(name)) {
                trained.put("encoder." + name, encoder.parameter(name));
            }
            if (decoder.parameters().contains(name)) {
                trained.put("decoder." + name, decoder.parameter(name));
            }
        }
        trained.put("prior.logits", logits);
        trained.put("prior.means", means);
        trained.put("prior.scales", logScales);
    }

    /** Of each component, what rounded scores are to be multiplied with for the least error: near 0 where most become 0. */
    private double[] shrinkage(double[] scores, int rank) {
        double[] factors = new double[latents];
        for (int k = 0; k < latents; k++) {
            double both = 0;
            double squares = 0;
            for (int at = k; at < scores.length; at += rank) {
                double rounded = Math.rint(scores[at] / step) * step;
                both += scores[at] * rounded;
                squares += rounded * rounded;
            }
            factors[k] = squares == 0 ? 1 : both / squares;
        }
        return factors;
    }

    private void put(EditableModel model, String name, float[] elements, long... dims) {
        model.graph().initializers().put(name, EditableTensor.of(new Tensor(DType.F32, dev.tensorpress.tensor.Shape.of(dims),
                arena.allocate(4L * elements.length, 64).copyFrom(MemorySegment.ofArray(elements)))));
    }

    private static void node(EditableModel model, String type, String output, String... inputs) {
        model.graph().nodes().add(new EditableNode(type, "", output, List.of(inputs), List.of(output)));
    }

    private static EditableValue value(String name, int width) {
        return EditableValue.of(name, DType.F32, List.of(new EditableValue.Axis(-1, "samples"), new EditableValue.Axis(width, "")));
    }

    /** out = in matrix + third(relu(second(relu(first(in))))), the third of which is 0 to begin with; without training the matrix alone. */
    private void layers(EditableModel model, String in, int from, float[] matrix, int to, String out, Random random) {
        put(model, "matrix", matrix, from, to);
        if (options.epochs == 0) {
            node(model, "MatMul", out, in, "matrix");
            return;
        }
        node(model, "MatMul", "linear", in, "matrix");
        String last = in;
        int wide = from;
        for (String name : List.of("first", "second", "third")) {
            int next = name.equals("third") ? to : options.width;
            float[] w = new float[wide * next];
            for (int i = 0; i < w.length && next == options.width && !name.equals("third"); i++) {
                w[i] = (float) (random.nextGaussian() * Math.sqrt(2.0 / wide));
            }
            put(model, name, w, wide, next);
            put(model, name + ".bias", new float[next], next);
            node(model, "MatMul", name + ".product", last, name);
            node(model, "Add", name + ".sum", name + ".product", name + ".bias");
            last = name + ".sum";
            if (!name.equals("third")) {
                node(model, "Relu", name + ".relu", last);
                last = name + ".relu";
            }
            wide = next;
        }
        node(model, "Add", out, "linear", last);
    }

    private float[] mean(Pca pca) {
        double[] exact = pca.mean().toArray(ValueLayout.JAVA_DOUBLE);
        float[] mean = new float[features];
        for (int i = 0; i < features; i++) {
            mean[i] = (float) exact[i];
        }
        return mean;
    }

    private EditableModel encoder(Pca pca, double deviation, Random random) {
        EditableModel model = EditableModel.create(OPSET);
        model.graph().inputs().put("data", value("data", features));
        put(model, "mean", mean(pca), features);
        model.graph().initializers().put("scale", EditableTensor.scalar((float) (1 / deviation)));
        model.graph().initializers().put("steps", EditableTensor.scalar((float) (deviation / step)));
        node(model, "Sub", "centred", "data", "mean");
        node(model, "Mul", "scaled", "centred", "scale");
        float[] matrix = new float[features * latents];
        double[] components = pca.components().toArray(ValueLayout.JAVA_DOUBLE);
        for (int i = 0; i < matrix.length; i++) {
            matrix[i % features * latents + i / features] = (float) components[i];
        }
        layers(model, "scaled", features, matrix, latents, "scores", random);
        node(model, "Mul", "exact", "scores", "steps");
        node(model, "Round", "latents", "exact");
        model.graph().outputs().put("latents", value("latents", latents));
        return model;
    }

    private EditableModel decoder(Pca pca, double deviation, double[] factors, Random random) {
        EditableModel model = EditableModel.create(OPSET);
        model.graph().inputs().put("latents", value("latents", latents));
        put(model, "mean", mean(pca), features);
        model.graph().initializers().put("scale", EditableTensor.scalar((float) deviation));
        model.graph().initializers().put("steps", EditableTensor.scalar((float) (step / deviation)));
        node(model, "Mul", "scores", "latents", "steps");
        float[] matrix = new float[latents * features];
        double[] components = pca.components().toArray(ValueLayout.JAVA_DOUBLE);
        for (int i = 0; i < matrix.length; i++) {
            matrix[i] = (float) (factors[i / features] * components[i]);
        }
        layers(model, "scores", latents, matrix, features, "scaled", random);
        node(model, "Mul", "centred", "scaled", "scale");
        if (type == DType.U8) {
            node(model, "Add", "unlimited", "centred", "mean");
            model.graph().initializers().put("least", EditableTensor.scalar(0f));
            model.graph().initializers().put("most", EditableTensor.scalar(255f));
            node(model, "Clip", "data", "unlimited", "least", "most");
        } else {
            node(model, "Add", "data", "centred", "mean");
        }
        model.graph().outputs().put("data", value("data", features));
        return model;
    }

    private NDArray rows(int[] numbers, NDManager scope) {
        float[] some = new float[numbers.length * features];
        for (int i = 0; i < numbers.length; i++) {
            System.arraycopy(data, numbers[i] * features, some, i * features, features);
        }
        return scope.create(some, new Shape(numbers.length, features));
    }

    /** Bits of all latents [n, latents] under the prior. */
    private NDArray bits(NDArray latents, NDManager scope) {
        NDArray scales = Optimizer.view(logScales, scope).neg().exp();
        NDArray centred = latents.expandDims(2).sub(Optimizer.view(means, scope));
        NDArray above = Operators.sigmoid(centred.add(0.5f).mul(scales));
        NDArray below = Operators.sigmoid(centred.sub(0.5f).mul(scales));
        NDArray each = above.sub(below).mul(Optimizer.view(logits, scope).softmax(1)).sum(new int[] {2});
        return Scalars.times(each.add((float) LEAST_PROBABILITY).log().sum(), -1 / Math.log(2));
    }

    private NDArray exact(NDArray x, NDManager scope) {
        return encoder.run(scope, Map.of("data", x), List.of("exact")).get("exact");
    }

    private NDArray decoded(NDArray latents, NDManager scope) {
        return decoder.run(scope, Map.of("latents", latents), List.of("data")).get("data");
    }

    private NDArray loss(int[] batch, Random random, boolean rounded, NDManager scope) {
        NDArray x = rows(batch, scope);
        NDArray exact = exact(x, scope);
        float[] noise = new float[batch.length * latents];
        for (int i = 0; i < noise.length; i++) {
            noise[i] = random.nextFloat() - 0.5f;
        }
        NDArray noisy = exact.add(scope.create(noise, exact.getShape()));
        NDArray seen = rounded ? exact.add(exact.round().sub(exact).stopGradient()) : noisy;
        NDArray squares = decoded(seen, scope).sub(x).square().sum();
        return Scalars.over(bits(noisy, scope).add(Scalars.times(squares, lambda)), (double) batch.length * features);
    }

    private Measured measure(int from, int to) {
        double bits = 0;
        double squares = 0;
        for (int at = from; at < to; at += 256) {
            int first = at;
            int[] batch = new int[Math.min(256, to - at)];
            Arrays.setAll(batch, i -> first + i);
            try (NDManager scope = encoder.scope()) {
                NDArray x = rows(batch, scope);
                NDArray rounded = exact(x, scope).round();
                bits += Distillation.number(bits(rounded, scope));
                squares += Distillation.number(decoded(rounded, scope).sub(x).square().sum());
            }
        }
        return new Measured(bits / (to - from), squares / ((double) (to - from) * features));
    }

    private double loss(Measured m) {
        return m.bits + lambda * features * m.squaredError;
    }

    /**
     * Trains, and writes a codec. Of all epochs that is written that loses least on what is held out.
     *
     * @param folder that is there, in which the files of the codec are written or replaced
     * @param progress told after each step
     * @throws UnsupportedRequestException if a loss is no number; nothing is written then
     * @throws ClosedByInterruptException if the thread is interrupted
     */
    public Result run(Path folder, Consumer<Progress> progress) throws IOException {
        int from = training == samples ? 0 : training;
        Measured before = measure(from, samples);
        Measured least = before;
        int kept = 0;
        Map<String, NDArray> best = new LinkedHashMap<>();
        trained.forEach((name, p) -> {
            NDArray copy = p.duplicate();
            copy.attach(own);
            best.put(name, copy);
        });
        Optimizer optimizer = new Optimizer(Optimizer.Kind.ADAMW, 0, 0, trained, own, executor);
        Schedule schedule = new Schedule(Schedule.Shape.COSINE, options.rate, 0.02);
        int perEpoch = Math.ceilDiv(training, options.batch);
        long steps = (long) perEpoch * options.epochs;
        double limit = options.time == null ? Double.POSITIVE_INFINITY : options.time.toNanos() / 1e9;
        long start = System.nanoTime();
        double spent = 0;
        Random random = new Random(options.seed * 0x9e3779b97f4a7c15L + 1);
        int[] order = new int[training];
        Arrays.setAll(order, i -> i);
        for (int epoch = 1; epoch <= options.epochs && spent < limit; epoch++) {
            for (int i = training - 1; i > 0; i--) {
                int j = random.nextInt(i + 1);
                int swapped = order[i];
                order[i] = order[j];
                order[j] = swapped;
            }
            for (int b = 0; b < perEpoch && spent < limit; b++) {
                if (Thread.currentThread().isInterrupted()) {
                    throw new ClosedByInterruptException();
                }
                long number = (epoch - 1L) * perEpoch + b + 1;
                double part = Math.max((number - 1.0) / steps, spent / limit);
                int[] batch = Arrays.copyOfRange(order, b * options.batch, Math.min(training, (b + 1) * options.batch));
                double loss;
                try (NDManager scope = encoder.scope()) {
                    loss = optimizer.step(() -> loss(batch, random, part > 0.5, scope), trained, number, schedule.at(part), 1, scope);
                }
                if (!Double.isFinite(loss)) {
                    throw new UnsupportedRequestException("the loss is " + loss + " in step " + number + " of " + steps + ": a lower learning rate may help");
                }
                spent = (System.nanoTime() - start) / 1e9;
                long all = Math.clamp(Math.round(number / spent * limit), number, steps);
                progress.accept(new Progress(epoch, number, all, loss, Math.min(spent / number * (steps - number), Math.max(0, limit - spent))));
            }
            Measured now = measure(from, samples);
            if (loss(now) < loss(least)) {
                least = now;
                kept = epoch;
                trained.forEach((name, p) -> p.copyTo(best.get(name)));
            }
        }
        trained.forEach((name, p) -> best.get(name).copyTo(p));
        write(folder);
        return new Result(latents, step, before, least, kept);
    }

    private void write(Path folder) throws IOException {
        encoder.store(arena);
        decoder.store(arena);
        encoderModel.write(Destination.replacing(folder.resolve(LatentCodec.ENCODER)));
        decoderModel.write(Destination.replacing(folder.resolve(LatentCodec.DECODER)));
        int[][] seen = new int[latents][samples];
        for (int at = 0; at < samples; at += 256) {
            int first = at;
            int[] batch = new int[Math.min(256, samples - at)];
            Arrays.setAll(batch, i -> first + i);
            try (NDManager scope = encoder.scope()) {
                float[] rounded = exact(rows(batch, scope), scope).round().toFloatArray();
                for (int i = 0; i < rounded.length; i++) {
                    seen[i % latents][at + i / latents] = Math.round(rounded[i]);
                }
            }
        }
        float[] l = logits.toFloatArray();
        float[] m = means.toFloatArray();
        float[] s = logScales.toFloatArray();
        List<Table> tables = new ArrayList<>();
        for (int k = 0; k < latents; k++) {
            int first = k * MIXED;
            tables.add(Table.of(seen[k], x -> {
                double sum = 0;
                double all = 0;
                for (int i = first; i < first + MIXED; i++) {
                    double scale = Math.exp(-s[i]);
                    all += Math.exp(l[i]);
                    sum += Math.exp(l[i]) * (logistic((x + 0.5 - m[i]) * scale) - logistic((x - 0.5 - m[i]) * scale));
                }
                return sum / all;
            }, WEIGHT));
        }
        LatentCodec.writePrior(folder.resolve(LatentCodec.PRIOR), type, sample, tables);
    }

    private static double logistic(double x) {
        return 0.5 * Math.tanh(0.5 * x) + 0.5;
    }

    @Override
    public void close() {
        if (own != null) {
            own.close();
        }
        if (decoder != null) {
            decoder.close();
        }
        if (encoder != null) {
            encoder.close();
        }
        arena.close();
        executor.close();
    }
}
