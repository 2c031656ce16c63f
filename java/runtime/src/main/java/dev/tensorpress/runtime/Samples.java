package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxTensor;
import dev.tensorpress.model.Model;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** What models are run on. The same for every model, and whenever it is asked for. */
public abstract class Samples {
    Samples() {}

    /**
     * Texts, one at a time and unpadded.
     *
     * @param tokenizer a {@code tokenizer.json} of Hugging Face
     * @throws IllegalArgumentException if there is no text
     * @throws InputException if the tokenizer is none
     * @throws IOException if the tokenizer cannot be read
     */
    public static Samples texts(List<String> texts, Path tokenizer) throws IOException {
        return TextSource.of(texts, tokenizer);
    }

    /**
     * Arrays out of files. A file {@code .npz} of NumPy or {@code .safetensors} is one sample, its arrays named as the inputs of the model; a
     * file {@code .npy} is one of models that have a single one; a folder with files {@code input_0.pb} and so on, a TensorProto each,
     * likewise, its tensors named as the inputs or in their order. Of any other folder, all that it holds of these: files, and folders
     * {@code test_data_set_0} and so on, as ONNX's tests have them.
     *
     * @throws InputException if a path is none of these, or holds nothing of them; one that does not fit a model is found when that is run
     * @throws IOException if a file cannot be read
     */
    public static Samples files(List<Path> paths) throws IOException {
        return new FileSource(paths);
    }

    /**
     * Images in PNG or JPEG, all of a folder, by their names, for models with a single input of four dimensions. Their orientation is that of
     * the file. What their numbers become is of no concern to models that take bytes.
     *
     * @throws InputException if there is none; one that cannot be read, or does not fit a model, is found when that is run
     * @throws IOException if the folder cannot be read
     */
    public static Samples images(Path folder, Images images) throws IOException {
        return new ImageSource(folder, images);
    }

    /**
     * Arrays in memory.
     *
     * @param arrays by the names of inputs; along the first axis of each are the samples, which keep that axis, with length 1
     * @throws IllegalArgumentException if there is no sample, or not as many in each array; arrays that do not fit a model are found when that is run
     */
    public static Samples arrays(Map<String, Tensor> arrays) {
        return new ArraySource(arrays);
    }

    /**
     * Random numbers in the types and shapes that a model declares. Dimensions that it leaves open, and of which nothing is given, are 1
     * where they come first. Elsewhere all have the first length of 8, 32, 64, 224 and 256 that the model runs with.
     *
     * @param model whose tables are looked up; it may be closed then
     * @param count at least 1
     * @param shapes of inputs by name, all or some; one that does not fit is found when the model is run
     */
    public static Samples random(Model model, int count, long seed, Map<String, Shape> shapes) {
        if (count < 1) {
            throw new IllegalArgumentException("the number of random inputs must be positive, but is " + count);
        }
        return new RandomSource(model, count, seed, shapes);
    }

    /** The first of these, or all if they are not so many. */
    public final Samples first(int most) {
        return part(0, Math.min(most, size()));
    }

    /** Those with numbers from {@code begin} to {@code end - 1}. */
    public final Samples part(int begin, int end) {
        if (begin < 0 || end < begin || end > size()) {
            throw new IllegalArgumentException("samples " + begin + " to " + end + " of " + size());
        }
        Samples all = this;
        return new Samples() {
            @Override
            public String source() {
                return all.source();
            }

            @Override
            public int size() {
                return end - begin;
            }

            @Override
            Map<String, OnnxTensor> feed(Session session, int i) throws IOException {
                return all.feed(session, begin + i);
            }
        };
    }

    /** What they are, in words, such as "texts" or "random inputs". */
    public abstract String source();

    /** How many there are. */
    public abstract int size();

    /** What they are read from, if they are files of inputs or images; else nothing. */
    public List<Path> files() {
        return List.of();
    }

    /** Values of the inputs in sample {@code i}, to be closed by the caller. */
    abstract Map<String, OnnxTensor> feed(Session session, int i) throws IOException;
}
