package dev.tensorpress.kernel;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/**
 * A lower bound on the error of all approximations of a rank, by {@link Moments}: random vectors that nothing else depends on, and a
 * chance of at most 1e-6 that it does not hold.
 */
final class Bound {
    /** Chance that one of the inequalities used does not hold, as the logarithm; there are at most 2 DEPTH of them. */
    private static final double CHANCE = Math.log(1e-7);
    /** Gaussian vectors, and how often A^T A is applied to them; for the residual of a decomposition less does. */
    private static final int PROBES = 32;
    private static final int DEPTH = 4;
    private static final int RESIDUAL_DEPTH = 2;
    /** Gaussian vectors for what couples the residual and the vectors found. */
    private static final int COUPLING_PROBES = 64;
    /** If the moments of A may give this share of the squared error, the residual is not looked at: for flat spectra they are better. */
    private static final double ENOUGH = 0.75;

    private final LinearAlgebra la;
    private final Krylov k;
    private final DType type;
    private final double total;
    private final int rank;
    private final double[] values;
    /** The left vectors, as rows. */
    private final MemorySegment lefts;
    private final MemorySegment right;

    /**
     * @param total ||A||_F^2
     * @param u the result, of A times 2^exponent, as are s and vt
     */
    Bound(LinearAlgebra la, Krylov k, double total, long rank, MemorySegment u, MemorySegment s, MemorySegment vt, int exponent) {
        this.la = la;
        this.k = k;
        this.type = k.type;
        this.total = total;
        this.rank = (int) rank;
        this.right = vt;
        values = new double[this.rank];
        for (int i = 0; i < rank; i++) {
            values[i] = Math.scalb(LinearAlgebra.get(type, s, i), -exponent);
        }
        lefts = la.buffer("bound lefts", rank * k.rows);
        la.copy(new View(type, u, rank), k.rows, rank, new View(type, lefts, k.rows), true, 1, MemorySegment.NULL, MemorySegment.NULL);
    }

    /** @param error that was measured of the result */
    double of(double error) {
        double square = error * error;
        if (square == 0) {
            return 0;
        }
        double[] found = new double[2 * DEPTH + 1];
        for (double value : values) {
            for (int power = 2; power <= 2 * DEPTH; power++) {
                found[power] += Math.pow(value * value / total, power);
            }
        }
        // What was found says beforehand what there is to be learned.
        if (total * (1 - Moments.holder(found, rank)) >= ENOUGH * square) {
            return Math.sqrt(total * Math.max(0, 1 - Moments.largest(moments(DEPTH, total, null), PROBES, rank, CHANCE)));
        }
        if (values[rank - 1] == 0) {
            return 0;
        }
        double[] differences = new double[1];
        double[] sums = Moments.sums(moments(RESIDUAL_DEPTH, square, differences), PROBES, CHANCE);
        Moments.Parts parts = new Moments.Parts(values, square);
        return error * parts.rest(sums, coupling(parts) / square / COUPLING_PROBES / Moments.share(COUPLING_PROBES, 1, CHANCE),
                differences[0] / square / PROBES / Moments.share(PROBES, 1, CHANCE));
    }

    /**
     * Moments F_0 .. F_2depth of A A^T / scale.
     *
     * @param differences null; or of E E^T / scale, E = A - U U^T A, with ||(U^T A - S V^T) X||_F^2 for this array
     */
    private double[] moments(int depth, double scale, double[] differences) {
        MemorySegment x = la.buffer("probes right", PROBES * k.cols);
        MemorySegment y = la.buffer("probes left", PROBES * k.rows);
        View in = new View(type, x, k.cols);
        double[] moments = new double[2 * depth + 1];
        la.gaussian(k.seed, 1, PROBES * k.cols, type, x);
        for (int i = 0; i <= depth; i++) {
            moments[2 * i] = la.sumOfSquares(in, PROBES, k.cols);
            if (i < depth) {
                k.a.forward(in, y, PROBES);
                if (differences != null) {
                    MemorySegment along = project(y, PROBES);
                    if (i == 0) {
                        differences[0] = differences(x, along);
                    }
                    // Again, since A magnifies what rounding left along U.
                    project(y, PROBES);
                }
                moments[2 * i + 1] = la.sumOfSquares(new View(type, y, k.rows), PROBES, k.rows) / scale;
                k.a.backward(y, x, PROBES);
                la.copy(in, PROBES, k.cols, in, false, 1 / scale, MemorySegment.NULL, MemorySegment.NULL);
            }
        }
        return moments;
    }

    /** Y -= U U^T Y for rows of Y^T; returns -Y^T U. */
    private MemorySegment project(MemorySegment y, long count) {
        MemorySegment along = la.buffer("bound along", count * rank);
        la.multiply(Gemm.Spec.of(type, Gemm.Form.ABT, count, rank, k.rows), y, lefts, along);
        View minus = new View(type, along, rank);
        la.copy(minus, count, rank, minus, false, -1, MemorySegment.NULL, MemorySegment.NULL);
        la.multiply(Gemm.Spec.of(type, Gemm.Form.AB, count, k.rows, rank).accumulating(), along, lefts, y);
        return along;
    }

    /** ||(U^T A - S V^T) X||_F^2, from -X^T A^T U. */
    private double differences(MemorySegment x, MemorySegment along) {
        MemorySegment own = la.buffer("bound own", PROBES * rank);
        la.multiply(Gemm.Spec.of(type, Gemm.Form.ABT, PROBES, rank, k.cols), x, right, own);
        double sum = 0;
        for (long i = 0; i < PROBES * (long) rank; i++) {
            double difference = LinearAlgebra.get(type, along, i) + values[(int) (i % rank)] * LinearAlgebra.get(type, own, i);
            sum += difference * difference;
        }
        return sum;
    }

    /** ||E V S W G||_F^2 for Gaussian vectors G and the weights of parts. */
    private double coupling(Moments.Parts parts) {
        MemorySegment g = la.buffer("coupling probes", COUPLING_PROBES * rank);
        MemorySegment x = la.buffer("coupling right", COUPLING_PROBES * k.cols);
        MemorySegment y = la.buffer("coupling left", COUPLING_PROBES * k.rows);
        la.gaussian(k.seed, 2, COUPLING_PROBES * rank, type, g);
        for (long i = 0; i < COUPLING_PROBES * (long) rank; i++) {
            int row = (int) (i % rank);
            LinearAlgebra.set(type, g, i, LinearAlgebra.get(type, g, i) * Math.sqrt(parts.squares[row] * parts.weights[row]));
        }
        la.multiply(Gemm.Spec.of(type, Gemm.Form.AB, COUPLING_PROBES, k.cols, rank), g, right, x);
        k.a.forward(new View(type, x, k.cols), y, COUPLING_PROBES);
        project(y, COUPLING_PROBES);
        project(y, COUPLING_PROBES);
        return la.sumOfSquares(new View(type, y, k.rows), COUPLING_PROBES, k.rows);
    }
}
