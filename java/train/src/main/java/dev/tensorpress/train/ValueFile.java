package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.EOFException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Values of batches, in a temporary file that has no name, so that nothing is left of it. One thread at a time. */
final class ValueFile implements AutoCloseable {
    private record Entry(String name, DType type, Shape shape, long at) {}

    private final Path file;
    private final FileChannel channel;
    private final List<List<Entry>> batches = new ArrayList<>();
    private long written;

    /** @param folder that the file will be in */
    ValueFile(Path folder) throws IOException {
        file = Files.createTempFile(folder, "values-", null);
        channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE, StandardOpenOption.DELETE_ON_CLOSE); // on Linux at once
    }

    /** Adds those of the next batch, which are of floats. */
    void add(Map<String, NDArray> values) throws IOException {
        List<Entry> entries = new ArrayList<>();
        for (Map.Entry<String, NDArray> e : values.entrySet()) {
            try (Arena arena = Arena.ofConfined()) {
                Tensor t = Tensors.tensor(e.getValue(), Tensors.type(e.getValue()), arena).tensor();
                entries.add(new Entry(e.getKey(), t.dtype(), t.shape(), written));
                ByteBuffer bytes = t.data().asByteBuffer();
                while (bytes.hasRemaining()) {
                    written += channel.write(bytes, written);
                }
            } catch (ClosedChannelException x) {
                throw x; // of an interruption, too
            } catch (IOException x) {
                throw DurableFile.explain(x, file);
            }
        }
        batches.add(entries);
    }

    /** Those of a batch, counted from 0. */
    Map<String, NDArray> read(int batch, NDManager scope) throws IOException {
        Map<String, NDArray> values = new LinkedHashMap<>();
        for (Entry e : batches.get(batch)) {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment data = arena.allocate(e.type.bytes(e.shape.elements()), 64);
                ByteBuffer bytes = data.asByteBuffer();
                long at = e.at;
                while (bytes.hasRemaining()) {
                    int n = channel.read(bytes, at);
                    if (n < 0) {
                        throw new EOFException(file + " has become shorter");
                    }
                    at += n;
                }
                values.put(e.name, Tensors.array(scope, e.name, EditableTensor.of(new Tensor(e.type, e.shape, data))));
            }
        }
        return values;
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }
}
