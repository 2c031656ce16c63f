package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;

/** Constants of ONNX as arrays of DJL, and back. */
final class Tensors {
    private static final long MOST_BYTES = 1L << 31;

    private Tensors() {}

    /**
     * A copy; of f16 and bf16 in f32, of integers of 4 and 16 bits in i32.
     *
     * @param name for messages
     * @throws UnsupportedRequestException if PyTorch has no such type, or it takes 2 GiB or more
     */
    static NDArray array(NDManager manager, String name, EditableTensor t) {
        DType type = t.type().orElseThrow(() -> new UnsupportedRequestException("constant '" + name + "' holds no numbers"));
        MemorySegment data = t.tensor().data();
        ai.djl.ndarray.types.Shape shape = new ai.djl.ndarray.types.Shape(t.shape().dims());
        if (data.byteSize() >= MOST_BYTES) {
            throw new UnsupportedRequestException("constant '" + name + "' takes " + data.byteSize() + " bytes; what takes 2 GiB or more is not trained");
        }
        if (type == DType.F16 || type == DType.BF16) {
            short[] bits = data.toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
            float[] floats = new float[bits.length];
            for (int i = 0; i < bits.length; i++) {
                floats[i] = type == DType.F16 ? Float.float16ToFloat(bits[i]) : Float.intBitsToFloat(bits[i] << 16);
            }
            return manager.create(floats, shape);
        }
        if (type == DType.U4 || type == DType.I4) {
            // The first of two lies in the lower bits.
            byte[] packed = data.toArray(ValueLayout.JAVA_BYTE);
            int[] codes = new int[Math.toIntExact(t.shape().elements())];
            for (int i = 0; i < codes.length; i++) {
                int four = packed[i / 2] >> 4 * (i % 2) & 15;
                codes[i] = type == DType.I4 ? four << 28 >> 28 : four;
            }
            return manager.create(codes, shape);
        }
        if (type == DType.U16 || type == DType.I16) {
            short[] bits = data.toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
            int[] codes = new int[bits.length];
            for (int i = 0; i < codes.length; i++) {
                codes[i] = type == DType.I16 ? bits[i] : bits[i] & 0xffff;
            }
            return manager.create(codes, shape);
        }
        DataType as = switch (type) {
            case F32 -> DataType.FLOAT32;
            case F64 -> DataType.FLOAT64;
            case I64 -> DataType.INT64;
            case I32 -> DataType.INT32;
            case I8 -> DataType.INT8;
            case U8 -> DataType.UINT8;
            case BOOL -> DataType.BOOLEAN;
            default -> throw new UnsupportedRequestException("constant '" + name + "' is of type " + type + ", which is not trained");
        };
        // PyTorch goes on using the memory that it is given, which a model's file is not for ever.
        ByteBuffer copy = manager.allocateDirect((int) data.byteSize());
        MemorySegment.ofBuffer(copy).copyFrom(data);
        return manager.create(copy, shape, as);
    }

    /** Its elements where PyTorch has them, as long as it lives; of an array whose elements are apart, a copy. */
    static MemorySegment memory(NDArray array) {
        return MemorySegment.ofBuffer(array.toByteBuffer(true));
    }

    /** The type of an array of numbers with a point. */
    static DType type(NDArray a) {
        return a.getDataType() == DataType.FLOAT64 ? DType.F64 : DType.F32;
    }

    /** An array as constant of a floating-point type, each number rounded to the nearest, ties to even. */
    static EditableTensor tensor(NDArray array, DType type, Arena arena) {
        Shape shape = Shape.of(array.getShape().getShape());
        MemorySegment from = switch (type) {
            case F64 -> MemorySegment.ofArray(array.toDoubleArray());
            case F32 -> MemorySegment.ofArray(array.toFloatArray());
            case F16, BF16 -> {
                float[] floats = array.toFloatArray();
                short[] bits = new short[floats.length];
                for (int i = 0; i < bits.length; i++) {
                    int wide = Float.floatToRawIntBits(floats[i]);
                    bits[i] = type == DType.F16 ? Float.floatToFloat16(floats[i]) : (short) (wide + 0x7fff + (wide >>> 16 & 1) >>> 16);
                }
                yield MemorySegment.ofArray(bits);
            }
            default -> throw new IllegalArgumentException("not a type of parameters: " + type);
        };
        return EditableTensor.of(new Tensor(type, shape, arena.allocate(from.byteSize(), 64).copyFrom(from)));
    }
}
