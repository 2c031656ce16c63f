package dev.tensorpress.model.archive;

import dev.tensorpress.model.UnsupportedRequestException;

/** An encrypted archive was given no key, or another one than its own. Nothing was written. */
public final class WrongKeyException extends UnsupportedRequestException {
    private static final long serialVersionUID = 1;

    WrongKeyException(String message) {
        super(message);
    }
}
