package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import java.util.LinkedHashMap;
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

    private final Kind kind;
    private final double decay;
    private final double momentum;
    private final Map<String, NDArray> parameters;
    /** First and second moments by parameter, named for checkpoints; of SGD only the first. */
    private final Map<String, NDArray> state = new LinkedHashMap<>();

    /**
     * @param parameters by name, which are changed in place
     * @param decay of weights: their part that goes with each step, times the learning rate
     */
    Optimizer(Kind kind, double decay, double momentum, Map<String, NDArray> parameters, NDManager manager) {
        this.kind = kind;
        this.decay = decay;
        this.momentum = momentum;
        this.parameters = parameters;
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

    /**
     * One step.
     *
     * @param gradients by parameter; those that have none stay
     * @param number of the step, from 1 on
     * @param clip to which the norm of all gradients together is brought, if it is larger; 0 for any
     * @return that norm, as it was
     */
    double step(Map<String, NDArray> gradients, long number, double rate, double clip, NDManager scope) {
        NDArray squares = null;
        for (NDArray g : gradients.values()) {
            NDArray one = g.square().sum();
            squares = squares == null ? one : squares.add(one);
        }
        double norm = squares == null ? 0 : Math.sqrt(squares.toType(DataType.FLOAT64, false).getDouble());
        double factor = clip > 0 && norm > clip ? clip / norm : 1;
        gradients.forEach((name, g) -> {
            NDArray p = parameters.get(name);
            NDArray gradient = factor == 1 ? g : g.mul(factor);
            NDArray first = state.get("first." + name);
            // Matrices shrink; biases and scales have nothing to shrink for.
            if (decay > 0 && p.getShape().dimension() > 1) {
                p.muli(1 - rate * decay);
            }
            if (kind == Kind.SGD) {
                first.muli(momentum).addi(gradient);
                p.subi(view(first, scope).mul(rate));
                return;
            }
            NDArray second = state.get("second." + name);
            first.muli(BETA1).addi(gradient.mul(1 - BETA1));
            second.muli(BETA2).addi(gradient.square().mul(1 - BETA2));
            NDArray spread = view(second, scope).div(1 - Math.pow(BETA2, number)).sqrt().add(EPSILON);
            p.subi(view(first, scope).div(spread).mul(rate / (1 - Math.pow(BETA1, number))));
        });
        return norm;
    }

    /** What is made of a view belongs to the scope. */
    static NDArray view(NDArray a, NDManager scope) {
        NDArray view = a.reshape(a.getShape());
        view.attach(scope);
        return view;
    }
}
