package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.structure.Evaluator;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.Map;

/** Computes constants in ONNX Runtime, as it would itself whenever it loads the model. */
public final class OnnxEvaluator implements Evaluator {
    private final int threads;

    /** @param threads within an operator; 0 for all processors */
    public OnnxEvaluator(int threads) {
        this.threads = threads;
    }

    @Override
    public Map<String, EditableTensor> evaluate(Path model, Collection<String> values, Arena arena) throws IOException {
        Map<String, EditableTensor> all = new HashMap<>();
        try (Session session = Session.open(model, threads, values); Session.Run run = session.run(Map.of(), new LinkedHashSet<>(values))) {
            for (String name : values) {
                OnnxValue value = run.result().get(name).orElse(null);
                DType type = value instanceof OnnxTensor t ? Session.type(t) : null;
                if (type != null) {
                    ByteBuffer bytes = ((OnnxTensor) value).getByteBuffer();
                    MemorySegment data = arena.allocate(bytes.remaining(), 64).copyFrom(MemorySegment.ofBuffer(bytes));
                    all.put(name, EditableTensor.of(new Tensor(type, Shape.of(((OnnxTensor) value).getInfo().getShape()), data)));
                }
            }
        }
        return all;
    }
}
