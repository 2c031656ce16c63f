package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableGraph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/** Lets constants that are alike be one. Those that nobody reads any more are left to {@link Unused}. */
final class Sharing {
    /** Smaller weights gain nothing. */
    private static final long LEAST_ELEMENTS = 1024;

    private record Bits(Optional<DType> type, Shape shape, long hash) {}

    private record Kind(DType type, Shape shape) {}

    /** A weight and the root of the sum of its squares. */
    private record Weight(Links.Value value, Tensor tensor, double norm) {}

    private Sharing() {}

    /** Constants in the order in which nodes can read them: of outer graphs first, and of a graph its initializers before those of its nodes. */
    private static List<Links.Value> constants(EditableModel model, Links links) {
        List<Links.Value> all = new ArrayList<>();
        for (EditableGraph g : model.graph().all()) {
            g.initializers().keySet().forEach(name -> all.add(links.resolve(g, name)));
            for (EditableNode n : g.nodes()) {
                if (n.is("Constant") && links.result(g, n) != null) {
                    all.add(links.result(g, n));
                }
            }
        }
        all.removeIf(v -> v.constant().isEmpty() || v.tensor.type().isEmpty());
        return all;
    }

    /** Whether nodes of the graph can read it wherever they stand: one of a node further out may come too late for them. */
    private static boolean reaches(Links.Value from, Links.Value to) {
        return from.producer == null || from.graph == to.graph;
    }

    static void equal(EditableModel model) {
        Links links = new Links(model);
        Map<Bits, List<Links.Value>> first = new HashMap<>();
        for (Links.Value v : constants(model, links)) {
            List<Links.Value> alike = first.computeIfAbsent(new Bits(v.tensor.type(), v.tensor.shape(), hash(v.tensor.tensor().data())),
                    b -> new ArrayList<>(1));
            boolean shared = false;
            for (int i = 0; i < alike.size() && !shared; i++) {
                Links.Value one = alike.get(i);
                shared = reaches(one, v) && one.tensor.same(v.tensor) && links.replace(v, one);
            }
            if (!shared) {
                alike.add(v);
            }
        }
    }

    private static long hash(MemorySegment data) {
        long hash = data.byteSize();
        long at = 0;
        for (; at + 8 <= data.byteSize(); at += 8) {
            hash = (hash ^ data.get(ValueLayout.JAVA_LONG_UNALIGNED, at)) * 0x9e3779b97f4a7c15L;
            hash ^= hash >>> 32;
        }
        for (; at < data.byteSize(); at++) {
            hash = (hash ^ data.get(ValueLayout.JAVA_BYTE, at)) * 0x9e3779b97f4a7c15L;
        }
        return hash;
    }

    static void near(EditableModel model, double tolerance, List<String> notes) {
        Links links = new Links(model);
        Map<Kind, List<Weight>> first = new HashMap<>();
        for (Links.Value v : constants(model, links)) {
            if (v.tensor.shape().elements() < LEAST_ELEMENTS || !Numbers.real(v.tensor)) {
                continue;
            }
            Tensor t = v.tensor.tensor();
            Weight weight = new Weight(v, t, norm(t, null));
            List<Weight> kind = first.computeIfAbsent(new Kind(t.dtype(), t.shape()), k -> new ArrayList<>(1));
            boolean shared = false;
            for (int i = 0; i < kind.size() && !shared; i++) {
                Weight one = kind.get(i);
                double most = tolerance * Math.max(one.norm, weight.norm);
                // What differs by its length alone need not be looked at.
                if (reaches(one.value, v) && Math.abs(one.norm - weight.norm) <= most) {
                    double difference = norm(t, one.tensor);
                    shared = difference <= most && links.replace(v, one.value);
                    if (shared) {
                        notes.add(String.format(Locale.ROOT, "'%s' is '%s' now, off by %.2g", v.name, one.value.name,
                                weight.norm == 0 ? 0 : difference / weight.norm));
                    }
                }
            }
            if (!shared) {
                kind.add(weight);
            }
        }
    }

    /** Of a tensor, or of what it differs by from another; NaN if it holds NaN. */
    private static double norm(Tensor of, Tensor from) {
        double sum = 0;
        for (long i = 0; i < of.shape().elements(); i++) {
            double x = Numbers.get(of, i) - (from == null ? 0 : Numbers.get(from, i));
            sum += x * x;
        }
        return Math.sqrt(sum);
    }
}
