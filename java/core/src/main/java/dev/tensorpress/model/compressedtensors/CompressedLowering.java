package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.Shards;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.util.ArrayList;
import java.util.List;

/**
 * A weight as tensors of a file: as it is, or in the storage of compressed-tensors, which {@link Scheme} describes. A stack of matrices
 * is stored as one with all their rows, under its whole name. Of two factors each is a tensor with the weight's name and {@link #LEFT} or
 * {@link #RIGHT} behind it.
 */
final class CompressedLowering implements Lowering {
    static final String LEFT = ".left";
    static final String RIGHT = ".right";
    private static final String SUFFIX = ".weight";

    final Weight weight;
    private final Form form;
    final List<Output> outputs;

    /** What a tensor holds. */
    enum Array {
        /** The bytes of the input. */
        SAME,
        /** The elements of a pruned weight. */
        VALUES, CODES, ZEROS, SCALES, SHAPE, LEFT_FACTOR, RIGHT_FACTOR
    }

    /** A tensor of the file. */
    record Output(CompressedLowering of, Array array, String name, DType dtype, Shape shape) implements Shards.Item {
        @Override
        public long bytes() {
            return dtype.bytes(shape.elements());
        }
    }

    /** @param form dense, sparse, of codes or of factors */
    CompressedLowering(Weight weight, Form form) {
        this(weight, form, false);
    }

    private CompressedLowering(Weight weight, Form form, boolean same) {
        this.weight = weight;
        this.form = form;
        Shape shape = weight.tensor().shape();
        DType dtype = weight.tensor().dtype();
        Form.Quantized q = form.quantized();
        Form.LowRank factors = form.factors();
        if (q != null) {
            outputs = quantized(q);
        } else if (factors != null) {
            outputs = List.of(new Output(this, Array.LEFT_FACTOR, weight.name() + LEFT, dtype, factors.left(shape)),
                    new Output(this, Array.RIGHT_FACTOR, weight.name() + RIGHT, dtype, factors.right(shape)));
        } else {
            outputs = List.of(new Output(this, same ? Array.SAME : Array.VALUES, weight.name(), dtype, shape));
        }
    }

    /** Of a weight that stays as it is. */
    static CompressedLowering same(Weight weight) {
        return new CompressedLowering(weight, new Form.Dense(weight.tensor().dtype()), true);
    }

    @Override
    public Form form() {
        return form;
    }

    @Override
    public long size() {
        return bytes();
    }

    long bytes() {
        long n = 0;
        for (Output o : outputs) {
            n = Math.addExact(n, o.bytes());
        }
        return n;
    }

    /** How the codes are stored, or null if there are none. */
    Form.Quantized codes() {
        return form.quantized();
    }

    /** The module that a weight belongs to, by its name; null if the name does not tell. */
    static String module(String name) {
        return name.endsWith(SUFFIX) && name.length() > SUFFIX.length() ? name.substring(0, name.length() - SUFFIX.length()) : null;
    }

    private List<Output> quantized(Form.Quantized q) {
        Scheme scheme = Scheme.of(q);
        long[] matrix = matrix(q, weight.tensor().shape());
        List<Output> all = new ArrayList<>();
        all.add(output(Array.CODES, scheme.codes(matrix[0], matrix[1])));
        if (!scheme.symmetric()) {
            all.add(output(Array.ZEROS, scheme.zeros(matrix[0], matrix[1])));
        }
        all.add(output(Array.SCALES, scheme.scales(matrix[0], matrix[1], q.scaleType())));
        if (scheme.packed()) {
            all.add(output(Array.SHAPE, scheme.shape()));
        }
        return all;
    }

    private Output output(Array array, Scheme.Stored stored) {
        String module = module(weight.name());
        return new Output(this, array, (module == null ? weight.name() : module) + "." + stored.name(), stored.dtype(), stored.shape());
    }

    /** Rows and columns of the codes. */
    long[] matrix() {
        return matrix(codes(), weight.tensor().shape());
    }

    static long[] matrix(Form.Quantized q, Shape shape) {
        return q.transposed() ? new long[] {shape.dim(1), shape.dim(0)}
                : new long[] {shape.elements() / Math.max(1, shape.dim(-1)), shape.dim(-1)};
    }
}
