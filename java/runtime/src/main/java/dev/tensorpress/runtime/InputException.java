package dev.tensorpress.runtime;

/** What the caller gave to run models on does not fit them, or is not what it has to be. */
public final class InputException extends IllegalArgumentException {
    private static final long serialVersionUID = 1;

    public InputException(String message) {
        super(message);
    }

    public InputException(String message, Throwable cause) {
        super(message, cause);
    }
}
