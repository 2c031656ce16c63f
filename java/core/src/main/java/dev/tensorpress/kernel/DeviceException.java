package dev.tensorpress.kernel;

/** A device cannot be used, or failed: there is none, its memory does not suffice, a call of CUDA failed, or it was lost. */
public final class DeviceException extends KernelException {
    private static final long serialVersionUID = 1;
    /** {@code TP_ERR_DEVICE}: there is no such device, or a call failed; other calls may succeed. */
    public static final int FAILED = 13;
    /** {@code TP_ERR_DEVICE_LOST}: nothing on it works any more, at least in this process. */
    public static final int LOST = 14;
    /** {@code TP_ERR_MEMORY}: its memory does not suffice, even for the smallest pieces. */
    public static final int MEMORY = 15;

    DeviceException(String message, int status) {
        this(message, status, null);
    }

    private DeviceException(String message, int status, Throwable cause) {
        super(message, status, cause);
    }

    /** Whether it is a status of these. */
    static boolean is(int status) {
        return status == FAILED || status == LOST || status == MEMORY;
    }

    @Override
    public DeviceException in(String what) {
        return new DeviceException(what + ": " + getMessage(), status(), this);
    }
}
