package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.HashMap;
import java.util.Map;

/**
 * Quantizes by the formulas, one element after another, and remembers what each weight then means. Factors are random: they
 * have nothing to do with the weight that they stand for.
 */
final class PlainEncoder implements Target.Encoder {
    /** The weights as a runtime should see them, row-major. */
    final Map<String, float[]> decoded = new HashMap<>();
    /** Percent of the elements that pruning leaves. */
    private final int keep;

    PlainEncoder() {
        this(50);
    }

    PlainEncoder(int keep) {
        this.keep = keep;
    }

    @Override
    public Encoding encode(Weight weight, Form form, Tensor t, long first) {
        if (form instanceof Form.Sparse s) {
            Tensor pruned = pruned(t, keep);
            if (s.values() instanceof Form.Quantized q) {
                float[] back = new float[(int) pruned.shape().elements()];
                decoded.put(weight.name(), back);
                return new Encoding.Sparse(s, quantized(q, pruned, back));
            }
            decoded.put(weight.name(), floats(pruned));
            return new Encoding.Sparse(s, new Encoding.Dense(pruned));
        }
        float[] back = new float[(int) t.shape().elements()];
        decoded.put(weight.name(), back);
        if (form instanceof Form.LowRank f) {
            return factors(f, t, back);
        }
        if (form instanceof Form.Sum s) {
            Encoding base = quantized((Form.Quantized) s.base(), t, back);
            return new Encoding.Sum(s, base, factors(s.correction(), t, back));
        }
        return quantized((Form.Quantized) form, t, back);
    }

