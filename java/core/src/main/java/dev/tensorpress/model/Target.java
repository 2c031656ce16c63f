package dev.tensorpress.model;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * How a model is written for one runtime: it lowers forms to what that runtime understands. Weights that are not in
 * a map of lowerings stay as they are, byte for byte.
 */
public interface Target {
    /** Such as {@code onnxruntime}. */
    String name();

    /**
     * Decides what a weight becomes: the wanted form with its storage decided, and where needed exchanged for the nearest one that
     * this weight can have (another granularity, or activations left in floating point, never other bits).
     *
     * @throws UnsupportedRequestException with the reason, shown to the user beside the weight
     */
    Lowering lower(Weight weight, Form wanted);

    /**
     * The weight in its place with other elements of its type, whatever reads it.
     *
     * @throws UnsupportedRequestException with the reason if it cannot be written so
     */
    default Lowering replaced(Weight weight) {
        throw new UnsupportedRequestException("target " + name() + " writes no other elements in the place of a weight's");
    }

    /** Why {@link #lower} exchanges a form where that is not plain to see: what about the weight or its readers is to blame. */
    default Optional<String> obstacle(Weight weight, Form wanted) {
        return Optional.empty();
    }

    /**
     * The same, where an operator divides what the weight is multiplied with before the product, or convolution, reads it.
     *
     * @param by a positive number for each index of the weight's input axis
     * @throws UnsupportedRequestException with the reason if no operator can stand there
     */
    default Lowering divided(Weight weight, Lowering lowering, double[] by) {
        throw new UnsupportedRequestException("target " + name() + " puts no operators before products");
    }

    /**
     * Weights that readers of the target's files want stored alike: by one scheme, or all as they are.
     *
     * @param why for messages: a sentence without its full stop
     */
    record Group(List<Weight> weights, String why) {
        public Group {
            weights = List.copyOf(weights);
        }
    }

    /** Groups that have no weight in common; a weight in none of them is stored as it alone wants. */
    default List<Group> groups() {
        return List.of();
    }

    /** What weights of a {@link Group} have to agree in; empty for one that is stored as if it were not compressed. */
    default Optional<Object> scheme(Lowering lowering) {
        return Optional.empty();
    }

    /**
     * Asks whether the memory suffices to make a form.
     *
     * @param byRows whether the weight can be encoded row by row
     * @param memory as in {@link Destination}
     * @throws UnsupportedRequestException with the reason if it does not
     */
    default void checkMemory(Weight weight, boolean byRows, long memory) {}

    /** Bytes of the files that {@link #write} would return. */
    long size(Map<Weight, Lowering> lowerings);

    /**
     * Names and bytes of the files that {@link #size} counts, in the order in which a model lists them; none if what the file is
     * called is not the target's to say.
     */
    default Map<String, Long> files(Map<Weight, Lowering> lowerings) {
        return Map.of();
    }

    /** The oldest runtime that runs the result, such as {@code ONNX Runtime 1.23}; empty if it asks for none in particular. */
    default String requires(Map<Weight, Lowering> lowerings) {
        return "";
    }

    /** What to know about where the result can be loaded, and runs fast and exactly, a sentence each, without full stops. */
    default List<String> remarks(Map<Weight, Lowering> lowerings) {
        return List.of();
    }

    /** True if {@link #write} makes a folder, false if it makes files. */
    default boolean writesFolder() {
        return false;
    }

    /**
     * Writes the model, in one piece or not at all: under temporary names beside where it will be, forced to disk, then
     * renamed. {@code encoder} is asked for the weights of {@code lowerings} in file order; what it returns is used before the
     * next is asked for.
     *
     * @return the files that hold the model, those that {@link Model#files} has of it, the one that refers to the others last
     * @throws IOException if writing fails; unless it can be resumed, nothing is left behind then
     */
    Set<Path> write(Map<Weight, Lowering> lowerings, Encoder encoder, Destination to) throws IOException;

    /** Makes the bytes of weights, whole or row by row. */
    @FunctionalInterface
    interface Encoder {
        /**
         * True if rows of the weight's first axis can be encoded one range at a time: whichever way it is cut, the ranges
         * together are the same bytes as the whole.
         */
        default boolean byRows(Weight weight, Form form) {
            return false;
        }

        /**
         * Tells, before the first is, what is asked for of the weights that {@link Target#replaced} is of, in that order.
         *
         * @param rows of the first axis, from {@code first} on; all of it if it is encoded as a whole
         */
        default void announce(Weight weight, long first, Shape rows) {}

        /**
         * Encodes a weight, or some rows of it if that can be. Ranges come in order; one that came before may come again,
         * and gives the same bytes.
         *
         * @param form of the whole weight
         * @param rows the weight, or rows {@code [first, first + rows.shape().dim(0))} of it, in memory that stays until the
         *     call returns
         * @return an encoding of {@code rows} that has the form asked for; valid until the next call
         */
        Encoding encode(Weight weight, Form form, Tensor rows, long first) throws IOException;

        /** The whole weight, read where it is mapped. */
        default Encoding encode(Weight weight, Form form) throws IOException {
            return encode(weight, form, weight.tensor(), 0);
        }
    }
}
