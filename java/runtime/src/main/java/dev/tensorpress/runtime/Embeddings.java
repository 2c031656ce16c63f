package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import dev.tensorpress.model.UnsupportedRequestException;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.BitSet;
import java.util.List;
import java.util.Map;

/** Vectors out of a model, and who is near to whom among them. */
final class Embeddings {
    private Embeddings() {}

    /** The output that embeddings come from. */
    static String output(Path model, Map<String, OnnxTensor> outputs) {
        for (int rank = 3; rank >= 2; rank--) {
            for (Map.Entry<String, OnnxTensor> output : outputs.entrySet()) {
                if (output.getValue().getInfo().getShape().length == rank) {
                    return output.getKey();
                }
            }
        }
        throw new UnsupportedRequestException(model + " has no floating-point output of rank 3 or 2 to take for embeddings");
    }

    /** Mean over the tokens of [1, tokens, hidden]; [1, hidden] as it is. */
    static float[] of(Path model, Map<String, OnnxTensor> outputs, String name) {
        OnnxTensor tensor = outputs.get(name);
        if (tensor == null) {
            throw new UnsupportedRequestException(model + " has no output " + name);
        }
        float[] values = floats(tensor);
        long[] shape = tensor.getInfo().getShape();
        if (shape.length == 2) {
            return values;
        }
        int hidden = (int) shape[2];
        int tokens = hidden == 0 ? 0 : values.length / hidden;
        double[] sums = new double[hidden];
        for (int i = 0; i < tokens * hidden; i++) {
            sums[i % hidden] += values[i];
        }
        float[] mean = new float[hidden];
        for (int h = 0; h < hidden; h++) {
            mean[h] = (float) (sums[h] / Math.max(tokens, 1));
        }
        return mean;
    }

    static float[] floats(OnnxTensor tensor) {
        if (tensor.getInfo().type == OnnxJavaType.DOUBLE) {
            DoubleBuffer doubles = tensor.getDoubleBuffer();
            float[] values = new float[doubles.remaining()];
            for (int i = 0; i < values.length; i++) {
                values[i] = (float) doubles.get(i);
            }
            return values;
        }
        FloatBuffer floats = tensor.getFloatBuffer();
        float[] values = new float[floats.remaining()];
        floats.get(values);
        return values;
    }

    /**
     * Mean part of the {@code k} nearest others that a vector has in both sets; k shrinks to half of the others where
     * there are few, since all of them are always the same. NaN for fewer than three vectors.
     */
    static double sameNeighbours(List<float[]> a, List<float[]> b, int k) {
        int n = a.size();
        int near = Math.min(k, (n - 1) / 2);
        if (near < 1) {
            return Double.NaN;
        }
        float[][] left = normalised(a);
        float[][] right = normalised(b);
        long same = 0;
        for (int i = 0; i < n; i++) {
            BitSet both = nearest(left, left[i], i, near);
            both.and(nearest(right, right[i], i, near));
            same += both.cardinality();
        }
        return (double) same / ((long) n * near);
    }

    /** @param self index of one that does not count, or -1 */
    static BitSet nearest(float[][] vectors, float[] of, int self, int k) {
        int[] best = new int[k];
        float[] cosines = new float[k];
        int found = 0;
        for (int i = 0; i < vectors.length; i++) {
            if (i == self) {
                continue;
            }
            float cosine = dot(of, vectors[i]);
            // Insertion into a short sorted list; of equals the first stays first.
            int at = found;
            while (at > 0 && cosine > cosines[at - 1]) {
                at--;
            }
            if (at == k) {
                continue;
            }
            int moved = Math.min(found, k - 1) - at;
            System.arraycopy(best, at, best, at + 1, moved);
            System.arraycopy(cosines, at, cosines, at + 1, moved);
            best[at] = i;
            cosines[at] = cosine;
            found = Math.min(found + 1, k);
        }
        BitSet set = new BitSet(vectors.length);
        for (int i = 0; i < found; i++) {
            set.set(best[i]);
        }
        return set;
    }

    /** Two zero vectors agree; one alone is nowhere near. */
    static double cosine(float[] x, float[] y) {
        double dot = 0;
        double a = 0;
        double b = 0;
        for (int i = 0; i < x.length; i++) {
            dot += (double) x[i] * y[i];
            a += (double) x[i] * x[i];
            b += (double) y[i] * y[i];
        }
        return cosine(dot, a, b);
    }

    /** Of their product and their squared norms. Rounding may lead past 1, which it never is. */
    static double cosine(double dot, double a, double b) {
        return a == 0 || b == 0 ? (a == b ? 1 : 0) : Math.min(1, dot / Math.sqrt(a * b));
    }

    static float[][] normalised(List<float[]> vectors) {
        float[][] result = new float[vectors.size()][];
        for (int i = 0; i < result.length; i++) {
            float[] v = vectors.get(i).clone();
            double squares = 0;
            for (float x : v) {
                squares += (double) x * x;
            }
            float inverse = squares == 0 ? 0 : (float) (1 / Math.sqrt(squares));
            for (int j = 0; j < v.length; j++) {
                v[j] *= inverse;
            }
            result[i] = v;
        }
        return result;
    }

    private static float dot(float[] a, float[] b) {
        float sum = 0;
        for (int i = 0; i < a.length; i++) {
            sum += a[i] * b[i];
        }
        return sum;
    }
}
