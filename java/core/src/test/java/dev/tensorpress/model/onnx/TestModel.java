package dev.tensorpress.model.onnx;

import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/** Builds small ONNX models, field by field as onnx.proto numbers them. */
final class TestModel {
    long ir = 8;
    long opset = 17;
    final GraphBuilder graph = new GraphBuilder("main");
    /** Further fields of ModelProto, in front of the graph and behind it. */
    final Proto before = new Proto();
    final Proto after = new Proto();

    static TestModel of(long ir, long opset) {
        TestModel m = new TestModel();
        m.ir = ir;
        m.opset = opset;
        return m;
    }

    byte[] bytes() {
        Proto m = new Proto().integer(1, ir).string(2, "test");
        m.fields(before.toBytes());
        m.bytes(7, graph.bytes());
        m.message(8, new Proto().string(1, "").integer(2, opset));
        m.fields(after.toBytes());
        return m.toBytes();
    }

    Path write(Path folder, String name) throws IOException {
        return Files.write(folder.resolve(name), bytes());
    }

    static final class GraphBuilder {
        private final String name;
        final List<byte[]> nodes = new ArrayList<>();
        final List<byte[]> initializers = new ArrayList<>();
        final List<byte[]> inputs = new ArrayList<>();
        final List<byte[]> outputs = new ArrayList<>();
        final Proto more = new Proto();

        GraphBuilder(String name) {
            this.name = name;
        }

        GraphBuilder node(NodeBuilder n) {
            nodes.add(n.proto.toBytes());
            return this;
        }

        GraphBuilder node(String op, String out, String... in) {
            return node(new NodeBuilder(op, out, in));
        }

        GraphBuilder init(Proto tensor) {
            initializers.add(tensor.toBytes());
            return this;
        }

        /** A raw f32, f16 or bf16 initializer. */
        GraphBuilder init(String name, DType type, float[] values, long... dims) {
            return init(tensor(name, type, values, dims));
        }

        GraphBuilder longs(String name, long... values) {
            Proto t = new Proto().integer(1, values.length).integer(2, 7).string(8, name);
            ByteBuffer b = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
            for (long v : values) {
                b.putLong(v);
            }
            return init(t.bytes(9, b.array()));
        }

        GraphBuilder input(String name, int type, long... dims) {
            inputs.add(value(name, type, dims).toBytes());
            return this;
        }

        GraphBuilder output(String name, int type, long... dims) {
            outputs.add(value(name, type, dims).toBytes());
            return this;
        }

        byte[] bytes() {
            Proto g = new Proto();
            nodes.forEach(n -> g.bytes(1, n));
            g.string(2, name);
            initializers.forEach(n -> g.bytes(5, n));
            inputs.forEach(n -> g.bytes(11, n));
            outputs.forEach(n -> g.bytes(12, n));
            return g.fields(more.toBytes()).toBytes();
        }
    }

    /** Negative dimensions are named ones. */
    static Proto value(String name, int type, long... dims) {
        Proto shape = new Proto();
        for (long d : dims) {
            shape.message(1, d >= 0 ? new Proto().integer(1, d) : new Proto().string(2, "d" + -d));
        }
        return new Proto().string(1, name).message(2,
                new Proto().message(1, new Proto().integer(1, type).message(2, shape)));
    }

    static Proto tensor(String name, DType type, float[] values, long... dims) {
        return head(name, TensorInfo.code(type), dims).bytes(9, raw(type, values));
    }

    static Proto head(String name, int type, long... dims) {
        Proto t = new Proto();
        for (long d : dims) {
            t.integer(1, d);
        }
        return t.integer(2, type).string(8, name);
    }

    static byte[] raw(DType type, float[] values) {
        ByteBuffer b = ByteBuffer.allocate((int) type.bytes(values.length)).order(ByteOrder.LITTLE_ENDIAN);
        for (float v : values) {
            switch (type) {
                case F32 -> b.putFloat(v);
                case F16 -> b.putShort(Float.floatToFloat16(v));
                default -> b.putShort((short) (Float.floatToRawIntBits(PlainEncoder.round(v, DType.BF16)) >>> 16));
            }
        }
        return b.array();
    }

    static final class NodeBuilder {
        final Proto proto = new Proto();

        NodeBuilder(String op, String out, String... in) {
            for (String i : in) {
                proto.string(1, i);
            }
            for (String o : out.split(",")) {
                proto.string(2, o);
            }
            proto.string(3, op + "_" + out).string(4, op);
        }

        NodeBuilder set(String name, long value) {
            proto.message(5, new Proto().string(1, name).integer(3, value).integer(20, 2));
            return this;
        }

        NodeBuilder set(String name, float value) {
            proto.message(5, new Proto().string(1, name).real(2, value).integer(20, 1));
            return this;
        }

        NodeBuilder ints(String name, long... values) {
            Proto a = new Proto().string(1, name);
            for (long v : values) {
                a.integer(8, v);
            }
            proto.message(5, a.integer(20, 7));
            return this;
        }

        NodeBuilder tensor(String name, Proto value) {
            proto.message(5, new Proto().string(1, name).message(5, value).integer(20, 4));
            return this;
        }

        NodeBuilder text(String name, String value) {
            proto.message(5, new Proto().string(1, name).string(4, value).integer(20, 3));
            return this;
        }

        NodeBuilder graph(String name, GraphBuilder value) {
            proto.message(5, new Proto().string(1, name).bytes(6, value.bytes()).integer(20, 5));
            return this;
        }

        NodeBuilder domain(String domain) {
            proto.string(7, domain);
            return this;
        }
    }

    /** Normal numbers, seeded. */
    static float[] random(int seed, int n) {
        Random r = new Random(seed);
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            x[i] = (float) r.nextGaussian();
        }
        return x;
    }
}
