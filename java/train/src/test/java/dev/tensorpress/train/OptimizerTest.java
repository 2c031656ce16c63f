package dev.tensorpress.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import dev.tensorpress.kernel.Executor;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Steps, beside the formulas with all in f64. */
class OptimizerTest {
    private static final double RATE = 1e-2;
    private static final double DECAY = 0.1;

    @ParameterizedTest
    @CsvSource({"ADAMW,FLOAT32,1", "ADAMW,FLOAT32,3", "ADAMW,FLOAT64,3", "SGD,FLOAT32,3", "SGD,FLOAT64,1"})
    void stepsAreThoseOfTheFormulas(Optimizer.Kind kind, DataType type, int threads) {
        // More than one range for a thread, and a piece that is not full.
        int rows = 101;
        int columns = 2000;
        int n = rows * columns;
        Random random = new Random(3);
        double[] expected = new double[n];
        double[] first = new double[n];
        double[] second = new double[n];
        double[] bias = {1, -2};
        double[][] biases = {{0, 0}, {0, 0}};
        for (int i = 0; i < n; i++) {
            expected[i] = (float) random.nextGaussian();
        }
        try (NDManager manager = Engines.manager(); Executor executor = Executor.cpu(threads)) {
            NDArray p = manager.create(expected, new Shape(rows, columns)).toType(type, false);
            NDArray b = manager.create(bias).toType(type, false);
            Optimizer optimizer = new Optimizer(kind, DECAY, 0.9, Map.of("p", p, "b", b), manager, executor);
            for (int step = 1; step <= 4; step++) {
                double[] g = new double[n];
                double squares = 4 + 9;
                for (int i = 0; i < n; i++) {
                    g[i] = (float) random.nextGaussian();
                    squares += g[i] * g[i];
                }
                // The third is left as it is.
                double clip = step == 3 ? 0 : 100;
                double factor = step == 3 ? 1 : 100 / Math.sqrt(squares);
                // A gradient whose elements lie column after column.
                double[] turned = new double[n];
                for (int i = 0; i < n; i++) {
                    turned[i % columns * rows + i / columns] = g[i];
                }
                NDArray gradient = manager.create(turned, new Shape(columns, rows)).toType(type, false).transpose();
                double norm = optimizer.step(Map.of("p", gradient, "b", manager.create(new double[] {2, 3}).toType(type, false)), step, RATE, clip);
                assertEquals(Math.sqrt(squares), norm, 1e-4 * norm);
                step(kind, expected, g, first, second, step, factor, DECAY);
                step(kind, bias, new double[] {2, 3}, biases[0], biases[1], step, factor, 0);
            }
            check(expected, p, type);
            check(bias, b, type);
        }
    }

    private static void check(double[] expected, NDArray got, DataType type) {
        double[] found = got.toType(DataType.FLOAT64, false).toDoubleArray();
        double most = 0;
        for (int i = 0; i < found.length; i++) {
            most = Math.max(most, Math.abs(found[i] - expected[i]));
        }
        assertTrue(most < (type == DataType.FLOAT64 ? 1e-7 : 1e-6), "differs by " + most);
    }

    private static void step(Optimizer.Kind kind, double[] p, double[] g, double[] first, double[] second, int number, double factor, double decay) {
        for (int i = 0; i < p.length; i++) {
            double gradient = factor * g[i];
            p[i] -= RATE * decay * p[i];
            if (kind == Optimizer.Kind.SGD) {
                first[i] = 0.9 * first[i] + gradient;
                p[i] -= RATE * first[i];
            } else {
                first[i] = 0.9 * first[i] + 0.1 * gradient;
                second[i] = 0.999 * second[i] + 0.001 * gradient * gradient;
                p[i] -= RATE * first[i] / (1 - Math.pow(0.9, number)) / (Math.sqrt(second[i] / (1 - Math.pow(0.999, number))) + 1e-8);
            }
        }
    }
}
