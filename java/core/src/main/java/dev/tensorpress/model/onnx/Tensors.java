package dev.tensorpress.model.onnx;

import dev.tensorpress.model.onnx.Rope.Array;
import dev.tensorpress.tensor.DType;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Makes the initializers of a {@link Job}: parts of its encoding, in the model or in the data file, and small constants. */
final class Tensors {
    private final long irVersion;
    private final Names names;
    private final DataLayout data;

    Tensors(long irVersion, Names names, DataLayout data) {
        this.irVersion = irVersion;
        this.names = names;
        this.data = data;
    }

    String name(Job job, String what) {
        return names.fresh(job.name + "." + what);
    }

    /** @return the name of the tensor, as of the others here */
    String codes(Job job, DType type, long... dims) {
        return payload(job, name(job, "quantized"), type, dims, Array.CODES, job.form.codeBytes(job.shape));
    }

    String scales(Job job, long... dims) {
        return payload(job, name(job, "scale"), job.form.scaleType(), dims, Array.SCALES,
                job.form.scaleType().bytes(job.groups()));
    }

    /** Zero points, a byte each or packed. */
    String zeros(Job job, DType type, Array part, long length, long... dims) {
        return payload(job, name(job, "zero"), type, dims, part, length);
    }

    String payload(Job job, String name, DType type, long[] dims, Array part, long length) {
        Proto t = describe(name, type, dims);
        Rope.Payload payload = new Rope.Payload(job, part, length);
        if (job.external) {
            data.place(t, payload);
            job.tensors.add(new Proto().message(5, t));
        } else {
            job.tensors.add(new Rope().add(t.header(9, length)).add(payload).field(5));
        }
        input(job, name, type, dims);
        return name;
    }

    /** A list of integers, such as a shape. */
    String longs(Job job, String what, long... values) {
        ByteBuffer b = ByteBuffer.allocate(values.length * 8).order(ByteOrder.LITTLE_ENDIAN);
        for (long v : values) {
            b.putLong(v);
        }
        return constant(job, what, DType.I64, new long[] {values.length}, b.array());
    }

    /** A single number. */
    String constant(Job job, String what, DType type, byte[] data) {
        return constant(job, what, type, new long[0], data);
    }

    String constant(Job job, String what, DType type, long[] dims, byte[] data) {
        String name = name(job, what);
        job.tensors.add(new Proto().message(5, describe(name, type, dims).bytes(9, data)));
        input(job, name, type, dims);
        return name;
    }

    private static Proto describe(String name, DType type, long[] dims) {
        Proto t = new Proto();
        for (long d : dims) {
            t.integer(1, d);
        }
        return t.integer(2, TensorInfo.code(type)).string(8, name);
    }

    /** Before version 4 of the format every initializer was an input as well. */
    private void input(Job job, String name, DType type, long[] dims) {
        if (irVersion >= 4) {
            return;
        }
        Proto shape = new Proto();
        for (long d : dims) {
            shape.message(1, new Proto().integer(1, d));
        }
        Proto tensor = new Proto().integer(1, TensorInfo.code(type)).message(2, shape);
        job.inputs.add(new Proto().message(11,
                new Proto().string(1, name).message(2, new Proto().message(1, tensor))));
    }

    /** The bytes of a number in f32 or f16. */
    static byte[] number(DType type, float value) {
        ByteBuffer b = ByteBuffer.allocate(type.bits() / 8).order(ByteOrder.LITTLE_ENDIAN);
        if (type == DType.F32) {
            b.putFloat(value);
        } else {
            b.putShort(Float.floatToFloat16(value));
        }
        return b.array();
    }
}
