package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.Shards;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.util.List;

/**
 * A weight as tensors of a file: as it is, or in the storage of compressed-tensors. Codes of a packed weight, and zero points, are
 * fields of 32-bit words, the first in the lowest bits; codes fill words along rows, which end with a whole word, zero points along
 * columns. A stack of matrices is stored as one with all their rows, under its whole name. Of two factors each is a tensor with the
 * weight's name and {@link #LEFT} or {@link #RIGHT} behind it.
 */
final class Stored {
    static final String LEFT = ".left";
    static final String RIGHT = ".right";
    private static final String SUFFIX = ".weight";
    private static final int WORD = 32;

    final Weight weight;
    /** Null if it stays as it is. */
    final Form form;
    final List<Output> outputs;

    /** What a tensor holds. */
    enum Part {
        /** The bytes of the input. */
        SAME,
        /** The elements of a pruned weight. */
        VALUES, CODES, ZEROS, SCALES, SHAPE, LEFT_FACTOR, RIGHT_FACTOR
    }

    /** A tensor of the file. */
    record Output(Stored of, Part part, String name, DType dtype, Shape shape) implements Shards.Piece {
        @Override
        public long bytes() {
            return dtype.bytes(shape.elements());
        }
    }

    /** @param form one that the target accepted, or null */
    Stored(Weight weight, Form form) {
        this.weight = weight;
        this.form = form;
        Shape shape = weight.tensor().shape();
        DType dtype = weight.tensor().dtype();
        Form.Quantized q = codes(form);
        if (q != null) {
            long[] matrix = matrix(q, shape);
            outputs = quantized(q, matrix[0], matrix[1]);
        } else if (form instanceof Form.LowRank f) {
            outputs = List.of(new Output(this, Part.LEFT_FACTOR, weight.name() + LEFT, dtype, f.left(shape)),
                    new Output(this, Part.RIGHT_FACTOR, weight.name() + RIGHT, dtype, f.right(shape)));
        } else {
            outputs = List.of(new Output(this, form == null ? Part.SAME : Part.VALUES, weight.name(), dtype, shape));
        }
    }

    /** How the codes are stored, or null if there are none. */
    static Form.Quantized codes(Form form) {
        return form instanceof Form.Quantized q ? q : form instanceof Form.Sparse s && s.values() instanceof Form.Quantized q ? q
                : null;
    }

    /** True if codes are packed in words: those that are signed have a byte each. */
    static boolean packed(Form.Quantized q) {
        return !q.type().signed();
    }

    /** The module that a weight belongs to, by its name; null if the name does not tell. */
    static String module(String name) {
        return name.endsWith(SUFFIX) && name.length() > SUFFIX.length() ? name.substring(0, name.length() - SUFFIX.length()) : null;
    }

    private List<Output> quantized(Form.Quantized q, long rows, long cols) {
        String named = module(weight.name());
        String module = (named == null ? weight.name() : named) + ".";
        long groups = groups(q, weight.tensor().shape());
        Output scales = new Output(this, Part.SCALES, module + PackedWeight.SCALES, q.scaleType(), Shape.of(rows, groups));
        if (!packed(q)) {
            return List.of(new Output(this, Part.CODES, module + PackedWeight.PLAIN_CODES, DType.I8, Shape.of(rows, cols)), scales);
        }
        Output codes = new Output(this, Part.CODES, module + PackedWeight.CODES, DType.I32, Shape.of(rows, words(cols, q.bits())));
        Output shape = new Output(this, Part.SHAPE, module + PackedWeight.SHAPE, DType.I64, Shape.of(2));
        return q.symmetric() ? List.of(codes, scales, shape)
                : List.of(codes, new Output(this, Part.ZEROS, module + PackedWeight.ZEROS, DType.I32,
                        Shape.of(words(rows, q.bits()), groups)), scales, shape);
    }

    /** Rows and columns of the codes. */
    long[] matrix() {
        return matrix(codes(form), weight.tensor().shape());
    }

    static long[] matrix(Form.Quantized q, Shape shape) {
        return q.transposed() ? new long[] {shape.dim(1), shape.dim(0)}
                : new long[] {shape.elements() / Math.max(1, shape.dim(-1)), shape.dim(-1)};
    }

    /** Groups of an output. */
    static long groups(Form.Quantized q, Shape shape) {
        Form.Grid grid = q.grid(shape);
        return q.transposed() ? grid.groupsDown() : grid.groupsAcross();
    }

    /** Words that {@code n} fields fill. */
    static long words(long n, int bits) {
        return Math.ceilDiv(n, WORD / bits);
    }

    long bytes() {
        long n = 0;
        for (Output o : outputs) {
            n = Math.addExact(n, o.bytes());
        }
        return n;
    }
}
