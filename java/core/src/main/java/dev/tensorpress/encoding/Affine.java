package dev.tensorpress.encoding;

import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.tensor.DType;
import java.util.Locale;

/**
 * How codes stand for values. A code {@code q} of a group with the scale {@code s} is {@code s * (q - zero)}, where {@code zero} is
 * the middle of the codes or a zero point of the group, or it is {@code s * q + minimum}. Which codes make a group is said by
 * {@link Form.Quantized}.
 *
 * @param type of the codes: I8, U8, I4 or U4, or one of the floats F8E4M3, F8E5M2 and F4 (E2M1)
 * @param bits of integer codes: 2 up to those of the type, of which the 2^bits values around the middle are in use; of floats all
 * @param scale what the codes of a group are multiplied by
 * @param offset what is taken from integer codes or added to their values; floats have none
 * @param rounding of values to codes
 * @param layout how codes, scales and offsets lie
 */
public record Affine(DType type, int bits, Scale scale, Offset offset, Rounding rounding, Layout layout) {

    /** What a group has beside its scale. */
    public enum Offset {
        /** Nothing: the middle of integer codes, and 0 of floats, stands for 0. */
        NONE,
        /** The code that stands for 0, stored as codes are. */
        ZERO_POINT,
        /** The value of the code 0, stored as scales are, in one level or in two. Codes are unsigned, and start at 0. */
        MINIMUM
    }

    /** How a value that is to be {@code x} in units of the scale {@code s} becomes a code. */
    public enum Rounding {
        /** {@code x / s}, half to even: ONNX, compressed-tensors, K-quants of GGUF. */
        DIVIDE(Quantize.Rounding.DIVIDE),
        /** {@code x * (1 / s)}, half to even. */
        MULTIPLY(Quantize.Rounding.MULTIPLY),
        /** {@code x * (1 / s)}, half away from zero: GGUF's Q8_0. */
        HALF_AWAY(null),
        /** {@code floor(x * (1 / s) + zero + 0.5)}: of GGUF Q4_0, whose {@code zero} is 8, Q5_0, Q4_1 and Q5_1. */
        HALF_UP(null);

        /** Null if no kernel rounds so. */
        final Quantize.Rounding kernel;

        Rounding(Quantize.Rounding kernel) {
            this.kernel = kernel;
        }
    }

    /** Where scales and offsets are. */
    public enum Layout {
        /** In arrays of their own; codes have the bits of their type. */
        APART,
        /** With the codes of their block, or of the blocks that share an outer scale; codes have no more bits than are in use. */
        INTERLEAVED
    }

    /**
     * A number for each group: itself, or a small one times an outer scale that several groups share.
     *
     * @param type F32, F16, BF16 or, for powers of two, F8E8M0; in two levels U8 or I8, of which {@code bits} are in use, or F8E4M3
     * @param bits that each group's takes
     * @param outer F32, F16 or BF16 in two levels, null in one
     * @param groups in two levels, how many groups along a line share an outer scale, 0 if all of the tensor do; 1 in one level
     */
    public record Scale(DType type, int bits, DType outer, int groups) {
        public Scale {
            boolean flat = outer == null;
            boolean integer = type == DType.U8 || type == DType.I8;
            boolean known = flat ? type.compressible() || type == DType.F8E8M0 : integer || type == DType.F8E4M3;
            if (!known || (integer ? bits < 2 || bits > 8 : bits != type.bits()) || !flat && !outer.compressible()
                    || (flat ? groups != 1 : groups < 0 || groups == 1)) {
                throw new IllegalArgumentException("no scales of " + bits + " bits of " + type
                        + (flat ? "" : " under " + outer + " for " + groups + " groups"));
            }
        }

        /** One level. */
        public static Scale flat(DType type) {
            return new Scale(type, type.bits(), null, 1);
        }

        /** True for one level. */
        public boolean flat() {
            return outer == null;
        }

        /** Bytes of the numbers of {@code n} groups that lie apart, and of {@code outers} outer ones. */
        long bytes(long n, long outers) {
            return Math.addExact(packed(n, bits), flat() ? 0 : outer.bytes(outers));
        }
    }

