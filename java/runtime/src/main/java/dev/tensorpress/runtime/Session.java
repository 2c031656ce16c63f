package dev.tensorpress.runtime;

import ai.onnxruntime.NodeInfo;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.Shape;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.StringJoiner;
import java.util.function.Consumer;

/** One model in ONNX Runtime, on the CPU. */
final class Session implements AutoCloseable {
    private final Path model;
    private final OrtSession session;
    private final Map<String, TensorInfo> inputs;

    private Session(Path model, OrtSession session, Map<String, TensorInfo> inputs) {
        this.model = model;
        this.session = session;
        this.inputs = inputs;
    }

    /** What fails is thrown, so the runtime need not print it as well. */
    static OrtEnvironment environment() {
        return OrtEnvironment.getEnvironment(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL, "tensorpress");
    }

    /** Of ONNX Runtime. */
    static String version() {
        return environment().getVersion();
    }

    static Session open(Path model, int threads) {
        OrtSession session = null;
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(threads);
            options.setInterOpNumThreads(1);
            session = environment().createSession(model.toString(), options);
            Map<String, TensorInfo> inputs = new LinkedHashMap<>();
            for (Map.Entry<String, NodeInfo> input : session.getInputInfo().entrySet()) {
                if (!(input.getValue().getInfo() instanceof TensorInfo tensor)) {
                    throw new UnsupportedRequestException(
                            "input " + input.getKey() + " of " + model + " is not a tensor, which only is supported");
                }
                inputs.put(input.getKey(), tensor);
            }
            Session opened = new Session(model, session, inputs);
            session = null;
            return opened;
        } catch (OrtException e) {
            throw failure(model, "cannot load", e);
        } finally {
            close(session);
        }
    }

    private static RuntimeException failure(Path model, String what, OrtException e) {
        RuntimeException failure = switch (e.getCode()) {
            case ORT_INVALID_PROTOBUF, ORT_INVALID_GRAPH, ORT_NO_MODEL ->
                new MalformedModelException(model, -1, "ONNX Runtime " + what + " it: " + e.getMessage());
            default -> new UnsupportedRequestException("ONNX Runtime " + what + " " + model + ": " + e.getMessage());
        };
        failure.initCause(e);
        return failure;
    }

    Path model() {
        return model;
    }

    Map<String, TensorInfo> inputs() {
        return inputs;
    }

    /** Names and shapes of the inputs, with {@code ?} for dimensions that the model leaves open. */
    String declared() {
        StringJoiner all = new StringJoiner(", ");
        inputs.forEach((name, info) -> all.add(name + " " + declared(info)));
        return all.toString();
    }

    private static String declared(TensorInfo info) {
        StringJoiner dims = new StringJoiner("x");
        for (long dim : info.getShape()) {
            dims.add(dim < 0 ? "?" : Long.toString(dim));
        }
        return dims.length() == 0 ? "scalar" : dims.toString();
    }

    /** @throws InputException if a shape does not fit the one that the model declares of an input */
    void check(String input, Shape shape) {
        long[] declared = inputs.get(input).getShape();
        // Without dimensions: a scalar, or an input of any rank, which ONNX Runtime shows alike.
        boolean fits = declared.length == 0 || declared.length == shape.rank();
        for (int d = 0; fits && d < declared.length; d++) {
            fits = declared[d] < 0 || declared[d] == shape.dim(d);
        }
        if (!fits) {
            throw new InputException("the shape " + shape + " does not fit the input " + input + " of " + model + ", which is "
                    + declared(inputs.get(input)));
        }
    }

    /**
     * Runs the model once, and closes {@code feed}.
     *
     * @param reader gets the outputs of floating-point type, in the model's order; they are closed when it returns
     * @return milliseconds, of the run alone
     */
    double run(Map<String, OnnxTensor> feed, Consumer<Map<String, OnnxTensor>> reader) {
        try {
            long start = System.nanoTime();
            try (OrtSession.Result result = session.run(feed)) {
                double millis = (System.nanoTime() - start) * 1e-6;
                Map<String, OnnxTensor> floats = new LinkedHashMap<>();
                for (Map.Entry<String, OnnxValue> output : result) {
                    if (output.getValue() instanceof OnnxTensor tensor) {
                        switch (tensor.getInfo().type) {
                            case FLOAT, DOUBLE, FLOAT16, BFLOAT16 -> floats.put(output.getKey(), tensor);
                            default -> { }
                        }
                    }
                }
                reader.accept(floats);
                return millis;
            }
        } catch (OrtException e) {
            throw failure(model, "cannot run", e);
        } finally {
            feed.values().forEach(OnnxTensor::close);
        }
    }

    @Override
    public void close() {
        close(session);
    }

    private static void close(OrtSession session) {
        if (session != null) {
            try {
                session.close();
            } catch (OrtException e) {
                throw new IllegalStateException(e); // says so if it is closed already, nothing else
            }
        }
    }
}
