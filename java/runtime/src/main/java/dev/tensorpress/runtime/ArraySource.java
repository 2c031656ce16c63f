package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/** Samples along the first axis of arrays; and what arrays have to be to be inputs. */
final class ArraySource extends Samples {
    private final Map<String, Tensor> arrays = new LinkedHashMap<>();
    private final int size;

    ArraySource(Map<String, Tensor> arrays) {
        // ONNX Runtime takes no arrays of the heap.
        arrays.forEach((name, a) -> this.arrays.put(name, a.data().isNative() ? a
                : new Tensor(a.dtype(), a.shape(), Arena.ofAuto().allocate(a.data().byteSize(), 64).copyFrom(a.data()))));
        long n = arrays.isEmpty() ? 0 : arrays.values().stream().mapToLong(ArraySource::samples).min().getAsLong();
        if (n == 0 || arrays.values().stream().anyMatch(a -> samples(a) != n)) {
            throw new IllegalArgumentException("arrays of samples need a first axis, of one length in all, of at least 1");
        }
        size = Math.toIntExact(n);
    }

    private static long samples(Tensor array) {
        return array.shape().rank() == 0 ? 0 : array.shape().dim(0);
    }

    @Override
    public String source() {
        return "arrays";
    }

    @Override
    public int size() {
        return size;
    }

    @Override
    Map<String, OnnxTensor> feed(Session session, int i) {
        Map<String, Tensor> one = new LinkedHashMap<>();
        arrays.forEach((name, array) -> {
            if (!session.inputs().containsKey(name)) {
                throw new InputException(session.model() + " has no input " + name + ", but " + session.declared());
            }
            long[] dims = array.shape().dims();
            dims[0] = 1;
            Shape shape = Shape.of(dims);
            long bytes = array.dtype().bytes(shape.elements());
            Tensor sample = new Tensor(array.dtype(), shape, array.data().asSlice(i * bytes, bytes));
            check(session, "what it is given", name, sample);
            one.put(name, sample);
        });
        return feed(one);
    }

    /** Copies for ONNX Runtime. */
    static Map<String, OnnxTensor> feed(Map<String, Tensor> arrays) {
        Map<String, OnnxTensor> feed = new LinkedHashMap<>();
        arrays.forEach((name, tensor) -> {
            try {
                feed.put(name, OnnxTensor.createTensor(Session.environment(), tensor.data().asByteBuffer().order(ByteOrder.nativeOrder()),
                        tensor.shape().dims(), type(tensor.dtype())));
            } catch (OrtException e) {
                throw new IllegalStateException(e);
            }
        });
        return feed;
    }

    /**
     * @param source of the array, in words
     * @throws InputException if it does not fit the input
     */
    static void check(Session session, String source, String input, Tensor array) {
        if (type(array.dtype()) == OnnxJavaType.UNKNOWN) {
            throw new UnsupportedRequestException(source + ": " + input + " is an array of type " + array.dtype()
                    + ", which inputs of models are not");
        }
        OnnxJavaType declared = session.inputs().get(input).type;
        if (declared != type(array.dtype())) {
            throw new InputException("the input " + input + " of " + session.model() + " is of type " + declared + ", but "
                    + type(array.dtype()) + " in " + source);
        }
        session.check(input, array.shape());
        if (array.dtype() == DType.BOOL) {
            for (byte b : array.data().toArray(ValueLayout.JAVA_BYTE)) {
                if (b != 0 && b != 1) {
                    throw new MalformedModelException(Path.of(source), -1, "expected 0 or 1 as booleans of " + input + ", found " + b);
                }
            }
        }
    }

    private static OnnxJavaType type(DType type) {
        return switch (type) {
            case F64 -> OnnxJavaType.DOUBLE;
            case F32 -> OnnxJavaType.FLOAT;
            case F16 -> OnnxJavaType.FLOAT16;
            case BF16 -> OnnxJavaType.BFLOAT16;
            case I64 -> OnnxJavaType.INT64;
            case I32 -> OnnxJavaType.INT32;
            case I16 -> OnnxJavaType.INT16;
            case I8 -> OnnxJavaType.INT8;
            case U8 -> OnnxJavaType.UINT8;
            case BOOL -> OnnxJavaType.BOOL;
            default -> OnnxJavaType.UNKNOWN;
        };
    }
}
