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
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.function.BiConsumer;

/** Shows what ONNX Runtime computes, on the processor, in the order of the samples. */
public final class OnnxRunner implements Runner {
    /** The values of each take memory until it is their turn. */
    private static final int MOST_TOGETHER = 4;

    private final Samples samples;
    private final Session session;
    /** Those that are wanted, by their names. */
    private final Map<String, Graph.Value> values;
    /** Without inputs and constants. */
    private final Set<String> computed = new LinkedHashSet<>();
    /** How many samples run at a time, and those that do, from {@code next} on. */
    private final int together;
    private final ExecutorService pool;
    private final ArrayDeque<CompletableFuture<Session.Run>> ahead = new ArrayDeque<>();
    private int next;
    private Arena arena = Arena.ofShared();
    private MemorySegment buffer = MemorySegment.NULL;

    private OnnxRunner(Samples samples, Session session, int together, Map<String, Graph.Value> values) {
        this.samples = samples;
        this.session = session;
        this.together = together;
        this.pool = Executors.newFixedThreadPool(together, Thread.ofPlatform().daemon().name("tensorpress-run-", 0).factory());
        this.values = values;
        for (Graph.Value value : values.values()) {
            if (value.producer().isPresent()) {
                computed.add(value.name());
            }
        }
    }

    /**
     * Several samples run at a time, which makes better use of processors than more threads for one.
     *
     * @param threads at most; 0 for all processors
     */
    public static Factory of(Samples samples, int threads) {
        int count = Session.threads(threads);
        int together = Math.clamp(samples.size(), 1, Math.min(count, MOST_TOGETHER));
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
                return new OnnxRunner(samples, Session.open(model, count / together, further), together, byName);
            }
        };
    }

    @Override
    public int samples() {
        return samples.size();
    }

    @Override
    public void run(int sample, BiConsumer<Graph.Value, Tensor> shown) throws IOException {
        if (Thread.currentThread().isInterrupted()) {
            throw new ClosedByInterruptException();
        }
        if (sample != next) {
            drop();
            next = sample;
        }
        while (ahead.size() <= together && next + ahead.size() < samples.size()) {
            Map<String, OnnxTensor> feed = samples.feed(session, next + ahead.size());
            ahead.add(CompletableFuture.supplyAsync(() -> session.run(feed, computed), pool));
        }
        next++;
        try (Session.Run run = await(ahead.remove())) {
            values.forEach((name, value) -> {
                OnnxTensor tensor = run.tensor(name);
                if (tensor != null) {
                    shown.accept(value, tensor(tensor));
                }
            });
        }
    }

    private static Session.Run await(CompletableFuture<Session.Run> run) {
        try {
            return run.join();
        } catch (CompletionException e) {
            throw e.getCause() instanceof RuntimeException r ? r : e;
        }
    }

    /** Waits for what runs ahead, and forgets it: whatever came of it, nobody has asked for it. */
    private void drop() {
        for (CompletableFuture<Session.Run> run : ahead) {
            run.handle((done, failure) -> done).thenAccept(done -> {
                if (done != null) {
                    done.close();
                }
            }).join();
        }
        ahead.clear();
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
        drop();
        pool.close();
        session.close();
        arena.close();
    }
}
