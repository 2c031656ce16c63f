package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxTensor;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/** Inputs of a model as arrays, for those who run it by something else than ONNX Runtime. One thread at a time. */
public final class SampleReader implements AutoCloseable {
    private final Session session;
    private final Samples samples;

    private SampleReader(Session session, Samples samples) {
        this.session = session;
        this.samples = samples;
    }

    /**
     * @param model which says what the types of inputs are
     * @throws dev.tensorpress.model.MalformedModelException if ONNX Runtime does not load it
     * @throws IOException if it cannot be read
     */
    public static SampleReader open(Path model, Samples samples) throws IOException {
        return new SampleReader(Session.open(model, 1), samples);
    }

    /** How many there are. */
    public int size() {
        return samples.size();
    }

    /**
     * One sample.
     *
     * @param arena for its elements
     * @return by names of inputs
     * @throws InputException if it does not fit the model
     * @throws IOException if it cannot be read
     */
    public Map<String, Tensor> read(int sample, Arena arena) throws IOException {
        Map<String, OnnxTensor> feed = samples.feed(session, sample);
        try {
            Map<String, Tensor> all = new LinkedHashMap<>();
            for (Map.Entry<String, OnnxTensor> e : feed.entrySet()) {
                DType type = Session.type(e.getValue());
                if (type == null) {
                    throw new UnsupportedRequestException("input " + e.getKey() + " of " + session.model() + " holds no numbers");
                }
                MemorySegment bytes = MemorySegment.ofBuffer(e.getValue().getByteBuffer());
                all.put(e.getKey(), new Tensor(type, Shape.of(e.getValue().getInfo().getShape()), arena.allocate(bytes.byteSize(), 64).copyFrom(bytes)));
            }
            return all;
        } finally {
            feed.values().forEach(OnnxTensor::close);
        }
    }

    @Override
    public void close() {
        session.close();
    }
}
