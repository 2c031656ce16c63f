package dev.tensorpress.model;

import dev.tensorpress.encoding.Encoding;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A target whose models are single files, of which an archive keeps elements of weights apart from all other bytes: it stores them
 * smaller, and puts the file together again.
 */
public interface SeparableTarget extends Target {
    /** Why models do not become single files, after "and": a sentence without its full stop; empty if they do. */
    Optional<String> obstacle();

    /**
     * The file that {@link #write} would make.
     *
     * @throws UnsupportedRequestException if it would not be a single file
     */
    Layout layout(Map<Weight, Lowering> lowerings);

    /**
     * A file that is not written yet.
     *
     * @param length of it
     * @param runs all of its bytes that are elements of compressed weights, in their order
     */
    record Layout(long length, List<Run> runs) {
        public Layout {
            runs = List.copyOf(runs);
        }
    }

    /** Elements of a weight that stand together. */
    record Run(Weight weight, Content content, long length) {}

    /** Which of its elements. */
    enum Content {
        /** All of them, or all codes. */
        ELEMENTS,
        /** Those of which a bit is set. */
        NONZEROS,
        /** Where those are, as int64. */
        INDICES
    }

    /** Takes elements in the place of the file. */
    interface Separator {
        /** Where the bytes go that are not taken. */
        FileChannel rest();

        boolean takes(Run run);

        /**
         * @param values of the weight: dense, or quantized; valid during the call
         * @param offset of the run in what would be the whole file
         */
        void take(Run run, Encoding values, long offset) throws IOException;
    }

    /**
     * The file of both halves.
     *
     * @param checksum CRC-32C
     */
    record Whole(long length, int checksum) {}

    /**
     * Makes the file that {@link #write} would, in two halves.
     *
     * @param encoder as in {@link #write}
     * @param to as in {@link #write}: who calls this puts the halves there
     * @throws UnsupportedRequestException if it would not be a single file
     * @throws IOException as {@link #write}
     */
    Whole separate(Map<Weight, Lowering> lowerings, Encoder encoder, Destination to, Separator separator) throws IOException;
}
