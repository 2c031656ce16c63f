package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;

/** The method can take this weight, but not make it smaller: other steps go on without it. The message has the numbers. */
public final class NoGainException extends UnsupportedRequestException {
    private static final long serialVersionUID = 1;

    public NoGainException(String message) {
        super(message);
    }

    /** The form, of which the weight takes fewer bytes than it has. */
    static <F extends Form> F unlessSmaller(Weight weight, F form) {
        long bytes = form.bytes(weight.tensor().shape());
        if (bytes >= weight.tensor().bytes()) {
            throw new NoGainException("would take " + bytes + " bytes as " + form.describe());
        }
        return form;
    }
}
