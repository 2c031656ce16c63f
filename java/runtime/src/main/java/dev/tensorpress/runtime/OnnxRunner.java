package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Runner;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BiConsumer;

/** Shows what ONNX Runtime computes, on the processor, one sample after the other. */
public final class OnnxRunner implements Runner {
    private final Samples samples;
    private final Session session;
    /** Those that are wanted, by their names. */
    private final Map<String, Graph.Value> values;
    /** Without inputs and constants. */
    private final Set<String> computed = new LinkedHashSet<>();
    private Arena arena = Arena.ofShared();
    private MemorySegment buffer = MemorySegment.NULL;

    private OnnxRunner(Samples samples, Session session, Map<String, Graph.Value> values) {
        this.samples = samples;
        this.session = session;
        this.values = values;
        for (Graph.Value value : values.values()) {
            if (value.producer().isPresent()) {
                computed.add(value.name());
            }
        }
    }

    /** @param threads inside an operator; 0 for all processors */
    public static Factory of(Samples samples, int threads) {
        int count = threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
        return new Factory() {
            @Override
            public String source() {
                return samples.source();
            }

            @Override
            public Runner open(Path model, List<Graph.Value> values) throws IOException {
                Map<String, Graph.Value> byName = new LinkedHashMap<>();
                for (Graph.Value value : values) {
                    if (!value.path().isEmpty()) {
                        throw new UnsupportedRequestException("value " + value.name() + " is in the subgraph " + value.path()
                                + ", of which ONNX Runtime shows nothing");
                    }
                    byName.put(value.name(), value);
                }
                List<String> further = new ArrayList<>();
                for (Graph.Value value : byName.values()) {
                    // Outputs there are already; what has no producer is fed, or a constant that is no news.
                    if (value.producer().isPresent() && !value.isOutput()) {
                        further.add(value.name());
                    }
                }
                return new OnnxRunner(samples, Session.open(model, count, further), byName);
            }
        };
    }

    @Override
    public int samples() {
        return samples.size();
    }

    @Override
    public void run(int sample, BiConsumer<Graph.Value, Tensor> shown) throws IOException {
        Map<String, OnnxTensor> feed = samples.feed(session, sample);
        session.run(feed, computed, outputs -> values.forEach((name, value) -> {
            OnnxTensor tensor = feed.getOrDefault(name, outputs.get(name));
            if (tensor != null && Session.isReal(tensor)) {
                shown.accept(value, tensor(tensor));
            }
        }));
    }

    private Tensor tensor(OnnxTensor from) {
        FloatBuffer floats = from.getInfo().type == OnnxJavaType.FLOAT ? from.getFloatBuffer() : FloatBuffer.wrap(Embeddings.floats(from));
        long bytes = 4L * floats.remaining();
        if (buffer.byteSize() < bytes) {
            arena.close();
            arena = Arena.ofShared();
            buffer = arena.allocate(bytes, 64);
        }
        MemorySegment data = buffer.asSlice(0, bytes).copyFrom(MemorySegment.ofBuffer(floats));
        return new Tensor(DType.F32, Shape.of(from.getInfo().getShape()), data);
    }

    @Override
    public void close() {
        session.close();
        arena.close();
    }
}
