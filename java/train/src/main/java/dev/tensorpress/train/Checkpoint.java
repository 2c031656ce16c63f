package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Data;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** How far training has come, in a file of safetensors: arrays by name, and numbers in the metadata. A file is whole or absent at any moment. */
final class Checkpoint {
    private static final String RUN = "run";
    private static final String ELEMENTS = "elements";

    private Checkpoint() {}

    /**
     * @param run what has to be the same for training to go on
     * @param numbers as texts
     * @throws IOException if it cannot be written; an older one is then as it was
     */
    static void write(Path file, String run, Map<String, NDArray> arrays, Map<String, String> numbers) throws IOException {
        try (Arena arena = Arena.ofShared()) {
            List<Item> items = new ArrayList<>();
            Digest digest = new Digest();
            arrays.forEach((name, a) -> {
                Tensor t = Tensors.tensor(a, Tensors.type(a), arena).tensor();
                digest.add(name, t);
                items.add(new Item(name, t.dtype(), t.shape(), Data.of(t.data())));
            });
            Map<String, String> metadata = new TreeMap<>(numbers);
            metadata.put(RUN, run);
            metadata.put(ELEMENTS, digest.text());
            try (DurableFile out = new DurableFile(file.toAbsolutePath().getParent(), file.getFileName().toString())) {
                new SafetensorsWriter(items, metadata).write(out.channel());
                out.commit(file, true);
            }
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
            Digest digest = new Digest();
            arrays.keySet().forEach(name -> digest.add(name, saved.tensor(name)));
            if (!digest.text().equals(saved.metadata().get(ELEMENTS))) {
                throw new MalformedModelException(file, -1, "its elements are not those that were written: remove it, and training begins anew");
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
