package dev.tensorpress.model.onnx;

import ai.onnxruntime.NodeInfo;
import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import com.google.protobuf.UnknownFieldSet;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;

/** Runs models in ONNX Runtime. */
final class Ort {
    private Ort() {}

    private static OrtSession.SessionOptions options() throws OrtException {
        OrtSession.SessionOptions o = new OrtSession.SessionOptions();
        o.setIntraOpNumThreads(1);
        // Else ONNX Runtime, fusing DequantizeLinear and MatMul, would quantize activations where the model does not.
        o.addConfigEntry("session.qdq_matmulnbits_accuracy_level", "0");
        o.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL);
        return o;
    }

    /** All float outputs, one after another. Float inputs are random, integers small; named dimensions are 3. */
    static float[] run(Path model, int seed, int largestIndex) throws OrtException {
        return run(model, seed, largestIndex, OrtSession.SessionOptions.OptLevel.ALL_OPT);
    }

    static float[] run(Path model, int seed, int largestIndex, OrtSession.SessionOptions.OptLevel level)
            throws OrtException {
        try (OrtSession.SessionOptions o = options()) {
            o.setOptimizationLevel(level);
            try (OrtSession s = OrtEnvironment.getEnvironment().createSession(model.toString(), o)) {
                return run(s, seed, largestIndex);
            }
        }
    }

    /** Each output of a model with one input. */
    static float[][] run(Path model, float[] x, long... shape) throws OrtException {
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        try (OrtSession.SessionOptions o = options(); OrtSession s = environment.createSession(model.toString(), o);
                OnnxTensor input = OnnxTensor.createTensor(environment, FloatBuffer.wrap(x), shape);
                OrtSession.Result result = s.run(Map.of(s.getInputNames().iterator().next(), input))) {
            float[][] all = new float[result.size()][];
            for (int i = 0; i < all.length; i++) {
                FloatBuffer values = ((OnnxTensor) result.get(i)).getFloatBuffer();
                all[i] = new float[values.remaining()];
                values.get(all[i]);
            }
            return all;
        }
    }

    /** The shape that ONNX Runtime infers for an output: sizes, and -1 with the names of those that are not known. */
    static String shape(Path model, String output) throws OrtException {
        try (OrtSession.SessionOptions o = options();
                OrtSession s = OrtEnvironment.getEnvironment().createSession(model.toString(), o)) {
            TensorInfo t = (TensorInfo) s.getOutputInfo().get(output).getInfo();
            return Arrays.toString(t.getShape()) + " " + Arrays.toString(t.getDimensionNames());
        }
    }

    /** All float outputs for inputs that lie in files {@code input_N.pb} of a folder, each a TensorProto with raw data. */
    static float[] runOn(Path folder, Path model) throws OrtException, IOException {
        try (OrtSession.SessionOptions o = options();
                OrtSession s = OrtEnvironment.getEnvironment().createSession(model.toString(), o)) {
            Map<String, OnnxTensor> in = new HashMap<>();
            try {
                for (String name : s.getInputNames()) {
                    UnknownFieldSet t = UnknownFieldSet.parseFrom(
                            Files.readAllBytes(folder.resolve("input_" + in.size() + ".pb")));
                    List<Long> dims = t.getField(1).getVarintList();
                    byte[] raw = t.getField(9).getLengthDelimitedList().get(0).toByteArray();
                    ByteBuffer b = ByteBuffer.allocateDirect(raw.length).order(ByteOrder.nativeOrder()).put(raw).flip();
                    in.put(name, OnnxTensor.createTensor(OrtEnvironment.getEnvironment(), b,
                            dims.stream().mapToLong(d -> d).toArray(),
                            ((TensorInfo) s.getInputInfo().get(name).getInfo()).type));
                }
                return floats(s, in);
            } finally {
                in.values().forEach(OnnxTensor::close);
            }
        }
    }

    private static float[] floats(OrtSession s, Map<String, OnnxTensor> in) throws OrtException {
        List<Float> all = new ArrayList<>();
        try (OrtSession.Result r = s.run(in)) {
            for (Map.Entry<String, OnnxValue> v : r) {
                if (v.getValue() instanceof OnnxTensor t && t.getInfo().type != OnnxJavaType.STRING) {
                    FloatBuffer b = t.getFloatBuffer();
                    while (b != null && b.hasRemaining()) {
                        all.add(b.get());
                    }
                }
            }
        }
        float[] result = new float[all.size()];
        for (int i = 0; i < result.length; i++) {
            result[i] = all.get(i);
        }
        return result;
    }

    /** The operators that remain after ONNX Runtime has optimized the model, and how many of each. */
    static Map<String, Integer> optimized(Path model, Path scratch) throws Exception {
        try (OrtSession.SessionOptions o = options()) {
            o.setOptimizationLevel(OrtSession.SessionOptions.OptLevel.ALL_OPT);
            o.setOptimizedModelFilePath(scratch.toString());
            OrtEnvironment.getEnvironment().createSession(model.toString(), o).close();
        }
        Map<String, Integer> count = new TreeMap<>();
        try (OnnxModel m = OnnxModel.open(scratch, false)) {
            m.parsed().graph.nodes.forEach(n -> count.merge(n.op, 1, Integer::sum));
        }
        return count;
    }

    private static float[] run(OrtSession s, int seed, int largestIndex) throws OrtException {
        OrtEnvironment env = OrtEnvironment.getEnvironment();
        Random random = new Random(seed);
        Map<String, OnnxTensor> in = new HashMap<>();
        try {
            for (Map.Entry<String, NodeInfo> e : s.getInputInfo().entrySet()) {
                TensorInfo t = (TensorInfo) e.getValue().getInfo();
                long[] dims = t.getShape().clone();
                int n = 1;
                for (int i = 0; i < dims.length; i++) {
                    dims[i] = dims[i] < 0 ? 3 : dims[i];
                    n *= (int) dims[i];
                }
                in.put(e.getKey(), tensor(env, t.type, dims, n, random, largestIndex));
            }
            return floats(s, in);
        } finally {
            in.values().forEach(OnnxTensor::close);
        }
    }

    private static OnnxTensor tensor(OrtEnvironment env, OnnxJavaType type, long[] dims, int n, Random random,
            int largestIndex) throws OrtException {
        switch (type) {
            case FLOAT -> {
                FloatBuffer b = FloatBuffer.allocate(n);
                for (int i = 0; i < n; i++) {
                    b.put(i, (float) random.nextGaussian());
                }
                return OnnxTensor.createTensor(env, b, dims);
            }
            case INT64 -> {
                LongBuffer b = LongBuffer.allocate(n);
                for (int i = 0; i < n; i++) {
                    b.put(i, random.nextInt(largestIndex));
                }
                return OnnxTensor.createTensor(env, b, dims);
            }
            case FLOAT16 -> {
                ByteBuffer b = ByteBuffer.allocateDirect(2 * n).order(ByteOrder.nativeOrder());
                for (int i = 0; i < n; i++) {
                    b.putShort(2 * i, Float.floatToFloat16((float) random.nextGaussian()));
                }
                return OnnxTensor.createTensor(env, b, dims, OnnxJavaType.FLOAT16);
            }
            default -> {
                ByteBuffer b = ByteBuffer.allocateDirect(n * type.size).order(ByteOrder.nativeOrder());
                if (type == OnnxJavaType.BOOL) {
                    b.put(0, (byte) 1);
                }
                return OnnxTensor.createTensor(env, b, dims, type);
            }
        }
    }
}
