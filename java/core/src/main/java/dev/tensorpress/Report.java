package dev.tensorpress;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.kernel.Tucker;
import dev.tensorpress.model.Phases;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What a compression did. Errors are measured on the decoded weights, never predicted.
 *
 * @param output the model file or folder, {@code files} those that hold the model
 * @param entries one for each compressed weight, but for those in files that an interrupted run had finished
 * @param bytesBefore of the input's files, {@code bytesAfter} of {@code files}
 * @param nanos wall time of encoding and writing
 * @param phases what each phase of the work took; they overlap
 */
public record Report(Plan plan, Path output, List<Path> files, List<Entry> entries, long bytesBefore, long bytesAfter,
        long nanos, Map<Phases.Phase, Phases.Spent> phases) {

    /**
     * One compressed weight.
     *
     * @param sumSquaredError sum of squared differences to the original, {@code sumSquares} of the original, in f64
     * @param maxError largest difference
     * @param sparsity what became of its zeros, null if it was not pruned
     * @param lowRank its factors, null if it has none
     * @param chain what follows each other in its place, null if nothing does
     * @param fixedPoint what numbers it holds, null unless scales were to be powers of two
     * @param distribution of its elements and codes, null unless {@link Compressor.Options#distributions} asked for it
     * @param nanos wall time of encoding and measuring
     */
    public record Entry(Plan.Entry planned, double sumSquaredError, double sumSquares, double maxError,
            Sparsity sparsity, LowRank lowRank, Chain chain, FixedPoint fixedPoint, Distribution distribution, long nanos) {
        /** The same after this time. */
        Entry after(long time) {
            return new Entry(planned, sumSquaredError, sumSquares, maxError, sparsity, lowRank, chain, fixedPoint, distribution, time);
        }

        Entry with(Distribution all) {
            return new Entry(planned, sumSquaredError, sumSquares, maxError, sparsity, lowRank, chain, fixedPoint, all, nanos);
        }

        /** This and what was measured of other rows of the same weight, which is neither pruned nor factorized. */
        Entry plus(Entry more) {
            return new Entry(planned, sumSquaredError + more.sumSquaredError, sumSquares + more.sumSquares,
                    Math.max(maxError, more.maxError), null, null, null, fixedPoint == null ? null : fixedPoint.plus(more.fixedPoint), null, nanos + more.nanos);
        }

        /** Frobenius norm of the difference over that of the original; 0 for a zero weight. */
        public double relativeError() {
            return sumSquares == 0 ? 0 : Math.sqrt(sumSquaredError / sumSquares);
        }

        /** Signal to quantization noise, in dB; infinite if exact. */
        public double sqnr() {
            return sumSquaredError == 0 ? Double.POSITIVE_INFINITY : 10 * Math.log10(sumSquares / sumSquaredError);
        }
    }

    /**
     * How often which elements and codes occur. Lists are empty if there is nothing to count.
     *
     * @param elements that are finite; others are not counted
     * @param least of these, 0 if there are none
     * @param largest of these, 0 if there are none
     * @param from where the first bin begins
     * @param width of a bin, a power of two; 0 without elements
     * @param below elements below the first bin, a two-thousandth at most, {@code above} above the last one
     * @param counts elements of each bin, which has its lower end, but not its upper one, unless that is the largest magnitude of
     *     all; at most 64
     * @param firstCode the smallest code that occurs
     * @param codes how often each code occurs, from {@code firstCode} on, padding included; of a corrected weight those of what is
     *     corrected. Empty if the weight has no codes
     */
    public record Distribution(long elements, float least, float largest, double from, double width, long below, long above,
            List<Long> counts, int firstCode, List<Long> codes) {}

    /**
     * Numbers Qm.n: m bits and a sign before the point, n behind it, which is what their scale of 2<sup>-n</sup> says. Either may be
     * negative. A group of zeros has the scale 1.
     *
     * @param bits of a code: m + n + 1
     * @param least n of all groups
     * @param most n of all groups
     */
    public record FixedPoint(int bits, int least, int most) {
        FixedPoint plus(FixedPoint other) {
            return new FixedPoint(bits, Math.min(least, other.least), Math.max(most, other.most));
        }

        /** {@code Q1.6}, or {@code to Q1.6}. */
        public String describe() {
            return least == most ? format(least) : format(most) + " to " + format(least);
        }

        private String format(int n) {
            return "Q" + (bits - 1 - n) + "." + n;
        }
    }

    /**
     * Convolutions in the place of one.
     *
     * @param form which ones, as their parts are written
     * @param result of the decomposition, in the norm that it was made in and before its parts were quantized
     */
    public record Chain(Form.Chain form, Tucker.Result result) {}

    /**
     * Factors of a weight, or of what quantization took off one.
     *
     * @param correction of which of the two
     * @param of the rank that the matrix may have: its smaller side
     * @param certificate of the decomposition, of that matrix: measured before the factors were rounded or quantized
     * @param bytes of both factors
     */
    public record LowRank(boolean correction, long rank, long of, Svd.Certificate certificate, long bytes) {
        /** The part of the matrix's squared Frobenius norm that the decomposition keeps; 1 for a zero matrix. */
        public double energy() {
            double lost = certificate.relativeError();
            return 1 - lost * lost;
        }

        /** The decomposition's error by the least that any matrix of this rank has, or 1 if both are 0: 1 is optimal. */
        public double nearness() {
            return certificate.error() == 0 ? 1 : certificate.error() / certificate.bound();
        }
    }

    /**
     * Zeros of a pruned weight, or of all of them together, and what storing only the others would take. No number of
     * zeros is a saving by itself: {@code bytesWritten} is what the file holds.
     *
     * @param zerosAsked elements that were to be zero
     * @param zerosReached elements that are zero in the decoded result, of either sign
     * @param bytesDense of all elements as they are encoded: codes and their scales if quantized
     * @param layouts bytes in each way of leaving zeros out, by name; null where the weight does not fit it
     * @param smallest name of the smallest of {@code dense} and the layouts
     * @param bytesSmallest its bytes; in total, the sum over weights
     * @param why it is the smallest, in words; empty in total
     * @param bytesWritten of the weight's data in the file
     */
    public record Sparsity(long elements, long zerosAsked, long zerosReached, long bytesDense,
            Map<String, Long> layouts, String smallest, long bytesSmallest, String why, long bytesWritten) {}

    /** The sums over all pruned weights, layouts only where each fits; null if there are none. */
    public Sparsity sparsity() {
        long[] sums = new long[6];
        Map<String, Long> layouts = null;
        for (Entry e : entries) {
            Sparsity s = e.sparsity;
            if (s == null) {
                continue;
            }
            sums[0] += s.elements;
            sums[1] += s.zerosAsked;
            sums[2] += s.zerosReached;
            sums[3] += s.bytesDense;
            sums[4] += s.bytesSmallest;
            sums[5] += s.bytesWritten;
            if (layouts == null) {
                layouts = new LinkedHashMap<>(s.layouts);
                continue;
            }
            for (Map.Entry<String, Long> layout : layouts.entrySet()) {
                Long more = s.layouts.get(layout.getKey());
                layout.setValue(layout.getValue() == null || more == null ? null : layout.getValue() + more);
            }
        }
        return layouts == null ? null
                : new Sparsity(sums[0], sums[1], sums[2], sums[3], layouts, "", sums[4], "", sums[5]);
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
        return toJson(Integer.MAX_VALUE);
    }

    /** {@link #toJson()} with the largest {@code most} weights only, and the sums over the others in the place of these. */
    public String toJson(int most) {
        return Json.report(this, most);
    }
}
