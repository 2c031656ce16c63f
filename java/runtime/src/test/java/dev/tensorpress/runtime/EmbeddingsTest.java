package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;

class EmbeddingsTest {
    private static List<float[]> random(int n, long seed) {
        Random random = new Random(seed);
        List<float[]> vectors = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            vectors.add(new float[] {random.nextFloat(), random.nextFloat(), random.nextFloat() - 0.5f});
        }
        return vectors;
    }

    private static Set<Integer> sorted(List<float[]> vectors, int of, int k) {
        List<Integer> others = new ArrayList<>();
        for (int i = 0; i < vectors.size(); i++) {
            if (i != of) {
                others.add(i);
            }
        }
        others.sort((x, y) -> Double.compare(cosine(vectors.get(of), vectors.get(y)), cosine(vectors.get(of), vectors.get(x))));
        return new HashSet<>(others.subList(0, k));
    }

    private static double cosine(float[] a, float[] b) {
        double dot = 0;
        double aa = 0;
        double bb = 0;
        for (int i = 0; i < a.length; i++) {
            dot += (double) a[i] * b[i];
            aa += (double) a[i] * a[i];
            bb += (double) b[i] * b[i];
        }
        return dot / Math.sqrt(aa * bb);
    }

    @Test
    void neighboursAsBySorting() {
        for (int n : new int[] {3, 4, 20, 21, 22, 50}) {
            List<float[]> a = random(n, 1);
            List<float[]> b = random(n, 2);
            int k = Math.min(10, (n - 1) / 2);
            double same = 0;
            for (int i = 0; i < n; i++) {
                Set<Integer> both = sorted(a, i, k);
                both.retainAll(sorted(b, i, k));
                same += both.size();
            }
            assertEquals(same / (n * k), Embeddings.sameNeighbours(a, b, 10), 1e-12, "n = " + n);
        }
    }

    @Test
    void noNeighboursAmongTwo() {
        assertTrue(Double.isNaN(Embeddings.sameNeighbours(random(2, 1), random(2, 2), 10)));
        assertTrue(Double.isNaN(Embeddings.sameNeighbours(List.of(), List.of(), 10)));
    }

    @Test
    void vectorsOfZeroDoNotFail() {
        List<float[]> zeros = Collections.nCopies(12, new float[3]);
        assertEquals(1, Embeddings.sameNeighbours(zeros, zeros, 10));
    }
}
