package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.Rope.Array;
import dev.tensorpress.tensor.DType;

/** Weights in floating point: the same tensor with other elements, or, if they are pruned, a sparse initializer. */
final class Pruned {
    private final Wire wire;
    private final Edits edits;
    private final DataLayout data;

    Pruned(Wire wire, Edits edits, DataLayout data) {
        this.wire = wire;
        this.edits = edits;
        this.data = data;
    }

    /** Everything about the tensor stays but its data. */
    void elements(Job job) {
        TensorInfo t = job.info.tensor;
        long length = job.info.weight.tensor().bytes();
        Rope.Payload payload = new Rope.Payload(job, Array.ELEMENTS, length);
        if (!job.external && inPlace(t, length)) {
            edits.replace(job.graph, t.rawStart, t.rawStart + length, new Rope().add(payload));
            return;
        }
        Proto p = description(wire, t, true);
        Rope tensor;
        if (job.external) {
            data.place(p, payload);
            tensor = new Rope().add(p);
        } else {
            tensor = new Rope().add(p.header(9, length)).add(payload);
        }
        if (job.info.isInitializer()) {
            edits.replace(job.graph, t.fieldStart, t.end, tensor.field(5));
        } else {
            Node n = job.info.value.producer;
            edits.replaceTensor(n, n.attribute("value"), tensor.field(5));
        }
    }

    void coordinates(Job job) {
        TensorInfo t = job.info.tensor;
        long nnz = ((Form.Sparse) job.lowering.form()).nnz();
        edits.replace(job.graph, t.fieldStart, t.end, coordinates(wire, t, nnz, job));
    }

    private static boolean inPlace(TensorInfo t, long length) {
        return t.hasRaw && !t.external && t.rawLength == length;
    }

    /** Whether the file, if it has no data file, gets smaller with a sparse initializer in the place of a masked one. */
    static boolean smallerAsCoordinates(Wire w, TensorInfo t, long nnz) {
        return coordinates(w, t, nnz, null).length() < maskedLength(w, t);
    }

    private static long maskedLength(Wire w, TensorInfo t) {
        if (inPlace(t, t.bytes())) {
            return t.end - t.fieldStart;
        }
        Proto p = description(w, t, true).header(9, t.bytes());
        return new Rope().add(p).add(new Rope.Payload(null, Array.ELEMENTS, t.bytes())).field(5).length();
    }

    /** A SparseTensorProto in the graph: named values, their positions, the shape. */
    private static Rope coordinates(Wire w, TensorInfo t, long nnz, Job job) {
        long valueBytes = t.dtype().bytes(nnz);
        long indexBytes = DType.I64.bytes(nnz);
        Proto values = new Proto().integer(1, nnz).fields(description(w, t, false).toBytes());
        Proto indices = new Proto().integer(1, nnz).integer(2, TensorInfo.INT64);
        Proto shape = new Proto();
        for (long d : t.dims) {
            shape.integer(3, d);
        }
        return new Rope()
                .add(new Rope().add(values.header(9, valueBytes))
                        .add(new Rope.Payload(job, Array.NONZEROS, valueBytes)).field(1))
                .add(new Rope().add(indices.header(9, indexBytes))
                        .add(new Rope.Payload(job, Array.INDICES, indexBytes)).field(2))
                .add(shape).field(15);
    }

    /** The fields of a TensorProto that are neither data nor say where data lie. */
    private static Proto description(Wire w, TensorInfo t, boolean dims) {
        Proto p = new Proto();
        w.seek(t.start, t.end);
        while (w.next()) {
            boolean keep = switch (w.field) {
                case 1 -> dims;
                case 4, 5, 6, 7, 9, 10, 11, 13, 14 -> false;
                default -> true;
            };
            if (keep) {
                p.fields(w.bytes(w.fieldStart, Math.toIntExact(w.end() - w.fieldStart)));
            }
        }
        return p;
    }
}
