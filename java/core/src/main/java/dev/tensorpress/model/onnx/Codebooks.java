package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.onnx.Rope.Array;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/** Codes into tables, and the nodes that look them up: all of constants, so that runtimes compute them once. */
final class Codebooks {
    private static final int BYTES = 256;

    private final Names names;
    private final Nodes nodes;
    private final Tensors tensors;
    private final Decoding decoding;

    Codebooks(Names names, Nodes nodes, Tensors tensors, Decoding decoding) {
        this.names = names;
        this.nodes = nodes;
        this.tensors = tensors;
        this.decoding = decoding;
    }

    /** Bytes of what says where the tables of rows, or columns, begin. */
    static long besideBytes(Form.Codebook f, Shape shape) {
        return DType.I32.bytes(starts(f, shape).length);
    }

    /** For each row, or column of codes, the number of its table's first entry; none if there is but one table. */
    private static int[] starts(Form.Codebook f, Shape shape) {
        Shape tables = f.tables(shape);
        int[] starts = new int[tables.dim(0) == 1 ? 0 : Math.toIntExact(f.codes(shape).dim(f.axis()))];
        for (int i = 0; i < starts.length; i++) {
            starts[i] = Math.toIntExact((f.axis() == 0 ? i : (long) i * f.dimension()) / f.block() * tables.dim(1));
        }
        return starts;
    }

    /** Values with the name of the job. */
    void lookUp(Job job, Rope r) {
        Form.Codebook f = job.asked.codebook();
        Shape codes = f.codes(job.shape);
        Shape tables = f.tables(job.shape);
        int[] starts = starts(f, job.shape);
        // As the weight lies where nothing needs its matrix.
        long[] dims = f.dimension() == 1 && starts.length == 0 ? job.dims : codes.dims();
        String indices = names.fresh(job.name + ".indices");
        long length = f.codeType().bytes(codes.elements());
        if (f.packed()) {
            String pairs = names.fresh(job.name + ".pairs");
            decoding.unpack(r, pairs, tensors.payload(job, tensors.name(job, "codes"), DType.U8, new long[] {length}, Array.CODES, length),
                    pairs(job));
            r.add(nodes.node("Reshape", indices, pairs, tensors.longs(job, "codes_shape", dims)));
        } else {
            r.add(nodes.cast(indices, tensors.payload(job, tensors.name(job, "codes"), f.codeType(), dims, Array.CODES, length), DType.I32));
        }
        if (starts.length > 0) {
            String local = indices;
            indices = names.fresh(job.name + ".entries");
            long[] across = f.axis() == 0 ? new long[] {starts.length, 1} : new long[] {starts.length};
            r.add(nodes.node("Add", indices, local, tensors.constant(job, "table_starts", DType.I32, across, bytes(starts))));
        }
        long entries = tables.dim(0) * tables.dim(1);
        String table = tensors.payload(job, tensors.name(job, "table"), f.table(),
                f.dimension() == 1 ? new long[] {entries} : new long[] {entries, f.dimension()}, Array.TABLES, f.tableBytes(job.shape));
        boolean reshaped = f.dimension() > 1 || !Arrays.equals(dims, job.dims);
        boolean converted = f.table() != job.info.weight.tensor().dtype();
        String found = reshaped || converted ? names.fresh(job.name + ".found") : job.name;
        r.add(nodes.node("Gather", found, table, indices));
        if (reshaped) {
            String shaped = converted ? names.fresh(job.name + ".shaped") : job.name;
            r.add(nodes.node("Reshape", shaped, found, tensors.longs(job, "shape", job.dims)));
            found = shaped;
        }
        if (converted) {
            r.add(nodes.cast(job.name, found, job.info.weight.tensor().dtype()));
        }
    }

    /** The two codes that a byte holds. */
    private String pairs(Job job) {
        int[] all = new int[2 * BYTES];
        for (int i = 0; i < BYTES; i++) {
            all[2 * i] = i & 15;
            all[2 * i + 1] = i >> 4;
        }
        return tensors.constant(job, "pairs", DType.I32, new long[] {BYTES, 2}, bytes(all));
    }

    private static byte[] bytes(int[] values) {
        ByteBuffer b = ByteBuffer.allocate(values.length * Integer.BYTES).order(ByteOrder.LITTLE_ENDIAN);
        b.asIntBuffer().put(values);
        return b.array();
    }
}
