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
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
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

    /** How many are meant: 0 is all processors, as everywhere here, though ONNX Runtime would take the cores. */
    static int threads(int asked) {
        return asked == 0 ? Runtime.getRuntime().availableProcessors() : asked;
    }

    /** @param threads within an operator, as {@link #threads} takes it */
    static Session open(Path model, int threads) throws IOException {
        return open(model, threads, List.of());
    }

    /** @param shown names of values that are outputs as well */
    static Session open(Path model, int threads, Collection<String> shown) throws IOException {
        OrtSession session = null;
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions(); Arena arena = Arena.ofConfined()) {
            options.setIntraOpNumThreads(threads(threads));
            options.setInterOpNumThreads(1);
            if (shown.isEmpty()) {
                session = environment().createSession(model.toString(), options);
            } else {
                Path folder = model.toAbsolutePath().getParent();
                // Threads that spin while they wait take processors from whoever looks at the values.
                options.addConfigEntry("session.intra_op.allow_spinning", "0");
                options.addConfigEntry("session.model_external_initializers_file_folder_path", folder.toString());
                session = environment().createSession(showing(model, shown, arena), options);
            }
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

    /**
     * A model with further outputs. Messages of protobuf may come in pieces, which readers put together: behind the file stands another
     * field {@code ModelProto.graph} with nothing but {@code GraphProto.output}, a {@code ValueInfoProto} with a name each. ONNX Runtime
     * finds their types.
     */
    private static ByteBuffer showing(Path model, Collection<String> shown, Arena arena) throws IOException {
        ByteArrayOutputStream outputs = new ByteArrayOutputStream();
        for (String name : shown) {
            ByteArrayOutputStream info = new ByteArrayOutputStream();
            field(info, 1, name.getBytes(StandardCharsets.UTF_8));
            field(outputs, 12, info.toByteArray());
        }
        ByteArrayOutputStream graph = new ByteArrayOutputStream();
        field(graph, 7, outputs.toByteArray());
        try (FileChannel file = FileChannel.open(model, StandardOpenOption.READ)) {
            long size = file.size() + graph.size();
            if (size > Integer.MAX_VALUE) {
                throw new UnsupportedRequestException(model + " has 2 GiB or more, which no message of protobuf may have");
            }
            ByteBuffer all = arena.allocate(size, Long.BYTES).asByteBuffer();
            all.limit((int) file.size());
            while (all.hasRemaining()) {
                if (file.read(all) < 0) {
                    throw new IOException(model + " became shorter while it was read");
                }
            }
            return all.limit((int) size).put(graph.toByteArray()).rewind();
        }
    }

    private static void field(ByteArrayOutputStream out, int number, byte[] content) {
        out.write(number << 3 | 2);
        int length = content.length;
        for (; length > 127; length >>>= 7) {
            out.write(length | 128);
        }
        out.write(length);
        out.writeBytes(content);
    }

    /** Null of texts, and of types that ONNX Runtime does not show in Java. */
    static DType type(OnnxTensor tensor) {
        return switch (tensor.getInfo().type) {
            case FLOAT -> DType.F32;
            case DOUBLE -> DType.F64;
            case FLOAT16 -> DType.F16;
            case BFLOAT16 -> DType.BF16;
            case INT8 -> DType.I8;
            case UINT8 -> DType.U8;
            case INT16 -> DType.I16;
            case INT32 -> DType.I32;
            case INT64 -> DType.I64;
            case BOOL -> DType.BOOL;
            case STRING, UNKNOWN -> null;
        };
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
                    OnnxTensor tensor = real(output.getValue());
                    if (tensor != null) {
                        floats.put(output.getKey(), tensor);
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

    /**
     * What a model was fed and what it made of it.
     *
     * @param result null if nothing had to be computed
     */
    record Run(Map<String, OnnxTensor> feed, OrtSession.Result result) implements AutoCloseable {
        /** Null if there is none of that name, or if it is not of floating-point type. */
        OnnxTensor tensor(String name) {
            OnnxValue value = feed.containsKey(name) ? feed.get(name) : result == null ? null : result.get(name).orElse(null);
            return real(value);
        }

        @Override
        public void close() {
            if (result != null) {
                result.close();
            }
            feed.values().forEach(OnnxTensor::close);
        }
    }

    /** Runs the model once, as far as these outputs need it; on any thread. Takes {@code feed} over. */
    Run run(Map<String, OnnxTensor> feed, Set<String> outputs) {
        Run none = new Run(feed, null);
        if (outputs.isEmpty()) {
            return none;
        }
        try {
            Run run = new Run(feed, session.run(feed, outputs));
            none = null;
            return run;
        } catch (OrtException e) {
            throw failure(model, "cannot run", e);
        } finally {
            if (none != null) {
                none.close();
            }
        }
    }

    /** The tensor if it is one of floating-point type, else null. */
    private static OnnxTensor real(OnnxValue value) {
        return value instanceof OnnxTensor tensor ? switch (tensor.getInfo().type) {
            case FLOAT, DOUBLE, FLOAT16, BFLOAT16 -> tensor;
            default -> null;
        } : null;
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
