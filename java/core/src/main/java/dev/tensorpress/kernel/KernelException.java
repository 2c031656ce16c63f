package dev.tensorpress.kernel;

/** A kernel refused its arguments, or could not run. */
public sealed class KernelException extends RuntimeException permits DeviceException {
    private static final long serialVersionUID = 1;
    /** {@code TP_ERR_NONFINITE}. */
    public static final int NONFINITE = 5;
    /** {@code TP_ERR_MAGNITUDE}. */
    public static final int MAGNITUDE = 12;
    /** {@code TP_ERR_FORMAT}. */
    public static final int FORMAT = 8;
    /** {@code TP_ERR_LAYOUT}. */
    public static final int LAYOUT = 9;

    /** {@code TP_ERR_CONVERGENCE}. */
    public static final int CONVERGENCE = 11;

    private static final int ISA = 7;
    private final int status;

    KernelException(String kernel, int status, String name) {
        this(status == ISA
                ? "TENSORPRESS_ISA=" + System.getenv("TENSORPRESS_ISA") + " is no instruction set of this machine: it may be "
                        + "ref, avx2 or avx512, as far as the processor goes"
                : kernel + ": " + name, status, (Throwable) null);
    }

    KernelException(String message, int status, Throwable cause) {
        super(message, cause);
        this.status = status;
    }

    /** The same, and what it happened to; this one if that is not to blame, but the instruction set. */
    public KernelException in(String what) {
        return status == ISA ? this : new KernelException(what + ": " + getMessage(), status, this);
    }

    /** The {@code tp_status}; {@code tensorpress/core.h} lists the values. */
    public int status() {
        return status;
    }
}
