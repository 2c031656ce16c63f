package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Data;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** How far training has come, in a file of safetensors: arrays by name, and numbers in the metadata. A file is whole or absent at any moment. */
final class Checkpoint {
    private static final String RUN = "run";

    private Checkpoint() {}

    /**
     * @param run what has to be the same for training to go on
     * @param numbers as texts
     * @throws IOException if it cannot be written; an older one is then as it was
     */
    static void write(Path file, String run, Map<String, NDArray> arrays, Map<String, String> numbers) throws IOException {
        Path temporary = file.resolveSibling(file.getFileName() + ".tmp");
        try (Arena arena = Arena.ofShared()) {
            List<Item> items = new ArrayList<>();
            arrays.forEach((name, a) -> {
                Tensor t = Tensors.tensor(a, Tensors.type(a), arena).tensor();
                items.add(new Item(name, t.dtype(), t.shape(), Data.of(t.data())));
            });
            Map<String, String> metadata = new TreeMap<>(numbers);
            metadata.put(RUN, run);
            try (FileChannel out = FileChannel.open(temporary, StandardOpenOption.CREATE, StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE)) {
                new SafetensorsWriter(items, metadata).write(out);
                out.force(true);
            }
            Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(temporary);
        }
    }

    /**
     * Sets arrays to what they were.
     *
     * @param arrays by name, which are changed in place
     * @return the numbers
     * @throws UnsupportedRequestException if it is of another run
     * @throws dev.tensorpress.model.MalformedModelException if the file is damaged
     */
    static Map<String, String> read(Path file, String run, Map<String, NDArray> arrays) throws IOException {
        try (Safetensors saved = Safetensors.open(file)) {
            if (!run.equals(saved.metadata().get(RUN)) || !saved.tensors().keySet().equals(arrays.keySet())) {
                throw new UnsupportedRequestException(file + " is a checkpoint of another model, other data or other options: remove it, or name another file");
            }
            for (Map.Entry<String, NDArray> e : arrays.entrySet()) {
                Tensor t = saved.tensor(e.getKey());
                NDArray a = e.getValue();
                if (t.dtype() != Tensors.type(a) || !Arrays.equals(t.shape().dims(), a.getShape().getShape())) {
                    throw new UnsupportedRequestException(file + " is a checkpoint of another model: '" + e.getKey() + "' is " + t.shape() + " there, but "
                            + a.getShape() + " here");
                }
                try (NDManager scope = a.getManager().newSubManager()) {
                    Tensors.array(scope, e.getKey(), EditableTensor.of(t)).copyTo(a);
                }
            }
            return saved.metadata();
        }
    }
}
