package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.training.GradientCollector;
import dev.tensorpress.kernel.Executor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Moves parameters against their gradients. One thread at a time. */
final class Optimizer {
    /** Which. */
    enum Kind {
        /** With weight decay apart from the gradient (Loshchilov and Hutter 2019); betas of 0.9 and 0.999, epsilon of 1e-8. */
        ADAMW,
        /** With Nesterov-free momentum. */
        SGD
    }

    private static final double BETA1 = 0.9;
    private static final double BETA2 = 0.999;
    private static final double EPSILON = 1e-8;
    /** Elements that are worked on at a time. */
    private static final int PIECE = 2048;

    private final Kind kind;
    private final double decay;
    private final double momentum;
    private final Map<String, NDArray> parameters;
    private final Executor executor;
    /** First and second moments by parameter, named for checkpoints; of SGD only the first. */
    private final Map<String, NDArray> state = new LinkedHashMap<>();
    private double norm;

    /**
     * @param parameters by name, which are changed in place
     * @param decay of weights: their part that goes with each step, times the learning rate
     * @param manager of the state
     */
    Optimizer(Kind kind, double decay, double momentum, Map<String, NDArray> parameters, NDManager manager, Executor executor) {
        this.kind = kind;
        this.decay = decay;
        this.momentum = momentum;
        this.parameters = parameters;
        this.executor = executor;
        parameters.forEach((name, p) -> {
            state.put("first." + name, manager.zeros(p.getShape(), p.getDataType()));
            if (kind == Kind.ADAMW) {
                state.put("second." + name, manager.zeros(p.getShape(), p.getDataType()));
            }
        });
    }

    Map<String, NDArray> state() {
        return state;
    }

    /** Of all gradients of the last loss together. */
    double norm() {
        return norm;
    }

    /** What is to become smaller, a scalar. */
    @FunctionalInterface
    interface Loss {
        NDArray get() throws IOException;
    }

    /**
     * One step against the gradients of a loss, unless that is no number.
     *
     * @param leaves by parameter, whose gradients are taken for those of the parameter: itself, or what is in its place
     * @return the loss
     */
    double step(Loss loss, Map<String, NDArray> leaves, long number, double rate, double clip, NDManager scope) throws IOException {
        leaves.values().forEach(p -> p.setRequiresGradient(true));
        double found;
        try (GradientCollector collector = Engines.engine().newGradientCollector()) {
            NDArray value = loss.get();
            found = Distillation.number(value);
            if (!Double.isFinite(found)) {
                return found;
            }
            collector.backward(value);
        }
        Map<String, NDArray> gradients = new LinkedHashMap<>();
        leaves.forEach((name, p) -> {
            NDArray g = p.getGradient();
            if (g != null) {
                g.attach(scope);
                gradients.put(name, g);
            }
            p.setRequiresGradient(false);
        });
        norm = step(gradients, number, rate, clip);
        gradients.values().forEach(g -> g.muli(0));
        return found;
    }

    /**
     * One step. Each parameter is read and written once, in pieces that stay in the cache: as operations of PyTorch it took a third of a training step.
     *
     * @param gradients by parameter; those that have none stay
     * @param number of the step, from 1 on
     * @param clip to which the norm of all gradients together is brought, if it is larger; 0 for any
     * @return that norm, as it was
     */
    double step(Map<String, NDArray> gradients, long number, double rate, double clip) {
        double squares = 0;
        for (NDArray g : gradients.values()) {
            try (NDArray one = g.norm()) {
                squares += Math.pow(one.toType(DataType.FLOAT64, false).getDouble(), 2);
            }
        }
        double norm = Math.sqrt(squares);
        double factor = clip > 0 && norm > clip ? clip / norm : 1;
        double first = 1 - Math.pow(BETA1, number);
        double second = 1 - Math.pow(BETA2, number);
        gradients.forEach((name, g) -> {
            NDArray p = parameters.get(name);
            // Matrices shrink; biases and scales have nothing to shrink for.
            double keep = p.getShape().dimension() > 1 ? 1 - rate * decay : 1;
            boolean wide = p.getDataType() == DataType.FLOAT64;
            List<MemorySegment> all = new ArrayList<>(List.of(Tensors.memory(p), Tensors.memory(g), Tensors.memory(state.get("first." + name))));
            if (kind == Kind.ADAMW) {
                all.add(Tensors.memory(state.get("second." + name)));
            }
            executor.run(p.size(), PIECE, Executor.WORTH, (begin, end, worker) -> {
                double[][] x = new double[all.size()][PIECE];
                float[] narrow = new float[PIECE];
                for (long at = begin; at < end; at += PIECE) {
                    int n = (int) Math.min(PIECE, end - at);
                    for (int i = 0; i < x.length; i++) {
                        read(all.get(i), at, wide, n, x[i], narrow);
                    }
                    if (kind == Kind.SGD) {
                        sgd(x[0], x[1], x[2], n, factor, keep, rate);
                    } else {
                        adamw(x[0], x[1], x[2], x[3], n, factor, keep, rate / first, 1 / second);
                    }
                    for (int i = 0; i < x.length; i++) {
                        if (i != 1) {
                            write(all.get(i), at, wide, n, x[i], narrow);
                        }
                    }
                }
            });
        });
        return norm;
    }

    private void sgd(double[] p, double[] g, double[] first, int n, double factor, double keep, double rate) {
        for (int i = 0; i < n; i++) {
            first[i] = first[i] * momentum + g[i] * factor;
            p[i] = p[i] * keep - rate * first[i];
        }
    }

    private static void adamw(double[] p, double[] g, double[] first, double[] second, int n, double factor, double keep, double rate, double spread) {
        for (int i = 0; i < n; i++) {
            double gradient = g[i] * factor;
            first[i] = first[i] * BETA1 + gradient * (1 - BETA1);
            second[i] = second[i] * BETA2 + gradient * gradient * (1 - BETA2);
            p[i] = p[i] * keep - rate * first[i] / (Math.sqrt(second[i] * spread) + EPSILON);
        }
    }

    private static void read(MemorySegment from, long at, boolean wide, int n, double[] to, float[] narrow) {
        if (wide) {
            MemorySegment.copy(from, ValueLayout.JAVA_DOUBLE, 8 * at, to, 0, n);
            return;
        }
        MemorySegment.copy(from, ValueLayout.JAVA_FLOAT, 4 * at, narrow, 0, n);
        for (int i = 0; i < n; i++) {
            to[i] = narrow[i];
        }
    }

    private static void write(MemorySegment to, long at, boolean wide, int n, double[] from, float[] narrow) {
        if (wide) {
            MemorySegment.copy(from, 0, to, ValueLayout.JAVA_DOUBLE, 8 * at, n);
            return;
        }
        for (int i = 0; i < n; i++) {
            narrow[i] = (float) from[i];
        }
        MemorySegment.copy(narrow, 0, to, ValueLayout.JAVA_FLOAT, 4 * at, n);
    }

    /** What is made of a view belongs to the scope. */
    static NDArray view(NDArray a, NDManager scope) {
        NDArray view = a.reshape(a.getShape());
        view.attach(scope);
        return view;
    }
}
