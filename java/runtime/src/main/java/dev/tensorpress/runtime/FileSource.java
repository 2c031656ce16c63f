package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.TensorInfo;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.TensorFile;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;

/** Inputs out of files. Each is read when it is its turn: only one lies in memory. */
final class FileSource extends Samples {
    private static final String TENSOR = "input_\\d+\\.pb";
    private static final String ARRAYS = ".*\\.(np[yz]|safetensors)";
    private static final String SAFETENSORS = ".safetensors";
    private static final String TENSORS = "test_data_set_\\d+";

    /** Of each input, the files that it lies in. */
    private final List<List<Path>> inputs = new ArrayList<>();

    /** @param paths as {@link Samples#files} takes them */
    FileSource(List<Path> paths) throws IOException {
        for (Path path : paths) {
            if (!Files.exists(path)) {
                throw new NoSuchFileException(path.toString());
            }
            if (Files.isDirectory(path)) {
                addFolder(path);
            } else if (path.getFileName().toString().matches(ARRAYS)) {
                inputs.add(List.of(path));
            } else {
                throw new InputException(path + " is neither a file .npz, .npy or .safetensors, nor a folder");
            }
        }
    }

    private void addFolder(Path folder) throws IOException {
        List<Path> tensors = list(folder, TENSOR);
        if (!tensors.isEmpty()) {
            inputs.add(tensors);
            return;
        }
        List<Path> found = list(folder, ARRAYS + "|" + TENSORS);
        for (Path path : found) {
            List<Path> input = Files.isDirectory(path) ? list(path, TENSOR) : List.of(path);
            if (input.isEmpty()) {
                throw new InputException(path + " holds no input_0.pb");
            }
            inputs.add(input);
        }
        if (found.isEmpty()) {
            throw new InputException(folder + " holds no inputs: neither files .npz, .npy or .safetensors, nor input_0.pb, nor test_data_set_0");
        }
    }

    /** Numbers at the end of names may have more digits than others. */
    private static List<Path> list(Path folder, String pattern) throws IOException {
        try (Stream<Path> all = Files.list(folder)) {
            return all.filter(p -> p.getFileName().toString().matches(pattern))
                    .sorted(Comparator.<Path>comparingInt(p -> p.toString().length()).thenComparing(p -> p)).toList();
        }
    }

    @Override
    public String source() {
        return "files";
    }

    @Override
    public int size() {
        return inputs.size();
    }

    @Override
    public List<Path> files() {
        return inputs.stream().flatMap(List::stream).toList();
    }

    @Override
    Map<String, OnnxTensor> feed(Session session, int i) throws IOException {
        Path file = inputs.get(i).getFirst();
        Map<String, Tensor> arrays = arrays(session, inputs.get(i));
        for (Map.Entry<String, Tensor> array : arrays.entrySet()) {
            ArraySource.check(session, file.toString(), array.getKey(), array.getValue());
        }
        return ArraySource.feed(arrays);
    }

    /** By the names of the model's inputs. Tensors of ONNX's tests have these, or else are in the order of the inputs. */
    private static Map<String, Tensor> arrays(Session session, List<Path> files) throws IOException {
        Path first = files.getFirst();
        Map<String, TensorInfo> wanted = session.inputs();
        boolean archive = first.toString().endsWith(".npz") || first.toString().endsWith(SAFETENSORS);
        List<TensorFile> found = new ArrayList<>();
        if (first.toString().endsWith(SAFETENSORS)) {
            ArrayFile.safetensors(first).forEach((name, array) -> found.add(new TensorFile(name, array)));
        } else if (archive) {
            Npy.archive(first).forEach((name, array) -> found.add(new TensorFile(name, array)));
        } else if (first.toString().endsWith(".npy")) {
            found.add(new TensorFile("", Npy.read(first)));
        } else {
            for (Path file : files) {
                found.add(TensorFile.read(file));
            }
        }
        Set<String> names = new HashSet<>();
        found.forEach(array -> names.add(array.name()));
        boolean named = names.equals(wanted.keySet());
        if (found.size() != wanted.size() || archive && !named) {
            throw new InputException(first + " holds " + (archive ? "the arrays " + names : "one of " + found.size() + " arrays")
                    + ", but " + session.model() + " has the inputs " + session.declared());
        }
        Map<String, Tensor> arrays = new LinkedHashMap<>();
        int i = 0;
        for (String input : wanted.keySet()) {
            arrays.put(named ? found.get(i).name() : input, found.get(i).tensor());
            i++;
        }
        return arrays;
    }
}
