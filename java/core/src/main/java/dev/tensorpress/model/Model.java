package dev.tensorpress.model;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** A model opened for reading. Weights are views of mapped files and die with {@link #close}. */
public interface Model extends AutoCloseable {
    /** The file or folder it was opened by. */
    Path path();

    /** The format, such as {@code onnx}. */
    String format();

    /** The model file and the data files it refers to. */
    List<Path> files();

    /** Other files that belong to it and hold no weights, such as its configuration. */
    default List<Path> companions() {
        return List.of();
    }

    /** Bytes of the model file and of the data files it refers to. */
    long bytes();

    /** All weights, in file order. */
    List<Weight> weights();

    /** Facts worth showing: producer, operator sets and the like, in display order. */
    Map<String, String> properties();

    /**
     * The runtime the compressed model is for.
     *
     * @param name empty for the format's default
     * @param options settings of the lowering, such as {@code accuracy-level}
     * @throws UnsupportedRequestException if this format has no such target, or it has no such option
     */
    Target target(String name, Map<String, String> options);

    @Override
    void close();
}