    /** Adds what the factors mean. */
    private static Encoding.LowRank factors(Form.LowRank f, Tensor of, float[] back) {
        Shape l = f.left(of.shape());
        Shape r = f.right(of.shape());
        float[] left = new float[(int) l.elements()];
        float[] right = new float[(int) r.elements()];
        Encoding a = factor(f.left(), of.dtype(), l, 1, left);
        Encoding b = factor(f.right(), of.dtype(), r, 2, right);
        int rows = (int) l.dim(0);
        int cols = (int) r.dim(1);
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < cols; j++) {
                double sum = 0;
                for (int k = 0; k < f.rank(); k++) {
                    sum += (double) left[i * (int) f.rank() + k] * right[k * cols + j];
                }
                back[f.transposed() ? j * rows + i : i * cols + j] += (float) sum;
            }
        }
        return new Encoding.LowRank(f, of.shape(), a, b);
    }

    private static Encoding factor(Form f, DType type, Shape shape, int seed, float[] back) {
        float[] x = TestModel.random(seed, back.length);
        byte[] raw = TestModel.raw(type, x);
        MemorySegment m = Arena.ofAuto().allocate(raw.length, 8).copyFrom(MemorySegment.ofArray(raw));
        Tensor t = new Tensor(type, shape, m);
        if (f instanceof Form.Quantized q) {
            return quantized(q, t, back);
        }
        System.arraycopy(floats(t), 0, back, 0, back.length);
        return new Encoding.Dense(t);
    }

    /** A copy in which {@code keep} percent of the elements are left, by their number. */
    static Tensor pruned(Tensor t, int keep) {
        MemorySegment m = Arena.ofAuto().allocate(Math.max(1, t.bytes()), 8).asSlice(0, t.bytes()).copyFrom(t.data());
        int size = t.dtype().bits() / 8;
        for (long i = 0; i < t.shape().elements(); i++) {
            if ((i * 2654435761L >>> 7) % 100 >= keep) {
                m.asSlice(i * size, size).fill((byte) 0);
            }
        }
        return new Tensor(t.dtype(), t.shape(), m);
    }

    private static Encoding.Quantized quantized(Form.Quantized f, Tensor values, float[] back) {
        Shape shape = values.shape();
        Form.Grid g = f.grid(shape);
        float[] x = floats(values);
        int rows = (int) g.rows();
        int cols = (int) g.cols();
        int down = (int) g.groupsDown();
        int across = (int) g.groupsAcross();
        float[] scale = new float[down * across];
        int[] zero = new int[down * across];
        for (int i = 0; i < down; i++) {
            for (int j = 0; j < across; j++) {
                float min = 0;
                float max = 0;
                for (long r = i * g.groupRows(); r < Math.min(rows, (i + 1) * g.groupRows()); r++) {
                    for (long c = j * g.groupCols(); c < Math.min(cols, (j + 1) * g.groupCols()); c++) {
                        min = Math.min(min, x[(int) (r * cols + c)]);
                        max = Math.max(max, x[(int) (r * cols + c)]);
                    }
                }
                int k = i * across + j;
                if (f.symmetric()) {
                    zero[k] = f.middle();
                    scale[k] = Math.max(-min, max) / (f.qmax() - f.middle());
                } else {
                    scale[k] = (max - min) / (f.qmax() - f.qmin());
                }
                scale[k] = scale[k] == 0 ? 1 : round(scale[k], f.scaleType());
                if (!f.symmetric()) {
                    zero[k] = Math.clamp((long) Math.rint(f.qmin() - min / scale[k]), f.qmin(), f.qmax());
                }
            }
        }
        int lines = f.transposed() ? cols : rows;
        int length = (int) f.lineLength(shape);
        int[] codes = new int[lines * length];
        for (int l = 0; l < lines; l++) {
            for (int p = 0; p < length; p++) {
                int r = f.transposed() ? p : l;
                int c = f.transposed() ? l : p;
                int k = (int) (Math.min(r, rows - 1) / g.groupRows()) * across + (int) (Math.min(c, cols - 1) / g.groupCols());
                if (r >= rows || c >= cols) {
                    codes[l * length + p] = zero[k];
                    continue;
                }
                int q = Math.clamp((long) Math.rint(x[r * cols + c] / scale[k]) + zero[k], f.qmin(), f.qmax());
                codes[l * length + p] = q;
                back[r * cols + c] = round((q - zero[k]) * scale[k], f.scaleType());
            }
        }
        return new Encoding.Quantized(f, shape, new Tensor(f.type(), Shape.of(codes.length), pack(codes, f.type())),
                scales(scale, f, down, across), f.symmetric() ? null : zeros(zero, f, down, across));
    }

    private static Tensor scales(float[] s, Form.Quantized f, int down, int across) {
        MemorySegment m = Arena.ofAuto().allocate(f.scaleType().bytes(s.length), 8);
        for (int i = 0; i < s.length; i++) {
            float v = s[source(i, f, down, across)];
            switch (f.scaleType()) {
                case F32 -> m.setAtIndex(ValueLayout.JAVA_FLOAT, i, v);
                case F16 -> m.setAtIndex(ValueLayout.JAVA_SHORT, i, Float.floatToFloat16(v));
                default -> m.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) (Float.floatToRawIntBits(v) >>> 16));
            }
        }
        return new Tensor(f.scaleType(), Shape.of(s.length), m);
    }

    private static Tensor zeros(int[] z, Form.Quantized f, int down, int across) {
        MemorySegment m = Arena.ofAuto().allocate(z.length);
        for (int i = 0; i < z.length; i++) {
            m.set(ValueLayout.JAVA_BYTE, i, (byte) z[source(i, f, down, across)]);
        }
        return new Tensor(f.type().signed() ? DType.I8 : DType.U8, Shape.of(z.length), m);
    }

    private static int source(int i, Form.Quantized f, int down, int across) {
        return f.transposed() ? i % down * across + i / down : i;
    }

    private static MemorySegment pack(int[] codes, DType type) {
        MemorySegment m = Arena.ofAuto().allocate(type.bytes(codes.length));
        for (int i = 0; i < codes.length; i++) {
            if (type.bits() == 8) {
                m.set(ValueLayout.JAVA_BYTE, i, (byte) codes[i]);
            } else {
                int b = m.get(ValueLayout.JAVA_BYTE, i / 2) | (codes[i] & 15) << i % 2 * 4;
                m.set(ValueLayout.JAVA_BYTE, i / 2, (byte) b);
            }
        }
        return m;
    }

    static float round(float v, DType to) {
        return switch (to) {
            case F16 -> Float.float16ToFloat(Float.floatToFloat16(v));
            case BF16 -> {
                int bits = Float.floatToRawIntBits(v);
                yield Float.intBitsToFloat(bits + 0x7fff + (bits >>> 16 & 1) & 0xffff0000);
            }
            default -> v;
        };
    }

    static float[] floats(Tensor t) {
        float[] x = new float[(int) t.shape().elements()];
        for (int i = 0; i < x.length; i++) {
            x[i] = switch (t.dtype()) {
                case F32 -> t.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
                case F16 -> Float.float16ToFloat(t.data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i));
                default -> Float.intBitsToFloat(t.data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i) << 16);
            };
        }
        return x;
    }
}
