package dev.tensorpress.model.onnx;

import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Optional;

/**
 * A constant of an {@link EditableModel}. Immutable; its elements are views of the model's files, or memory of whoever made it.
 */
public final class EditableTensor {
    private final int type;
    private final Shape shape;
    /** Null of texts. */
    private final MemorySegment data;
    /** Fields of a TensorProto with texts, which are copied as they are; null of numbers. */
    private final byte[] texts;

    private EditableTensor(int type, Shape shape, MemorySegment data, byte[] texts) {
        this.type = type;
        this.shape = shape;
        this.data = data;
        this.texts = texts;
    }

    /**
     * @param tensor little-endian; of a type that ONNX has
     * @throws IllegalArgumentException if ONNX has no such type
     */
    public static EditableTensor of(Tensor tensor) {
        return new EditableTensor(TensorInfo.code(tensor.dtype()), tensor.shape(), tensor.data(), null);
    }

    /** A list of int64 on the heap, such as a shape. */
    public static EditableTensor of(long... values) {
        MemorySegment data = MemorySegment.ofArray(new byte[8 * values.length]);
        for (int i = 0; i < values.length; i++) {
            data.set(ValueLayout.JAVA_LONG_UNALIGNED, 8L * i, values[i]);
        }
        return new EditableTensor(TensorInfo.INT64, Shape.of(values.length), data, null);
    }

    /** A list of f32 on the heap. */
    public static EditableTensor of(float... values) {
        MemorySegment data = MemorySegment.ofArray(new byte[4 * values.length]);
        for (int i = 0; i < values.length; i++) {
            data.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i, values[i]);
        }
        return new EditableTensor(TensorInfo.FLOAT, Shape.of(values.length), data, null);
    }

    /** An int64 without axes. */
    public static EditableTensor scalar(long value) {
        return new EditableTensor(TensorInfo.INT64, Shape.of(), of(value).data, null);
    }

    /** An f32 without axes. */
    public static EditableTensor scalar(float value) {
        return new EditableTensor(TensorInfo.FLOAT, Shape.of(), of(value).data, null);
    }

    /**
     * ONNX's number of a type, as attributes such as Cast's have it.
     *
     * @throws IllegalArgumentException if ONNX has no such type
     */
    public static long code(DType type) {
        return TensorInfo.code(type);
    }

    static EditableTensor read(Wire w, TensorInfo t, Elements elements) throws IOException {
        Shape shape = Shape.of(t.dims);
        if (t.type == TensorInfo.STRING || t.elementType() == null) {
            Proto kept = new Proto();
            w.seek(t.start, t.end);
            while (w.next()) {
                if (w.field != 8) { // the name
                    kept.fields(w.bytes(w.fieldStart, Math.toIntExact(w.end() - w.fieldStart)));
                }
            }
            return new EditableTensor(t.type, shape, null, kept.toBytes());
        }
        return new EditableTensor(t.type, shape, elements.of(t), null);
    }

    /** Of its elements; empty of texts, and of types that this library does not know. */
    public Optional<DType> type() {
        return data == null ? Optional.empty() : Optional.of(elementType());
    }

    private DType elementType() {
        TensorInfo t = new TensorInfo();
        t.type = type;
        return t.elementType();
    }

    /** Its axes. */
    public Shape shape() {
        return shape;
    }

    /** @throws IllegalStateException if it has no {@link #type} */
    public Tensor tensor() {
        if (data == null) {
            throw new IllegalStateException("a tensor of texts has no elements");
        }
        return new Tensor(elementType(), shape, data);
    }

    /** Whether both are the same: type, shape and bits. */
    public boolean same(EditableTensor other) {
        return type == other.type && shape.equals(other.shape)
                && (data == null ? Arrays.equals(texts, other.texts) : other.data != null && data.mismatch(other.data) < 0);
    }

    /** Elements of i64, i32 or bool as numbers; empty if it is of another type, or has more than {@code most}. */
    public Optional<long[]> integers(int most) {
        if (data == null || shape.elements() > most) {
            return Optional.empty();
        }
        long[] all = new long[(int) shape.elements()];
        for (int i = 0; i < all.length; i++) {
            switch (type) {
                case TensorInfo.INT64 -> all[i] = data.get(ValueLayout.JAVA_LONG_UNALIGNED, 8L * i);
                case TensorInfo.INT32 -> all[i] = data.get(ValueLayout.JAVA_INT_UNALIGNED, 4L * i);
                case TensorInfo.BOOL -> all[i] = data.get(ValueLayout.JAVA_BYTE, i);
                default -> {
                    return Optional.empty();
                }
            }
        }
        return Optional.of(all);
    }

    /** As the content of a field. */
    Rope rope(String name, EditableModel.Place place) {
        Proto p = new Proto();
        if (!name.isEmpty()) {
            p.string(8, name);
        }
        if (data == null) {
            return new Rope().add(p.fields(texts));
        }
        for (long d : shape.dims()) {
            p.integer(1, d);
        }
        p.integer(2, type);
        if (place.data().takes(data.byteSize())) {
            place.data().place(p, new Rope.Memory(data));
            return new Rope().add(p);
        }
        return new Rope().add(p.header(9, data.byteSize())).add(new Rope.Memory(data));
    }

    /** As a ValueInfoProto. */
    Proto describe(String name) {
        Proto axes = new Proto();
        for (long d : shape.dims()) {
            axes.message(1, new Proto().integer(1, d));
        }
        Proto tensor = new Proto().integer(1, type).message(2, axes);
        return new Proto().string(1, name).message(2, new Proto().message(1, tensor));
    }
}
