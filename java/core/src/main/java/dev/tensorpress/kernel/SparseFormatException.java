package dev.tensorpress.kernel;

/** The arrays of a sparse matrix contradict each other, or its shape. */
public final class SparseFormatException extends RuntimeException {
    private static final long serialVersionUID = 1;
    private final long line;

    SparseFormatException(long line, String message) {
        super(message);
        this.line = line;
    }

    /** The first line (row, or row of blocks) at fault, or -1 if it is the sizes that do not fit. */
    public long line() {
        return line;
    }
}