    public Affine {
        boolean integer = type == DType.I8 || type == DType.U8 || type == DType.I4 || type == DType.U4;
        boolean floating = floating(type);
        if (!integer && !floating || bits < 2 || bits > type.bits() || floating && bits != type.bits()) {
            throw new IllegalArgumentException("no codes of " + bits + " bits of " + type);
        }
        if (floating && (offset != Offset.NONE || rounding == Rounding.HALF_AWAY || rounding == Rounding.HALF_UP)) {
            throw new IllegalArgumentException("codes of " + type + " have no offset, and are rounded half to even");
        }
        if (offset == Offset.MINIMUM && (type.signed() || layout == Layout.APART && bits < type.bits())) {
            throw new IllegalArgumentException("a minimum belongs to the code 0, which " + bits + " bits around the middle of " + type
                    + " lack");
        }
        if (layout == Layout.INTERLEAVED && (offset == Offset.ZERO_POINT || scale.groups == 0)) {
            throw new IllegalArgumentException("zero points, and scales of the whole tensor, lie apart from the codes");
        }
    }

    /** Integer codes, apart from their flat scales and, if not symmetric, zero points. */
    public static Affine integers(int bits, boolean symmetric, DType type, DType scaleType) {
        return new Affine(type, bits, Scale.flat(scaleType), symmetric ? Offset.NONE : Offset.ZERO_POINT, Rounding.DIVIDE, Layout.APART);
    }

    /** True of integer codes, apart from flat scales of floats and from zero points: what the kernels of {@link Quantize} make and read. */
    public boolean plain() {
        return !floating(type) && scale.flat() && scale.type.compressible() && offset != Offset.MINIMUM && rounding.kernel != null
                && layout == Layout.APART;
    }

    private static boolean floating(DType type) {
        return type == DType.F8E4M3 || type == DType.F8E5M2 || type == DType.F4;
    }

    /** Bits that a stored code takes. */
    public int codeBits() {
        return layout == Layout.APART ? type.bits() : bits;
    }

    /** The code of 0 where there is no offset: 0 if signed or a float, else half of 2^{@link #codeBits}, such as 8 or 128. */
    public int middle() {
        return type.signed() || floating(type) ? 0 : 1 << (codeBits() - 1);
    }

    /**
     * Bytes of {@code block} codes with their scale and minimum; if scales have two levels, of all blocks that share an outer one.
     *
     * @throws IllegalArgumentException if codes lie apart from their scales, or if these are no whole bytes
     * @throws ArithmeticException if the number does not fit in an {@code int}
     */
    public int blockBytes(int block) {
        int numbers = offset == Offset.MINIMUM ? 2 : 1;
        long group = (long) block * bits + numbers * scale.bits;
        long n = Math.addExact(Math.multiplyExact(scale.groups, group), scale.flat() ? 0 : numbers * scale.outer.bits());
        if (layout != Layout.INTERLEAVED || block < 1 || n % 8 != 0) {
            throw new IllegalArgumentException("blocks of " + block + " codes of " + bits + " bits are no whole bytes");
        }
        return Math.toIntExact(n / 8);
    }

    /**
     * Bytes of scales and offsets that lie apart.
     *
     * @param groups their number
     * @param outers number of the outer scales, if there are any
     */
    long besideBytes(long groups, long outers) {
        long scales = scale.bytes(groups, outers);
        return switch (offset) {
            case NONE -> scales;
            case ZERO_POINT -> Math.addExact(scales, type.bytes(groups));
            case MINIMUM -> Math.multiplyExact(scales, 2);
        };
    }

    static long packed(long n, int bits) {
        return Math.addExact(Math.multiplyExact(n / 8, bits), (n % 8 * bits + 7) / 8);
    }

    /** The codes for tables, such as {@code int8} or {@code f8e4m3}. */
    String describe() {
        return floating(type) ? type.name().toLowerCase(Locale.ROOT) : "int" + bits;
    }
}
