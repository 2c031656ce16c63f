package dev.tensorpress.kernel;

/** For tests of other packages: decompositions that do not converge. */
public final class Sweeps {
    private Sweeps() {}

    /** Few decompositions are done after one sweep. */
    public static void allowOne(Svd svd) {
        svd.limitSweeps(1);
    }
}
