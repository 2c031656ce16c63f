package dev.tensorpress.model;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;

/**
 * How a model is written for one runtime: it lowers encodings to what that runtime understands. Weights that are not in
 * the map of forms stay as they are, byte for byte.
 */
public interface Target {
    /** Such as {@code onnxruntime}. */
    String name();

    /**
     * The wanted form with its storage decided, and where needed exchanged for the nearest one that this weight can have
     * (another granularity, or activations left in floating point, never other bits).
     *
     * @throws UnsupportedRequestException with the reason, shown to the user beside the weight
     */
    Form accept(Weight weight, Form wanted);

    /**
     * Bytes of the files that {@link #write} would write for these forms. Exact, unless a form has storage
     * {@link dev.tensorpress.encoding.Form.Storage#PACKED}: how small such a weight gets depends on where its zeros are, and
     * this is an upper bound.
     */
    long size(Map<Weight, Form> forms);

    /**
     * Writes the model to {@code out} in one piece or not at all: temporary files in the same folder, forced to disk,
     * then renamed. {@code encoder} is asked for each weight of {@code forms} once, in file order; what it returns is
     * used before the next is asked for.
     *
     * @return every file written, {@code out} last
     * @throws IOException if writing fails; nothing is left behind then
     */
    Set<Path> write(Map<Weight, Form> forms, Encoder encoder, Path out) throws IOException;

    /** Makes the bytes of one weight. */
    @FunctionalInterface
    interface Encoder {
        /** The result has the form asked for; it is valid until the next call. */
        Encoding encode(Weight weight, Form form);
    }
}
