package dev.tensorpress.model;

import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongFunction;

/** A model opened for reading. Weights are views of mapped files and die with {@link #close}. */
public interface Model extends AutoCloseable {
    /** The file or folder it was opened by. */
    Path path();

    /** The model file and the data files it refers to. */
    List<Path> files();

    /** Other files that belong to it and hold no weights, such as its configuration. */
    default List<Path> auxiliaryFiles() {
        return List.of();
    }

    /** Bytes of the model file and of the data files it refers to. */
    long bytes();

    /** All weights, in file order. */
    List<Weight> weights();

    /**
     * The file that holds a weight; empty in formats whose files are not told apart by weights. It is shown in the place of
     * {@link Weight#uses}: formats without a graph have it.
     *
     * @throws IllegalArgumentException if it is not one of this model
     */
    default Optional<Path> file(Weight weight) {
        return Optional.empty();
    }

    /**
     * A weight whose elements stay as they are until its memory is freed. Those of a mapped file do not: if the file becomes
     * shorter they are gone, and native code that reads them kills the process. Formats with such files copy the elements, so that
     * this is an error.
     *
     * @param memory gives that many bytes
     * @throws IOException if the file cannot be read, or does not have them any more
     */
    default Weight load(Weight weight, LongFunction<MemorySegment> memory) throws IOException {
        return weight;
    }

    /** Bytes of {@link #load} that count where memory is limited; 0 in formats whose weights are encoded whole anyway. */
    default long loadedBytes(Weight weight) {
        return 0;
    }

    /**
     * Where elements of one type lie in the files: of weights, and of whatever else the format knows the types of. The order is the format's: of
     * safetensors file by file, each from its start to its end; of ONNX as the graph names them, wherever they lie. They may overlap where a format lets
     * tensors share bytes, as data files of ONNX do, and two may have the same. Left out are tensors without elements, those of types that no {@link DType}
     * is, and those that a file does not hold packed, such as integers in repeated fields of ONNX, weights among them. What no array has is of no known type.
     *
     * @return none in formats that cannot tell
     */
    default List<Array> arrays() {
        return List.of();
    }

    /**
     * Elements in a file, packed, and little-endian.
     *
     * @param name unlike that of any other; of a weight its name
     * @param file one of {@link #files}
     * @param offset of the first byte
     */
    record Array(String name, Path file, long offset, DType type, Shape shape) {
        /** That they take. */
        public long bytes() {
            return type.bytes(shape.elements());
        }
    }

    /**
     * What the model computes; empty in formats that do not say it. It is found when it is asked for, and kept.
     *
     * @throws IOException if the file cannot be read any more
     */
    default Optional<Graph> graph() throws IOException {
        return Optional.empty();
    }

    /**
     * Where this model differs from another one of its format beside weights, so that these would mean something else there: what differs
     * first, as the end of a sentence.
     *
     * @throws IOException if a file cannot be read any more
     */
    default Optional<String> difference(Model other) throws IOException {
        return Optional.empty();
    }

    /** Facts worth showing: producer, operator sets and the like, in display order. */
    Map<String, String> properties();

    @Override
    void close();
}
