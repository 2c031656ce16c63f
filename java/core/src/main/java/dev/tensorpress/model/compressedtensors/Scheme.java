package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.util.List;
import java.util.Locale;

/**
 * How matrices are stored: what the configuration says of a module, and by that its tensors. Codes of a packed matrix, and zero points,
 * are fields of 32-bit words, the first in the lowest bits; codes fill words along rows, which end with a whole word, zero points along
 * columns.
 *
 * @param packed in words; else one signed code to a byte
 * @param symmetric without zero points
 * @param size of groups, in columns; 0 if the strategy is another
 * @param activations whether they are rounded token by token when the model runs
 */
record Scheme(boolean packed, int bits, boolean symmetric, Strategy strategy, long size, boolean activations) {
    /** What tensors of a module are called, behind its name and a dot. */
    static final String PACKED_CODES = "weight_packed";
    static final String PLAIN_CODES = "weight";
    static final String SCALES = "weight_scale";
    static final String ZEROS = "weight_zero_point";
    static final String SHAPE = "weight_shape";

    private static final String PACKED_FORMAT = "pack-quantized";
    private static final String PLAIN_FORMAT = "int-quantized";

    /** What shares a scale. */
    enum Strategy {
        TENSOR, CHANNEL, GROUP;

        /** As configurations name it. */
        String id() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /** A tensor that a matrix is stored as. */
    record Stored(String name, DType dtype, Shape shape) {}

    /** Whether there are codes of so many bits. */
    static boolean holds(int bits) {
        return bits == 4 || bits == 8;
    }

    static Scheme of(Form.Quantized q) {
        boolean packed = !q.type().signed();
        return new Scheme(packed, q.bits(), q.symmetric(), q.block() > 0 ? Strategy.GROUP : Strategy.CHANNEL, q.block(), !packed);
    }

    /** Whether a format, one of {@link #formats}, is that of words. */
    static boolean isPacked(String format) {
        return format.equals(PACKED_FORMAT);
    }

    static List<String> formats() {
        return List.of(PACKED_FORMAT, PLAIN_FORMAT);
    }

    /** The format's name. */
    String format() {
        return packed ? PACKED_FORMAT : PLAIN_FORMAT;
    }

    String codesName() {
        return packed ? PACKED_CODES : PLAIN_CODES;
    }

    /** Codes in a word. */
    int fields() {
        return Integer.SIZE / bits;
    }

    /** Words that {@code n} fields fill. */
    long words(long n) {
        return n / fields() + (n % fields() == 0 ? 0 : 1);
    }

    /** Columns of a matrix that share a scale. */
    long group(long cols) {
        return strategy == Strategy.GROUP ? size : Math.max(cols, 1);
    }

    /** The codes of a matrix. */
    Stored codes(long rows, long cols) {
        return new Stored(codesName(), packed ? DType.I32 : DType.I8, Shape.of(rows, packed ? words(cols) : cols));
    }

    /** The scales of a matrix with one for each group of a row. */
    Stored scales(long rows, long cols, DType type) {
        return new Stored(SCALES, type, Shape.of(rows, cols / group(cols)));
    }

    /** The zero points of one. */
    Stored zeros(long rows, long cols) {
        return new Stored(ZEROS, packed ? DType.I32 : DType.I8, Shape.of(packed ? words(rows) : rows, cols / group(cols)));
    }

    /** The rows and columns of a packed matrix, which its words do not tell. */
    Stored shape() {
        return new Stored(SHAPE, DType.I64, Shape.of(2));
    }
}
