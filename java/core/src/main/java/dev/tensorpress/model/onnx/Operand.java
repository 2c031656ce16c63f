package dev.tensorpress.model.onnx;

/** A matrix that products read, its tensors made, and the nodes that are needed before. */
interface Operand {
    /**
     * Adds nodes for {@code product = x * matrix}.
     *
     * @param y what names of further values begin with
     * @param label what names of further nodes begin with
     * @param kept name and whatever else the node that multiplies is to have, as fields
     */
    void multiply(Rope r, String x, String y, String product, String label, byte[] kept);

    /** The name of its values if they are floats; empty if it has codes. */
    default String floats() {
        return "";
    }
}
