package dev.tensorpress.model;

/** Something well formed that cannot be done: the message says what, and what can be done instead. */
public class UnsupportedRequestException extends RuntimeException {
    private static final long serialVersionUID = 1;

    public UnsupportedRequestException(String message) {
        super(message);
    }
}
