package dev.tensorpress.method;

import dev.tensorpress.model.UnsupportedRequestException;

/** The method can take this weight, but not make it smaller: other steps go on without it. The message has the numbers. */
public final class NoGainException extends UnsupportedRequestException {
    private static final long serialVersionUID = 1;

    public NoGainException(String message) {
        super(message);
    }
}
