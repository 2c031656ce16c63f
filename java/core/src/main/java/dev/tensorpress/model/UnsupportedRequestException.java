package dev.tensorpress.model;

/** Something well formed that cannot be done: the message says what, and what can be done instead. */
public class UnsupportedRequestException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private final String setting;

    public UnsupportedRequestException(String message) {
        this(message, "");
    }

    /** @param setting as {@link #setting} */
    public UnsupportedRequestException(String message, String setting) {
        super(message);
        this.setting = setting;
    }

    /** Which of {@code Compressor.Options} would allow it, such as {@code allowLinks}; empty if none does. */
    public String setting() {
        return setting;
    }
}
