package dev.tensorpress;

import java.nio.file.Path;
import java.util.List;

/**
 * What a compression did. Errors are measured on the decoded weights, never predicted.
 *
 * @param output the model file, {@code files} with those it refers to
 * @param bytesBefore of the input's files, {@code bytesAfter} of {@code files}
 * @param nanos wall time of encoding and writing
 */
public record Report(Plan plan, Path output, List<Path> files, List<Entry> entries, long bytesBefore, long bytesAfter,
        long nanos) {

    /**
     * One compressed weight.
     *
     * @param sumSquaredError sum of squared differences to the original, {@code sumSquares} of the original, in f64
     * @param maxError largest difference
     * @param nanos wall time of encoding and measuring
     */
    public record Entry(Plan.Entry planned, double sumSquaredError, double sumSquares, double maxError, long nanos) {
        /** Frobenius norm of the difference over that of the original; 0 for a zero weight. */
        public double relativeError() {
            return sumSquares == 0 ? 0 : Math.sqrt(sumSquaredError / sumSquares);
        }

        /** Signal to quantization noise, in dB; infinite if exact. */
        public double sqnr() {
            return sumSquaredError == 0 ? Double.POSITIVE_INFINITY : 10 * Math.log10(sumSquares / sumSquaredError);
        }
    }

    /** Relative Frobenius error over all compressed weights together. */
    public double relativeError() {
        double error = 0;
        double squares = 0;
        for (Entry e : entries) {
            error += e.sumSquaredError;
            squares += e.sumSquares;
        }
        return squares == 0 ? 0 : Math.sqrt(error / squares);
    }

    /** Size of the output as a part of the input's. */
    public double ratio() {
        return bytesBefore == 0 ? 1 : (double) bytesAfter / bytesBefore;
    }

    /** The report as one JSON object; {@code docs/report.md} lists the fields. */
    public String toJson() {
        return Json.report(this);
    }
}
