package dev.tensorpress.kernel;

/**
 * What kernels run on: the processor, or a CUDA device by its number. Says nothing of whether there is one: {@link Cuda} does.
 *
 * @param index of the CUDA device; 0 for the processor
 */
public record Device(Kind kind, int index) {
    /** A kind of device. */
    public enum Kind { CPU, CUDA }

    /** The processor. */
    public static final Device CPU = new Device(Kind.CPU, 0);

    public Device {
        if (index < 0 || kind == Kind.CPU && index > 0) {
            throw new IllegalArgumentException("no device has the number " + index);
        }
    }

    /** A CUDA device, as numbered by the driver among those that {@code CUDA_VISIBLE_DEVICES} lets through. */
    public static Device cuda(int index) {
        return new Device(Kind.CUDA, index);
    }

    /**
     * The device of this name: {@code cpu}, {@code cuda:N}, or {@code cuda} for the first.
     *
     * @throws IllegalArgumentException if it is no name of a device
     */
    public static Device of(String name) {
        switch (name) {
            case "cpu":
                return CPU;
            case "cuda":
                return cuda(0);
            default:
                String number = name.startsWith("cuda:") ? name.substring("cuda:".length()) : "";
                // As many digits as any machine has use for.
                if (number.isEmpty() || number.length() > 4 || !number.chars().allMatch(c -> c >= '0' && c <= '9')) {
                    throw new IllegalArgumentException("a device is cpu, cuda, or cuda:0, cuda:1 and so on, not '" + name + "'");
                }
                return cuda(Integer.parseInt(number));
        }
    }

    /** The name. */
    @Override
    public String toString() {
        return kind == Kind.CPU ? "cpu" : "cuda:" + index;
    }
}
