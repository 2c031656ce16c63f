package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.kernel.Quantize.Spec;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/**
 * Plain loops that a result is compared with. They follow the formulas of {@code tensorpress/quantize.h} and share no
 * code with the kernels. Of many groups they look at some, spread over the matrix, with the first and the last.
 */
final class Plain {
    /** Elements to look at, at least one group. */
    private static final long SAMPLE = 1 << 21;

    private final Spec spec;
    private final MemorySegment codes;
    private final MemorySegment scales;
    private final MemorySegment zeros;
    private final long groupsDown;
    private final long groupsAcross;

    Plain(Spec spec, MemorySegment codes, MemorySegment scales, MemorySegment zeros) {
        if (spec.scale() != DType.F32 || spec.rounding() != Quantize.Rounding.DIVIDE
                || spec.range() != Quantize.Range.ABSMAX && spec.range() != Quantize.Range.MINMAX) {
            throw new IllegalArgumentException("no plain loop for " + spec);
        }
        this.spec = spec;
        this.codes = codes;
        this.scales = scales;
        this.zeros = zeros;
        groupsDown = (spec.rows() + spec.groupRows() - 1) / spec.groupRows();
        groupsAcross = (spec.cols() + spec.groupCols() - 1) / spec.groupCols();
    }

    private interface GroupCheck {
        void check(Group group);
    }

    private void sample(GroupCheck check) {
        long groups = groupsDown * groupsAcross;
        long count = Math.clamp(SAMPLE / (spec.groupRows() * spec.groupCols()), Math.min(2, groups), groups);
        for (long i = 0; i < count; i++) {
            long g = count == 1 ? 0 : i * (groups - 1) / (count - 1);
            check.check(new Group(g / groupsAcross, g % groupsAcross));
        }
    }

    /** Scales, zero points and codes are those of the input. */
    void checkQuantized(MemorySegment in) {
        sample(group -> {
            checkScale(in, group);
            for (long r = group.top; r < group.bottom; r++) {
                for (long c = group.left; c < group.right; c++) {
                    float x = element(spec.in(), in, r * spec.inStride() + c);
                    expect("code", r, c, code(x / group.scale, group.zero), codeAt(r, c));
                }
            }
        });
    }

    /** The output is what the codes mean. */
    void checkDequantized(MemorySegment out) {
        sample(group -> {
            for (long r = group.top; r < group.bottom; r++) {
                for (long c = group.left; c < group.right; c++) {
                    expect("value", r, c, (codeAt(r, c) - group.zero) * group.scale,
                            out.getAtIndex(JAVA_FLOAT, r * spec.inStride() + c));
                }
            }
        });
    }

    /** The error is that of all codes. */
    void checkError(MemorySegment in, Quantize.Error found) {
        double error = 0;
        double squares = 0;
        double max = 0;
        for (long i = 0; i < groupsDown; i++) {
            for (long j = 0; j < groupsAcross; j++) {
                Group group = new Group(i, j);
                for (long r = group.top; r < group.bottom; r++) {
                    for (long c = group.left; c < group.right; c++) {
                        double x = element(spec.in(), in, r * spec.inStride() + c);
                        double difference = x - (codeAt(r, c) - group.zero) * group.scale;
                        error += difference * difference;
                        squares += x * x;
                        max = Math.max(max, Math.abs(difference));
                    }
                }
            }
        }
        expectClose("sum of squared errors", error, found.sumSquaredError());
        expectClose("sum of squares", squares, found.sumSquares());
        expectClose("largest error", max, found.maxError());
    }

    private void checkScale(MemorySegment in, Group group) {
        float min = 0;
        float max = 0;
        for (long r = group.top; r < group.bottom; r++) {
            for (long c = group.left; c < group.right; c++) {
                float x = element(spec.in(), in, r * spec.inStride() + c);
                min = Math.min(min, x);
                max = Math.max(max, x);
            }
        }
        if (spec.clipSteps() <= 1) {
            float scale = scale(min, max, 1);
            expect("scale", group.top, group.left, scale, group.scale);
            expect("zero point", group.top, group.left, zero(min, 1, scale), group.zero);
            return;
        }
        double best = Double.POSITIVE_INFINITY;
        double found = Double.NaN;
        for (int i = 0; i < spec.clipSteps(); i++) {
            float ratio = 1 - i * (1 - spec.clipMin()) / (spec.clipSteps() - 1);
            float scale = scale(min, max, ratio);
            int zero = zero(min, ratio, scale);
            double error = squaredError(in, group, scale, zero);
            best = Math.min(best, error);
            if (scale == group.scale && zero == group.zero) {
                found = error;
            }
        }
        // The kernel sums in f32: of two ratios that are as good to six digits it may take either.
        if (!(found <= best * 1.00001)) {
            throw wrong("clipped scale", group.top, group.left, "squared error " + best, found + " at " + group.scale);
        }
    }

