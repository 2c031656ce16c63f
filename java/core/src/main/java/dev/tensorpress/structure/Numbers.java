package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Elements of f64, f32, f16 and bf16 as numbers, and back. */
final class Numbers {
    private static final int BLOCK = 1 << 16;

    private Numbers() {}

    /** Whether these types are read. */
    static boolean real(EditableTensor t) {
        return t.type().isPresent() && (t.type().get().compressible() || t.type().get() == DType.F64);
    }

    static double get(Tensor t, long i) {
        MemorySegment data = t.data();
        return switch (t.dtype()) {
            case F64 -> data.get(ValueLayout.JAVA_DOUBLE_UNALIGNED, 8 * i);
            case F32 -> data.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * i);
            case F16 -> Float.float16ToFloat(data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * i));
            case BF16 -> Float.intBitsToFloat(data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * i) << 16);
            default -> throw new IllegalArgumentException("not a floating-point type: " + t.dtype());
        };
    }

    /** Index of the first element that is NaN or infinity, in row-major order; -1 if there is none. */
    static long firstNonFinite(Tensor t) {
        long all = t.shape().elements();
        int size = Math.toIntExact(t.dtype().bytes(1));
        // By arrays: before the second compiler, which the command line does without, single accesses take many times as long.
        for (long from = 0; from < all; from += BLOCK) {
            int length = (int) Math.min(BLOCK, all - from);
            int at = firstNonFinite(t.dtype(), t.data().asSlice(size * from, (long) size * length));
            if (at < length) {
                return from + at;
            }
        }
        return -1;
    }

    /** As many as there are if all are finite. */
    private static int firstNonFinite(DType type, MemorySegment data) {
        int i = 0;
        switch (type) {
            case F64 -> {
                double[] some = data.toArray(ValueLayout.JAVA_DOUBLE_UNALIGNED);
                while (i < some.length && Double.isFinite(some[i])) {
                    i++;
                }
            }
            case F32 -> {
                float[] some = data.toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
                while (i < some.length && Float.isFinite(some[i])) {
                    i++;
                }
            }
            case F16, BF16 -> {
                // Neither has a finite number with this exponent.
                int exponent = type == DType.F16 ? 0x7c00 : 0x7f80;
                short[] some = data.toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
                while (i < some.length && (some[i] & exponent) != exponent) {
                    i++;
                }
            }
            default -> throw new IllegalArgumentException("not a floating-point type: " + type);
        }
        return i;
    }

    static double[] all(EditableTensor t) {
        Tensor tensor = t.tensor();
        double[] all = new double[Math.toIntExact(tensor.shape().elements())];
        for (int i = 0; i < all.length; i++) {
            all[i] = get(tensor, i);
        }
        return all;
    }

    /** Each rounded once: to f16 and bf16 by way of an odd f32, so that nothing is rounded twice. */
    static EditableTensor tensor(DType type, Shape shape, double[] values, Arena arena) {
        MemorySegment data = arena.allocate(type.bytes(values.length), 64);
        for (int i = 0; i < values.length; i++) {
            switch (type) {
                case F64 -> data.set(ValueLayout.JAVA_DOUBLE_UNALIGNED, 8L * i, values[i]);
                case F32 -> data.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i, (float) values[i]);
                case F16 -> data.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i, Float.floatToFloat16(odd(values[i])));
                case BF16 -> {
                    int bits = Float.floatToRawIntBits(odd(values[i]));
                    int rounded = bits + 0x7fff + (bits >>> 16 & 1);
                    data.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i, (short) ((Double.isNaN(values[i]) ? bits : rounded) >>> 16));
                }
                default -> throw new IllegalArgumentException("not a floating-point type: " + type);
            }
        }
        return EditableTensor.of(new Tensor(type, shape, data));
    }

    /** In f32, towards zero, with the last bit set where something is lost. */
    private static float odd(double value) {
        float near = (float) value;
        if (near == value || Double.isNaN(value) || Float.isInfinite(near)) {
            return near;
        }
        float below = Math.abs(near) > Math.abs(value) ? Math.copySign(Math.nextDown(Math.abs(near)), near) : near;
        return Float.intBitsToFloat(Float.floatToRawIntBits(below) | 1);
    }
}
