package dev.tensorpress.io;

import dev.tensorpress.tensor.Shape;
import java.util.List;

/**
 * A file of tensors that is to be written.
 *
 * @param header what precedes the tensors' data
 * @param tensors in the order of their data, which fill the rest of the file
 */
public record PlannedFile(String name, byte[] header, List<Tensor> tensors) {
    /**
     * A tensor.
     *
     * @param dtype in the words of the file
     * @param bytes of its data
     */
    public record Tensor(String name, String dtype, Shape shape, long bytes) {}

    public PlannedFile {
        tensors = List.copyOf(tensors);
    }

    /** Of the whole file. */
    public long bytes() {
        long n = header.length;
        for (Tensor t : tensors) {
            n = Math.addExact(n, t.bytes);
        }
        return n;
    }
}