    private double squaredError(MemorySegment in, Group group, float scale, int zero) {
        double sum = 0;
        for (long r = group.top; r < group.bottom; r++) {
            for (long c = group.left; c < group.right; c++) {
                float x = element(spec.in(), in, r * spec.inStride() + c);
                double difference = x - (code(x * (1 / scale), zero) - zero) * scale;
                sum += difference * difference;
            }
        }
        return sum;
    }

    private float scale(float min, float max, float ratio) {
        float amax = Math.max(-min, max);
        if (amax == 0) {
            return 1;
        }
        float s;
        if (spec.range() == Quantize.Range.MINMAX) {
            float steps = spec.qmax() - spec.qmin();
            s = max * ratio / steps - min * ratio / steps;
        } else {
            s = amax * ratio / Math.min(spec.qmax() - middle(), middle() - spec.qmin());
        }
        return Math.max(s, Float.MIN_NORMAL);
    }

    private int zero(float min, float ratio, float scale) {
        return spec.range() == Quantize.Range.ABSMAX ? middle()
                : (int) Math.rint(Math.clamp(spec.qmin() - min * ratio / scale, spec.qmin(), spec.qmax()));
    }

    private int code(float units, int zero) {
        return (int) Math.clamp(Math.rint(units) + zero, spec.qmin(), spec.qmax());
    }

    private int middle() {
        return spec.out().signed() ? 0 : 1 << (spec.out().bits() - 1);
    }

    private int codeAt(long r, long c) {
        long i = spec.transposed() ? c * spec.outStride() + r : r * spec.outStride() + c;
        if (spec.out().bits() == 8) {
            return byteAt(codes, i);
        }
        int nibble = codes.get(JAVA_BYTE, i / 2) >> (i % 2 * 4) & 15;
        return spec.out().signed() ? (nibble ^ 8) - 8 : nibble;
    }

    private int byteAt(MemorySegment segment, long i) {
        byte b = segment.get(JAVA_BYTE, i);
        return spec.out().signed() ? b : b & 0xff;
    }

    private static float element(DType type, MemorySegment data, long i) {
        return switch (type) {
            case F32 -> data.getAtIndex(JAVA_FLOAT, i);
            case F16 -> Float.float16ToFloat(data.getAtIndex(JAVA_SHORT, i));
            case BF16 -> Float.intBitsToFloat(data.getAtIndex(JAVA_SHORT, i) << 16);
            default -> throw new IllegalArgumentException(type.toString());
        };
    }

    /** Elements that share a scale, and that scale. */
    private final class Group {
        final long top;
        final long bottom;
        final long left;
        final long right;
        final float scale;
        final int zero;

        Group(long down, long across) {
            top = down * spec.groupRows();
            bottom = Math.min(top + spec.groupRows(), spec.rows());
            left = across * spec.groupCols();
            right = Math.min(left + spec.groupCols(), spec.cols());
            long i = spec.transposed() ? across * groupsDown + down : down * groupsAcross + across;
            scale = scales.getAtIndex(JAVA_FLOAT, i);
            zero = zeros.equals(MemorySegment.NULL) ? middle() : byteAt(zeros, i);
        }
    }

    static void expect(String what, long row, long col, double wanted, double found) {
        if (wanted != found) {
            throw wrong(what, row, col, Double.toString(wanted), Double.toString(found));
        }
    }

    private static void expectClose(String what, double wanted, double found) {
        if (!(Math.abs(wanted - found) <= 1e-6 * wanted)) {
            throw new IllegalStateException("wrong result: " + what + " is " + found + ", but should be " + wanted);
        }
    }

    private static IllegalStateException wrong(String what, long row, long col, String wanted, String found) {
        return new IllegalStateException("wrong result: " + what + " at row " + row + ", column " + col + " is " + found
                + ", but should be " + wanted);
    }
}
