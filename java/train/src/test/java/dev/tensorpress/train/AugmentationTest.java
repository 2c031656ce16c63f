package dev.tensorpress.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;

class AugmentationTest {
    private static final int SIZE = 9;

    private static float[] image(int length) {
        float[] image = new float[length];
        Random random = new Random(1);
        for (int i = 0; i < length; i++) {
            image[i] = random.nextFloat();
        }
        return image;
    }

    private static float[] applied(Augmentation augmentation, float[] image, long seed, int epoch, int sample, long... dims) {
        Tensor t = new Tensor(DType.F32, Shape.of(dims), MemorySegment.ofArray(image.clone()));
        augmentation.apply(t, seed, epoch, sample);
        return t.data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    }

    private static float[] warped(float[] image, int height, int width, double right, double down, double factor, double degrees) {
        float[] out = new float[image.length];
        Augmentation.warp(image, out, 0, 0, height, width, 1, right, down, factor, degrees);
        return out;
    }

    @Test
    void nothingIsTheSame() {
        float[] image = image(5 * 7);
        assertArrayEquals(image, warped(image, 5, 7, 0, 0, 1, 0));
        assertArrayEquals(image, applied(Augmentation.NONE, image, 1, 1, 1, 1, 1, 5, 7));
    }

    @Test
    void wholePixelsMove() {
        float[] image = image(5 * 7);
        float[] out = warped(image, 5, 7, 2, -1, 1, 0);
        for (int y = 0; y < 5; y++) {
            for (int x = 0; x < 7; x++) {
                assertEquals(image[7 * Math.min(4, y + 1) + Math.max(0, x - 2)], out[7 * y + x], "row " + y + ", column " + x);
            }
        }
    }

    @Test
    void aRightAngleTurnsASquare() {
        float[] image = image(36);
        float[] out = warped(image, 6, 6, 0, 0, 1, 90);
        for (int y = 0; y < 6; y++) {
            for (int x = 0; x < 6; x++) {
                assertEquals(image[6 * (5 - x) + y], out[6 * y + x], 1e-6f, "row " + y + ", column " + x);
            }
        }
    }

    @Test
    void betweenPixelsItIsLinear() {
        float[] out = warped(new float[] {0, 1, 4}, 1, 3, 0.25, 0, 1, 0);
        assertArrayEquals(new float[] {0, 0.75f, 3.25f}, out, 1e-6f);
        out = warped(new float[] {0, 1, 2, 3, 4}, 1, 5, 0, 0, 2, 0);
        assertArrayEquals(new float[] {1, 1.5f, 2, 2.5f, 3}, out, 1e-6f);
    }

    /** Of the image whose pixels are their column: what moves it is read from its middle. */
    @Test
    void drawsFillTheirRanges() {
        float[] columns = new float[SIZE * SIZE];
        for (int i = 0; i < columns.length; i++) {
            columns[i] = i % SIZE;
        }
        int middle = SIZE * SIZE / 2;
        double[] least = {9, 9, 9};
        double[] most = {-9, -9, -9};
        for (int sample = 0; sample < 300; sample++) {
            float[] moved = applied(new Augmentation(0.2, 0, 0, 0), columns, 1, 1, sample, 1, 1, SIZE, SIZE);
            float[] scaled = applied(new Augmentation(0, 0.3, 0, 0), columns, 1, 1, sample, 1, 1, SIZE, SIZE);
            float[] turned = applied(new Augmentation(0, 0, 20, 0), columns, 1, 1, sample, 1, 1, SIZE, SIZE);
            double[] found = {columns[middle] - moved[middle], 1 / (scaled[middle + 1] - scaled[middle]),
                Math.toDegrees(Math.atan2(turned[middle + SIZE] - turned[middle], turned[middle + 1] - turned[middle]))};
            for (int i = 0; i < 3; i++) {
                least[i] = Math.min(least[i], found[i]);
                most[i] = Math.max(most[i], found[i]);
            }
        }
        assertArrayEquals(new double[] {-0.2 * SIZE, 0.7, -20}, least, 0.5);
        assertArrayEquals(new double[] {0.2 * SIZE, 1.3, 20}, most, 0.5);
        assertTrue(least[0] < -1.7 && least[1] < 0.72 && most[0] > 1.7 && most[1] > 1.28, Arrays.toString(least) + Arrays.toString(most));
    }

    @Test
    void noiseHasItsDeviation() {
        float[] out = applied(new Augmentation(0, 0, 0, 0.25), new float[10_000], 1, 1, 1, 1, 1, 100, 100);
        double squares = 0;
        double sum = 0;
        for (float x : out) {
            squares += x * x;
            sum += x;
        }
        assertEquals(0.25, Math.sqrt(squares / out.length), 0.01);
        assertEquals(0, sum / out.length, 0.01);
    }

    @Test
    void drawsDependOnSeedEpochAndSample() {
        float[] image = image(64);
        Augmentation all = new Augmentation(0.1, 0.1, 10, 0.05);
        float[] first = applied(all, image, 1, 1, 1, 1, 1, 8, 8);
        assertArrayEquals(first, applied(all, image, 1, 1, 1, 1, 1, 8, 8));
        assertFalse(Arrays.equals(first, applied(all, image, 2, 1, 1, 1, 1, 8, 8)));
        assertFalse(Arrays.equals(first, applied(all, image, 1, 2, 1, 1, 1, 8, 8)));
        assertFalse(Arrays.equals(first, applied(all, image, 1, 1, 2, 1, 1, 8, 8)));
    }

    /** Channels move together, in planes or side by side, and each image by a draw of its own. */
    @Test
    void channelsMoveTogether() {
        float[] plane = image(64);
        float[] planes = new float[3 * 64];
        float[] together = new float[3 * 64];
        for (int c = 0; c < 3; c++) {
            for (int i = 0; i < 64; i++) {
                planes[64 * c + i] = together[3 * i + c] = (c + 1) * plane[i];
            }
        }
        Augmentation all = new Augmentation(0.2, 0.2, 30, 0);
        float[] one = applied(all, plane, 1, 1, 1, 1, 1, 8, 8);
        float[] ofPlanes = applied(all, planes, 1, 1, 1, 1, 3, 8, 8);
        float[] ofTogether = applied(all, together, 1, 1, 1, 1, 8, 8, 3);
        for (int c = 0; c < 3; c++) {
            for (int i = 0; i < 64; i++) {
                assertEquals((c + 1) * one[i], ofPlanes[64 * c + i], 1e-5f);
                assertEquals((c + 1) * one[i], ofTogether[3 * i + c], 1e-5f);
            }
        }
        float[] twice = Arrays.copyOf(plane, 128);
        System.arraycopy(plane, 0, twice, 64, 64);
        float[] two = applied(all, twice, 1, 1, 1, 2, 1, 8, 8);
        assertArrayEquals(one, Arrays.copyOf(two, 64));
        assertFalse(Arrays.equals(one, Arrays.copyOfRange(two, 64, 128)));
    }

    @Test
    void rangesAreChecked() {
        for (String wrong : new String[] {"shift 1.1", "shift -0.1", "scale 1", "scale NaN", "rotate 181", "noise -1", "noise Infinity", "shear 0.1"}) {
            String[] parts = wrong.split(" ");
            IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> Augmentation.NONE.with(parts[0], Double.parseDouble(parts[1])));
            assertTrue(e.getMessage().contains(parts[0]), e.getMessage());
        }
        assertEquals(new Augmentation(0.1, 0.2, 3, 4), Augmentation.NONE.with("noise", 4).with("rotate", 3).with("scale", 0.2).with("shift", 0.1));
    }
}
