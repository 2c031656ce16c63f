package dev.tensorpress.kernel;

/**
 * Upper tails of distributions, in f64. Continued fractions and series of incomplete beta and gamma functions (NIST Digital Library of
 * Mathematical Functions, 8.9, 8.11 and 8.17), with the factor before them from the distance to the mode, so that it is accurate for
 * many degrees of freedom. Relative errors are some 1e-13, also of tiny probabilities.
 */
final class TailProbability {
    private static final double EPSILON = 0x1p-53;
    private static final double TINY = 0x1p-1000;
    private static final double HALF_LOG_TWO_PI = 0.5 * Math.log(2 * Math.PI);

    private TailProbability() {}

    /** That a number of the F distribution with so many degrees of freedom is above {@code f}, which is not negative. */
    static double f(double numerator, double denominator, double f) {
        double scaled = numerator * f;
        if (Double.isInfinite(scaled)) {
            return 0;
        }
        return beta(denominator / 2, numerator / 2, denominator / (denominator + scaled), scaled / (denominator + scaled));
    }

    /** That a number of the chi squared distribution is above {@code x}, which is not negative. */
    static double chiSquared(double degrees, double x) {
        return x == 0 ? 1 : Double.isInfinite(x) ? 0 : gamma(degrees / 2, x / 2);
    }

    /** I_x(a, b), the regularized incomplete beta function; y = 1 - x. */
    private static double beta(double a, double b, double x, double y) {
        if (x == 0 || y == 0) {
            return x == 0 ? 0 : 1;
        }
        return x <= (a + 1) / (a + b + 2) ? lowerBeta(a, b, x, y) : 1 - lowerBeta(b, a, y, x);
    }

    private static double lowerBeta(double a, double b, double x, double y) {
        double log = a * logRatio(x * (a + b), a, x * b - a * y) + b * logRatio(y * (a + b), b, a * y - x * b);
        double factor = Math.exp(log + correction(a + b) - correction(a) - correction(b) - HALF_LOG_TWO_PI) * Math.sqrt(a / (a + b)) * Math.sqrt(b);
        // Lentz's way to evaluate 1 + t1 / (1 + t2 / (1 + ...)).
        double value = 1;
        double c = 1;
        double d = 0;
        for (long i = 1;; i++) {
            long m = i / 2;
            double term = i % 2 == 0 ? m * (b - m) * x / ((a + i - 1) * (a + i)) : -(a + m) * (a + b + m) * x / ((a + i - 1) * (a + i));
            d = 1 / away(1 + term * d);
            c = away(1 + term / c);
            double step = c * d;
            value *= step;
            if (Math.abs(step - 1) <= 2 * EPSILON) {
                return factor / (a * value);
            }
        }
    }

    /** The upper regularized incomplete gamma function. */
    private static double gamma(double a, double x) {
        double factor = Math.exp(a * logRatio(x, a, x - a) + a - x - correction(a) - HALF_LOG_TWO_PI) * Math.sqrt(a);
        if (x < a + 1) {
            double term = 1 / a;
            double sum = term;
            for (long i = 1; term > sum * EPSILON; i++) {
                term *= x / (a + i);
                sum += term;
            }
            return 1 - factor * sum;
        }
        double b = x + 1 - a;
        double c = 1 / TINY;
        double d = 1 / away(b);
        double value = d;
        for (long i = 1;; i++) {
            double term = i * (a - i);
            b += 2;
            d = 1 / away(term * d + b);
            c = away(b + term / c);
            double step = c * d;
            value *= step;
            if (Math.abs(step - 1) <= 2 * EPSILON) {
                return factor * value;
            }
        }
    }

    private static double away(double x) {
        return Math.abs(x) < TINY ? TINY : x;
    }

    /** log(x / y), from x - y where they are near each other. */
    private static double logRatio(double x, double y, double difference) {
        return Math.abs(difference) < y / 2 ? Math.log1p(difference / y) : Math.log(x / y);
    }

    /** What log gamma(z) is more than Stirling's (z - 1/2) log z - z + 1/2 log 2 pi. */
    private static double correction(double z) {
        double sum = 0;
        double at = z;
        while (at < 16) {
            sum += (at + 0.5) * Math.log1p(1 / at) - 1;
            at++;
        }
        double square = 1 / (at * at);
        return sum + (1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260 - square * (1.0 / 1680 - square / 1188)))) / at;
    }
}
