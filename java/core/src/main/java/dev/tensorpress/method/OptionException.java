package dev.tensorpress.method;

/** Options that make no method. */
public final class OptionException extends IllegalArgumentException {
    private static final long serialVersionUID = 1;

    private final String option;

    OptionException(String option, String message) {
        super(message);
        this.option = option;
    }

    OptionException(String option, IllegalArgumentException cause) {
        super(cause.getMessage(), cause);
        this.option = option;
    }

    /** The one that does not fit; empty if one is missing. */
    public String option() {
        return option;
    }
}
