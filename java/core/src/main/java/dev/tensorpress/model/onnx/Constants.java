package dev.tensorpress.model.onnx;

import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.OnnxGraph.Value;
import java.util.IdentityHashMap;
import java.util.Map;

/** Which values depend on nothing that a caller gives. */
final class Constants {
    private static final int LONGEST_CHAIN = 16;
    /** Numbers in a list, such as of axes. */
    private static final int MOST = 8;

    private final Parser model;
    private final Wire w;
    /** Whether the results of a node are constant. */
    private final Map<Node, Boolean> known = new IdentityHashMap<>(0);

    Constants(Parser model, Wire w) {
        this.model = model;
        this.w = w;
    }

    boolean contain(Value v) {
        return constant(v, 0);
    }

    /** True of constants, and of what standard operators make of constants alone. */
    private boolean constant(Value v, int depth) {
        Node n = v.producer;
        if (v.tensor != null) {
            return !v.input || model.irVersion < 4 && v.graph.parent == null;
        }
        if (n == null || depth == LONGEST_CHAIN) {
            return false;
        }
        Boolean all = known.get(n);
        if (all == null) {
            all = n.domain.isEmpty() && !n.hasGraphs && (n.is("Constant") || !n.inputs.isEmpty());
            for (int i = 0; all && i < n.inputs.size(); i++) {
                Value in = n.graph.resolve(n.inputs.get(i));
                all = n.inputs.get(i).isEmpty() || in != null && constant(in, depth + 1);
            }
            known.put(n, all);
        }
        return all;
    }

    /** A short list of int64; null if it is none, or no constant. */
    long[] integers(Value v) {
        if (!contain(v)) {
            return null;
        }
        Attribute list = v.producer == null ? null : v.producer.attribute("value_ints");
        if (list != null) {
            return list.integers;
        }
        TensorInfo t = v.tensor;
        if (t == null || t.type != TensorInfo.INT64 || t.elements > MOST || t.external) {
            return null;
        }
        long[] all = new long[(int) t.elements];
        int count = 0;
        if (t.hasRaw && t.rawLength > 0) {
            w.seek(t.rawStart, t.rawStart + t.rawLength);
            while (count < all.length) {
                all[count++] = w.fixed(8);
            }
            return all;
        }
        w.seek(t.start, t.end);
        while (w.next()) {
            if (w.field == 7) {
                if (w.type == Wire.VARINT) {
                    count = append(all, count, w.value);
                    continue;
                }
                long outer = w.enter("TensorProto.int64_data");
                while (w.more()) {
                    count = append(all, count, w.varint());
                }
                w.leave(outer);
            }
        }
        return count == all.length ? all : null;
    }

    private static int append(long[] to, int at, long v) {
        if (at < to.length) {
            to[at] = v;
        }
        return at + 1;
    }
}
