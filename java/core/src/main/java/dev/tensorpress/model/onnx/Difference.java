package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Weight;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** Compares what two models compute, but for the elements of their weights: two walks over the messages, side by side. */
final class Difference {
    /** Which fields of a message matter, and which of these are messages to look into. */
    private enum Message {
        MODEL(7, 8, 25), GRAPH(1, 11, 12, 15), NODE(1, 2, 4, 5, 7, 8), ATTRIBUTE(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 20, 21, 22, 23),
        TENSOR(1, 2), OTHER;

        private final BitSet fields = new BitSet();

        Message(int... fields) {
            for (int field : fields) {
                this.fields.set(field);
            }
        }

        boolean has(int field) {
            return fields.get(field);
        }

        Message inside(int field) {
            return switch (this) {
                case MODEL -> field == 7 ? GRAPH : OTHER;
                case GRAPH -> field == 1 ? NODE : OTHER;
                case NODE -> field == 5 ? ATTRIBUTE : OTHER;
                case ATTRIBUTE -> field == 5 ? TENSOR : field == 6 || field == 11 ? GRAPH : OTHER;
                case TENSOR, OTHER -> OTHER;
            };
        }
    }

    private final OnnxModel a;
    private final OnnxModel b;
    private final Map<Long, OnnxGraph.Node> nodes = new HashMap<>();
    /** Where tensors are whose elements are compared apart, or not at all. */
    private final Set<Long> tensors = new HashSet<>();
    /** Innermost, that the walk is in. */
    private String where = "the model";

    Difference(OnnxModel a, OnnxModel b) {
        this.a = a;
        this.b = b;
    }

    Optional<String> find() throws IOException {
        for (OnnxGraph g : a.parsed().graphs) {
            for (OnnxGraph.Node n : g.nodes) {
                nodes.put(n.fieldStart, n);
                for (OnnxGraph.Attribute attribute : n.attributes) {
                    if (attribute.tensor != null) {
                        tensors.add(attribute.tensor.fieldStart);
                    }
                }
            }
        }
        a.wire().seek(0, a.size());
        b.wire().seek(0, b.size());
        return same(Message.MODEL) ? constants() : Optional.of(where);
    }

    /** Whether two messages say the same, which both are entered. */
    private boolean same(Message message) {
        Wire x = a.wire();
        Wire y = b.wire();
        while (true) {
            boolean more = next(x, message);
            if (more != next(y, message) || more && (x.field != y.field || x.type != y.type)) {
                return false;
            }
            if (!more) {
                return true;
            }
            String outer = where;
            where = where(message, x, outer);
            if (x.type != Wire.BYTES) {
                if (x.value != y.value) {
                    return false;
                }
            } else if (message.inside(x.field) != Message.OTHER && (message.inside(x.field) != Message.TENSOR || tensors.contains(x.fieldStart))) {
                Message inside = message.inside(x.field);
                long end = x.enter("a message");
                long other = y.enter("a message");
                if (!same(inside)) {
                    return false;
                }
                x.leave(end);
                y.leave(other);
            } else if (x.slice(x.start, x.length).mismatch(y.slice(y.start, y.length)) >= 0) {
                return false;
            }
            where = outer;
        }
    }

    private String where(Message message, Wire at, String outer) {
        return switch (message) {
            case MODEL -> at.field == 8 ? "an operator set" : at.field == 25 ? "a function" : outer;
            case GRAPH -> switch (at.field) {
                case 1 -> "node " + nodes.get(at.fieldStart).reader();
                case 11 -> "an input";
                case 12 -> "an output";
                default -> "a sparse initializer";
            };
            default -> outer;
        };
    }

    private static boolean next(Wire w, Message message) {
        while (w.next()) {
            if (message.has(w.field)) {
                return true;
            }
        }
        return false;
    }

    /** Constants that are no weights, which count by their elements, wherever these are. */
    private Optional<String> constants() throws IOException {
        Map<String, TensorInfo> others = constants(b);
        for (Map.Entry<String, TensorInfo> e : constants(a).entrySet()) {
            TensorInfo other = others.remove(e.getKey());
            if (other == null || !same(e.getValue(), other)) {
                return Optional.of("constant '" + e.getKey() + "'");
            }
        }
        return others.keySet().stream().findFirst().map(name -> "constant '" + name + "'");
    }

    private static Map<String, TensorInfo> constants(OnnxModel model) {
        Set<TensorInfo> weights = Collections.newSetFromMap(new IdentityHashMap<>());
        for (Weight w : model.weights()) {
            weights.add(model.info(w).tensor);
        }
        Map<String, TensorInfo> all = new LinkedHashMap<>();
        for (OnnxGraph g : model.parsed().graphs) {
            for (TensorInfo t : g.initializers) {
                all.put(g.qualifier() + t.name, t);
            }
            for (OnnxGraph.Node n : g.nodes) {
                for (OnnxGraph.Attribute attribute : n.attributes) {
                    if (attribute.tensor != null) {
                        all.put(g.qualifier() + String.join(" ", n.outputs), attribute.tensor);
                    }
                }
            }
        }
        all.values().removeIf(weights::contains);
        return all;
    }

    private boolean same(TensorInfo x, TensorInfo y) throws IOException {
        if (x.type != y.type || !Arrays.equals(x.dims, y.dims)) {
            return false;
        }
        return elements(a, x).mismatch(elements(b, y)) < 0;
    }

    /** As raw data, or, where there are none, the fields with numbers. */
    private static MemorySegment elements(OnnxModel model, TensorInfo t) throws IOException {
        if (t.external) {
            return model.dataFiles().view(t);
        }
        Wire w = model.wire();
        if (t.hasRaw && t.rawLength > 0) {
            return w.slice(t.rawStart, t.rawLength);
        }
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        w.seek(t.start, t.end);
        while (w.next()) {
            switch (w.field) {
                case 4, 5, 6, 7, 10, 11 -> all.writeBytes(w.bytes(w.fieldStart, Math.toIntExact(w.end() - w.fieldStart)));
                default -> { }
            }
        }
        return MemorySegment.ofArray(all.toByteArray());
    }
}
