package dev.tensorpress.model.onnx;

import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import java.util.Arrays;

/** Where axes come from behind operators that only move, cut or convert what they read. */
final class Moves {
    private final Constants constants;

    Moves(Constants constants) {
        this.constants = constants;
    }

    /** Which axis of its input each axis of a node's results is, or -1 if it is new; null if that is not known. */
    int[] sources(Node n, int rank) {
        if (n.op.equals("Transpose")) {
            return permutation(n.attribute("perm"), rank);
        }
        boolean adds = n.op.equals("Unsqueeze");
        if (!adds && !n.op.equals("Squeeze")) {
            int[] same = new int[rank];
            for (int i = 0; i < rank; i++) {
                same[i] = i;
            }
            return same;
        }
        long[] axes = axes(n);
        if (axes == null) {
            return null;
        }
        // Of the two shapes the one with more axes, and which of those are only there.
        boolean[] ones = new boolean[adds ? rank + axes.length : rank];
        for (long axis : axes) {
            long at = axis < 0 ? axis + ones.length : axis;
            if (at < 0 || at >= ones.length || ones[(int) at]) {
                return null;
            }
            ones[(int) at] = true;
        }
        int[] from = new int[adds ? ones.length : rank - axes.length];
        int next = 0;
        for (int i = 0; i < ones.length; i++) {
            if (adds) {
                from[i] = ones[i] ? -1 : next++;
            } else if (!ones[i]) {
                from[next++] = i;
            }
        }
        return from;
    }

    private static int[] permutation(Attribute perm, int rank) {
        if (perm != null && (perm.integers == null || perm.integers.length != rank)) {
            return null;
        }
        int[] from = new int[rank];
        for (int i = 0; i < rank; i++) {
            long p = perm == null ? rank - 1 - i : perm.integers[i];
            if (p < 0 || p >= rank) {
                return null;
            }
            from[i] = (int) p;
        }
        return from;
    }

    /** The axis of the weight; readers that get inputs of several ranks mean an axis that this one lacks. */
    static int source(int[] from, int axis) {
        return axis < 0 || axis >= from.length ? -1 : from[axis];
    }

    /** The last sizes of the shape that a value is, its last one first; as many as are known, up to {@code count}. */
    long[] lastSizes(Value shape, int count) {
        long[] sizes = new long[count];
        int known = 0;
        boolean joined = shape != null && shape.producer != null && shape.producer.is("Concat");
        for (int i = joined ? shape.producer.inputs.size() - 1 : 0; i >= 0 && known < count; i--) {
            Value part = joined ? shape.producer.operand(i) : shape;
            if (part != null && part.producer != null && part.producer.is("Unsqueeze")) {
                part = part.producer.operand(0);
            }
            long[] all = part == null ? null : constants.integers(part);
            if (all == null || all.length == 0) {
                break;
            }
            for (int j = all.length - 1; j >= 0 && known < count; j--) {
                sizes[known++] = all[j];
            }
        }
        return Arrays.copyOf(sizes, known);
    }

    /** What the attribute or, of later operator sets, the second input says; null if that is not there or no constant. */
    long[] axes(Node n) {
        Attribute a = n.attribute("axes");
        if (a != null) {
            return a.integers;
        }
        Value v = n.operand(1);
        return v == null ? null : constants.integers(v);
    }
}
