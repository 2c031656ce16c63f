package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.Graph.Window.Pair;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.tensor.Shape;
import java.util.Optional;

/** What the attributes of a convolution say of where it looks. */
final class Windows {
    private static final long[] ONES = {1, 1};
    private static final long[] ZEROS = {0, 0, 0, 0};

    private Windows() {}

    /** Empty if it is none, or has more than two axes, or numbers that cannot be. */
    static Optional<Window> of(Node n, Weight weight) {
        Shape shape = weight.tensor().shape();
        int axes = shape.rank() - 2;
        String pad = n.attribute("auto_pad") == null ? "" : n.attribute("auto_pad").text;
        if (!n.is("Conv") || axes < 1 || axes > 2 || pad.startsWith("SAME")) {
            return Optional.empty();
        }
        long[] kernel = axes == 1 ? new long[] {1, shape.dim(2)} : new long[] {shape.dim(2), shape.dim(3)};
        long[] strides = numbers(n, "strides", axes, ONES);
        long[] dilations = numbers(n, "dilations", axes, ONES);
        long[] pads = pad.equals("VALID") ? ZEROS : numbers(n, "pads", 2 * axes, ZEROS);
        long groups = n.integer("group", 1);
        if (strides == null || dilations == null || pads == null || !fits(groups) || !fits(kernel[0]) || !fits(kernel[1])) {
            return Optional.empty();
        }
        return Optional.of(new Window((int) kernel[0], (int) kernel[1], pair(strides, 0), pair(dilations, 0), pair(pads, 0), pair(pads, 2),
                (int) groups));
    }

    private static boolean fits(long n) {
        return n >= 1 && n <= Integer.MAX_VALUE;
    }

    private static Pair pair(long[] numbers, int at) {
        return new Pair((int) numbers[at], (int) numbers[at + 1]);
    }

    /** With those of a height in front if there is none; null if they are too many, too few, too large, or too small. */
    private static long[] numbers(Node n, String name, int count, long[] otherwise) {
        Attribute a = n.attribute(name);
        if (a == null) {
            return otherwise;
        }
        if (a.integers == null || a.integers.length != count) {
            return null;
        }
        long[] all = otherwise.clone();
        int half = otherwise.length == 4 ? 2 : 1;
        for (int i = 0; i < count; i++) {
            if (a.integers[i] < otherwise[0] || a.integers[i] > Integer.MAX_VALUE) {
                return null;
            }
            all[count == otherwise.length ? i : half * i + 1] = a.integers[i];
        }
        return all;
    }
}
