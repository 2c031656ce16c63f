package dev.tensorpress.kernel;

/** A block of {@link Coding} is damaged, or is none. */
public final class CodingFormatException extends RuntimeException {
    private static final long serialVersionUID = 1;

    public CodingFormatException(String message) {
        super(message);
    }
}
