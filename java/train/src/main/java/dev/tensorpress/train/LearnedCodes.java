package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import dev.tensorpress.Simulation;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The codes of a weight while they are learned. Either each is the one below the element, or the next: which, says a number of its own between 0 and 1
 * (AdaRound, Nagel et al. 2020). Or they are the nearest of elements that are trained, and gradients pass straight through. Scales are trained with either
 * if asked for (Esser et al. 2020), as factors of what they were, so that all move alike.
 */
final class LearnedCodes {
    /** How names end of numbers that say which way codes go. */
    static final String ROUNDING = ".rounding";
    /** Of the rectified sigmoid, which reaches 0 and 1. */
    private static final double HIGH = 1.1;
    private static final double LOW = -0.1;
    /** By which scales are changed at most: none can become 0. */
    private static final double MOST = 4;

    private final String name;
    private final Encoding.Quantized start;
    private final Form.Quantized form;
    private final Form.Grid grid;
    private final NDArray element;
    /** [rows, cols] of the grid, as what follows: elements in units of their scales, rounded down, plus the zero point. */
    private final NDArray below;
    /** By which these are between that and the next, as it is learned; null if codes are the nearest. */
    private final NDArray between;
    /** 0 where a zero has to stay; null if none has. */
    private final NDArray mask;
    private final NDArray zeros;
    private final NDArray scales;
    /** Of the scales, in their order; null if these stay. */
    private final NDArray factors;

    /**
     * @param elements of the weight, whose memory it shares
     * @param start the codes at first
     * @param own memory of what is learned
     */
    LearnedCodes(String name, NDArray elements, Encoding.Quantized start, boolean rounding, boolean scales, boolean holdZeros, NDManager own) {
        this.name = name;
        this.start = start;
        this.form = start.form();
        this.grid = form.grid(start.shape());
        this.element = elements;
        try (NDManager scope = own.newSubManager(); Arena arena = Arena.ofConfined()) {
            NDArray each = scope.create(start.scalesAsF32(arena).toArray(ValueLayout.JAVA_FLOAT));
            // Copies: views would go with the memory that they are of.
            this.scales = kept(matrix(each).duplicate(), own);
            this.zeros = kept((start.zeros() == null ? scope.create((float) form.middle()) : matrix(scope.create(zeros(start)))).duplicate(), own);
            NDArray units = matrix(elements, scope).div(view(this.scales, scope));
            NDArray floor = units.floor();
            this.below = kept(floor.add(view(zeros, scope)), own);
            this.mask = holdZeros ? kept(units.neq(0).toType(DataType.FLOAT32, true), own) : null;
            // Of which the rectified sigmoid is what is left above the floor.
            NDArray part = units.sub(floor).sub(LOW).div(HIGH - LOW);
            this.between = rounding ? kept(part.div(part.neg().add(1)).log(), own) : null;
            this.factors = scales ? kept(each.onesLike(), own) : null;
        }
    }

    private static float[] zeros(Encoding.Quantized q) {
        byte[] bytes = q.zeros().data().toArray(ValueLayout.JAVA_BYTE);
        float[] zeros = new float[bytes.length];
        for (int i = 0; i < zeros.length; i++) {
            zeros[i] = q.form().type().signed() ? bytes[i] : bytes[i] & 0xff;
        }
        return zeros;
    }

    private static NDArray kept(NDArray a, NDManager own) {
        a.attach(own);
        return a;
    }

    private static NDArray view(NDArray a, NDManager scope) {
        return Optimizer.view(a, scope);
    }

    private NDArray matrix(NDArray elements, NDManager scope) {
        return view(elements, scope).reshape(grid.rows(), grid.cols());
    }

    /** What each group has, for each of its elements. */
    private NDArray matrix(NDArray groups) {
        long down = grid.groupsDown();
        long across = grid.groupsAcross();
        NDArray g = form.transposed() ? groups.reshape(across, down).transpose() : groups.reshape(down, across);
        NDArray all = g.reshape(down, 1, across, 1).broadcast(new Shape(down, grid.groupRows(), across, grid.groupCols()))
                .reshape(down * grid.groupRows(), across * grid.groupCols());
        return all.get(":" + grid.rows() + ", :" + grid.cols());
    }

    /** What is learned, by name. */
    Map<String, NDArray> learned() {
        Map<String, NDArray> all = new LinkedHashMap<>();
        if (between != null) {
            all.put(name + ROUNDING, between);
        }
        if (factors != null) {
            all.put(name + ".factors", factors);
        }
        return all;
    }

    /** How far each code is above the one below, from 0 to 1. */
    private NDArray share(NDManager scope) {
        NDArray h = Scalars.times(Operators.sigmoid(view(between, scope)), HIGH - LOW).add(LOW).clip(0, 1);
        return mask == null ? h : h.mul(view(mask, scope));
    }

    private NDArray scale(NDManager scope) {
        NDArray s = view(scales, scope);
        return factors == null ? s : s.mul(matrix(view(factors, scope).clip(1 / MOST, MOST)));
    }

    /** What the weight is at this time, in its own shape. */
    NDArray value(NDManager scope) {
        NDArray s = scale(scope);
        NDArray z = view(zeros, scope);
        NDArray codes;
        if (between != null) {
            codes = view(below, scope).add(share(scope)).clip(form.qmin(), form.qmax());
        } else {
            NDArray exact = matrix(element, scope).div(s).add(z).clip(form.qmin(), form.qmax());
            codes = exact.add(exact.round().sub(exact).stopGradient());
        }
        return codes.sub(z).mul(s).reshape(element.getShape());
    }

    /** How undecided the codes are: the sum of 1 - |2h - 1|<sup>beta</sup>; null if they are the nearest. */
    NDArray undecided(double beta, NDManager scope) {
        return between == null ? null : Scalars.power(Scalars.times(share(scope), 2).sub(1).abs(), beta).neg().add(1).sum();
    }

    /** The codes as they are now, each the nearer of two. */
    Encoding.Quantized codes(Simulation simulation, Arena arena) {
        try (NDManager scope = between == null ? element.getManager().newSubManager() : between.getManager().newSubManager()) {
            NDArray z = view(zeros, scope);
            NDArray codes = between != null ? view(below, scope).add(share(scope).gte(0.5).toType(DataType.FLOAT32, false))
                    : matrix(element, scope).div(scale(scope)).add(z).round();
            float[] units = codes.clip(form.qmin(), form.qmax()).sub(z).toFloatArray();
            float[] all = start.scalesAsF32(arena).toArray(ValueLayout.JAVA_FLOAT);
            if (factors != null) {
                float[] by = view(factors, scope).clip(1 / MOST, MOST).toFloatArray();
                // Their type may hold none that is so large, or so small.
                float least = form.scaleType() == DType.F16 ? 0x1p-24f : form.scaleType() == DType.BF16 ? 0x1p-133f : Float.MIN_VALUE;
                float most = form.scaleType() == DType.F16 ? 65504 : form.scaleType() == DType.BF16 ? 0x1.fep127f : Float.MAX_VALUE;
                for (int i = 0; i < all.length; i++) {
                    all[i] = Math.clamp(all[i] * by[i], least, most);
                }
            }
            return simulation.codes(start, units, all, arena);
        }
    }
}
