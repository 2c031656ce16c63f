package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.types.DataType;

/**
 * Products, quotients and powers with numbers. DJL's own keep the number in memory that is given back at once, while PyTorch keeps it for the gradient: what
 * is there by then gets into the gradient. These belong to the manager of the array, as all that is made of it does.
 */
final class Scalars {
    private Scalars() {}

    static NDArray times(NDArray x, double by) {
        return x.mul(like(x, by));
    }

    static NDArray over(NDArray x, double by) {
        return x.div(like(x, by));
    }

    static NDArray power(NDArray x, double exponent) {
        return x.pow(like(x, exponent));
    }

    /** A number of the array's type. */
    private static NDArray like(NDArray x, double number) {
        return x.getDataType() == DataType.FLOAT64 ? x.getManager().create(number) : x.getManager().create((float) number);
    }
}
