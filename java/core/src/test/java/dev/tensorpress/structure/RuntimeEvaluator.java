package dev.tensorpress.structure;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import com.google.protobuf.UnknownFieldSet.Field;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;

/** ONNX Runtime for constants. */
public final class RuntimeEvaluator {
    private RuntimeEvaluator() {}

    /** As {@link Evaluator} has it. */
    public static Map<String, EditableTensor> evaluate(Path model, Collection<String> values, Arena arena) throws IOException {
        UnknownFieldSet.Builder outputs = UnknownFieldSet.newBuilder();
        Field.Builder all = Field.newBuilder();
        for (String value : values) {
            all.addLengthDelimited(message(1, ByteString.copyFromUtf8(value)));
        }
        outputs.addField(12, all.build());
        byte[] bytes = ByteString.copyFrom(Files.readAllBytes(model)).concat(message(7, outputs.build().toByteString())).toByteArray();
        Map<String, EditableTensor> found = new HashMap<>();
        try (OrtSession.SessionOptions o = new OrtSession.SessionOptions()) {
            o.setIntraOpNumThreads(1);
            o.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL);
            try (OrtSession session = OrtEnvironment.getEnvironment().createSession(bytes, o);
                    OrtSession.Result result = session.run(Map.of(), new HashSet<>(values))) {
                for (Map.Entry<String, OnnxValue> one : result) {
                    DType type = one.getValue() instanceof OnnxTensor t ? type(t) : null;
                    if (type != null) {
                        OnnxTensor t = (OnnxTensor) one.getValue();
                        ByteBuffer data = t.getByteBuffer();
                        MemorySegment copy = arena.allocate(data.remaining(), 64).copyFrom(MemorySegment.ofBuffer(data));
                        found.put(one.getKey(), EditableTensor.of(new Tensor(type, Shape.of(t.getInfo().getShape()), copy)));
                    }
                }
            }
        } catch (OrtException e) {
            throw new UnsupportedRequestException(e.getMessage());
        }
        return found;
    }

    private static DType type(OnnxTensor t) {
        return switch (t.getInfo().type) {
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
            default -> null;
        };
    }

    private static ByteString message(int field, ByteString content) {
        return UnknownFieldSet.newBuilder().addField(field, Field.newBuilder().addLengthDelimited(content).build()).build().toByteString();
    }
}
