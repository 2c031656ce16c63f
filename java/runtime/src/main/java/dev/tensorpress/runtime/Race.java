package dev.tensorpress.runtime;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.function.BooleanSupplier;

/** Models that run the same samples in turns, so that whatever else the machine does meets all of them. */
final class Race {
    private static final int LEAST_ROUNDS = 3;
    private static final int MOST_ROUNDS = 8;
    /** Less than this part of its time is no gain for a model. */
    private static final double GAIN = 0.01;
    private static final int PASSES = 3;
    private static final int SAMPLES = 16;

    private final Samples samples;
    private final int threads;

    Race(Samples samples, int threads) {
        this.samples = samples.first(SAMPLES);
        this.threads = threads;
    }

    /**
     * Of a sample, by model: the mean over samples of the least that each took, since on a busy machine medians are of the others as well.
     * There is one session at a time: threads of another one spin while they wait, and take processors.
     *
     * @param outOfTime true once the round at hand, of which there is at least one, shall be the last
     */
    double[] millis(List<Path> models, BooleanSupplier outOfTime) throws IOException {
        double[][] least = new double[models.size()][samples.size()];
        for (double[] of : least) {
            Arrays.fill(of, Double.POSITIVE_INFINITY);
        }
        double[] millis = new double[least.length];
        Arrays.fill(millis, Double.POSITIVE_INFINITY);
        // On a quiet machine that is soon over. Two rounds in which nothing gained may be chance less often than one.
        for (int round = 1, quiet = 0; round == 1 || !outOfTime.getAsBoolean() && (round <= LEAST_ROUNDS || round <= MOST_ROUNDS && quiet < 2); round++) {
            quiet++;
            for (int m = 0; m < least.length; m++) {
                turn(models.get(m), least[m]);
                double now = Arrays.stream(least[m]).average().orElseThrow();
                quiet = now < (1 - GAIN) * millis[m] ? 0 : quiet;
                millis[m] = now;
            }
        }
        return millis;
    }

    /** Some passes over all samples, after one that is not timed. */
    private void turn(Path model, double[] least) throws IOException {
        try (Session session = Session.open(model, threads)) {
            for (int pass = 0; pass <= PASSES; pass++) {
                for (int i = 0; i < least.length; i++) {
                    double millis = session.run(samples.feed(session, i), outputs -> { });
                    least[i] = pass == 0 ? least[i] : Math.min(least[i], millis);
                }
            }
        }
    }
}
