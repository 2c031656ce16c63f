package dev.tensorpress.demo;

import dev.tensorpress.runtime.Samples;
import dev.tensorpress.runtime.Tasks;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Map;
import java.util.zip.GZIPInputStream;

/** Handwritten digits: 28 x 28 pixels each, and which digit it is. What they are, and whose, is in {@code digits.LICENSE}. */
final class Digits {
    static final int SIDE = 28;
    static final int PIXELS = SIDE * SIDE;
    static final int CLASSES = 10;
    /** Of {@link #small}. */
    static final int SMALL = 8;
    private static final int ALL = 10_000;
    /** One of so many is for measuring. */
    private static final int MEASURED = 5;

    private final byte[] pixels;
    private final int[] labels;

    private Digits(byte[] pixels, int[] labels) {
        this.pixels = pixels;
        this.labels = labels;
    }

    private static Digits load(int digits) {
        if (digits < 100 || digits > ALL) {
            throw new IllegalArgumentException("there are 10,000 digits, and 100 are needed at least, not " + digits);
        }
        try (InputStream in = new GZIPInputStream(Digits.class.getResourceAsStream("digits.gz"), 1 << 16)) {
            byte[] pixels = in.readNBytes(ALL * PIXELS);
            byte[] labels = in.readNBytes(ALL);
            int[] classes = new int[digits];
            for (int i = 0; i < digits; i++) {
                classes[i] = labels[i];
            }
            return new Digits(Arrays.copyOf(pixels, digits * PIXELS), classes);
        } catch (IOException e) {
            throw new IllegalStateException(e); // it is part of this program
        }
    }

    /** What models are trained on. */
    static Digits training(Demo.Effort effort) {
        return load(effort.digits()).part(0, effort.digits() - effort.digits() / MEASURED);
    }

    /** What accuracies are measured on, and nothing else. */
    static Digits test(Demo.Effort effort) {
        return load(effort.digits()).part(effort.digits() - effort.digits() / MEASURED, effort.digits());
    }

    private Digits part(int from, int to) {
        return new Digits(Arrays.copyOfRange(pixels, from * PIXELS, to * PIXELS), Arrays.copyOfRange(labels, from, to));
    }

    int size() {
        return labels.length;
    }

    /** Which digit each is. */
    int[] labels() {
        return labels.clone();
    }

    /** The same as classes that an evaluation asks for. */
    Tasks tasks() {
        return Tasks.NONE.labels(Arrays.stream(labels).boxed().toList());
    }

    /** Row by row, from 0 for paper to 1 for ink: [size, 28 * 28]. */
    float[] pixels() {
        float[] all = new float[pixels.length];
        for (int i = 0; i < all.length; i++) {
            all[i] = (pixels[i] & 0xff) / 255f;
        }
        return all;
    }

    /**
     * Of 8 x 8 pixels with 17 shades, as in UCI's set of digits: means of 4 x 4 pixels, with two of paper around the image, from 0 to 16. [size, 8 * 8].
     */
    float[] small() {
        int margin = (4 * SMALL - SIDE) / 2;
        float[] all = new float[size() * SMALL * SMALL];
        for (int i = 0; i < size(); i++) {
            for (int y = 0; y < SIDE; y++) {
                for (int x = 0; x < SIDE; x++) {
                    all[(i * SMALL + (y + margin) / 4) * SMALL + (x + margin) / 4] += pixels[(i * SIDE + y) * SIDE + x] & 0xff;
                }
            }
        }
        for (int i = 0; i < all.length; i++) {
            all[i] = Math.round(all[i] / (16 * 255f) * 16);
        }
        return all;
    }

    /** For a model with one input. */
    static Samples samples(String input, float[] elements, long... dims) {
        return Samples.arrays(Map.of(input, new Tensor(DType.F32, Shape.of(dims), MemorySegment.ofArray(elements))));
    }

    /** As images [1, 1, 28, 28] for the input {@link Layers#INPUT}. */
    Samples images() {
        return samples(Layers.INPUT, pixels(), size(), 1, SIDE, SIDE);
    }
}
