package dev.tensorpress.train;

import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;

/**
 * What is done to images before each step of training: they are scaled and rotated about their middle, shifted, and noise is added. Each image has its own
 * draw, uniform but for the noise, in each epoch; the same seed, epoch and sample give the same bits. Pixels are linear between four; those that come from
 * outside are the nearest at the border. What is held out stays as it is.
 *
 * <p>Images are inputs of f32 with four axes: [n, channels, height, width], or [n, height, width, channels] if the last axis has 1 or 3 indices and the second
 * has not. Several such inputs of a sample get the same draw, but for the noise.
 *
 * @param shift part of width and height by which images move each way at most, 0 to 1
 * @param scale by which the factor differs from 1 at most, at least 0 and below 1
 * @param rotate degrees each way at most, 0 to 180
 * @param noise standard deviation, in units of the values, at least 0
 */
public record Augmentation(double shift, double scale, double rotate, double noise) {
    public static final Augmentation NONE = new Augmentation(0, 0, 0, 0);

    public Augmentation {
        check("shift", shift, shift >= 0 && shift <= 1, "from 0 to 1");
        check("scale", scale, scale >= 0 && scale < 1, "at least 0 and below 1");
        check("rotate", rotate, rotate >= 0 && rotate <= 180, "from 0 to 180");
        check("noise", noise, noise >= 0 && noise < Double.POSITIVE_INFINITY, "at least 0");
    }

    private static void check(String name, double value, boolean fits, String range) {
        if (!fits) {
            throw new IllegalArgumentException(name + " of images must be " + range + ", but is " + value);
        }
    }

    /**
     * With another value of {@code shift}, {@code scale}, {@code rotate} or {@code noise}.
     *
     * @throws IllegalArgumentException if there is no such key, or the value is out of range
     */
    public Augmentation with(String key, double value) {
        return switch (key) {
            case "shift" -> new Augmentation(value, scale, rotate, noise);
            case "scale" -> new Augmentation(shift, value, rotate, noise);
            case "rotate" -> new Augmentation(shift, scale, value, noise);
            case "noise" -> new Augmentation(shift, scale, rotate, value);
            default -> throw new IllegalArgumentException("augmentation has no '" + key + "', but shift, scale, rotate and noise");
        };
    }

    static boolean isImage(Tensor t) {
        return t.dtype() == DType.F32 && t.shape().rank() == 4;
    }

    /** Changes an image, or several along the first axis, in place. */
    void apply(Tensor images, long seed, int epoch, int sample) {
        long mixed = (seed * 0x9e3779b97f4a7c15L + epoch) * 0x9e3779b97f4a7c15L + sample;
        mixed = (mixed ^ mixed >>> 32) * 0xd6e8feb86659fd93L; // seeds that are near each other have first numbers that are, too
        Random random = new Random(mixed ^ mixed >>> 32);
        Shape shape = images.shape();
        boolean last = channels(shape.dim(3)) && !channels(shape.dim(1));
        int width = (int) shape.dim(last ? 2 : 3);
        int height = (int) shape.dim(last ? 1 : 2);
        int channels = (int) shape.dim(last ? 3 : 1);
        float[] all = images.data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
        for (int at = 0; at < all.length; at += channels * height * width) {
            double right = width * shift * (2 * random.nextDouble() - 1);
            double down = height * shift * (2 * random.nextDouble() - 1);
            double factor = 1 + scale * (2 * random.nextDouble() - 1);
            double degrees = rotate * (2 * random.nextDouble() - 1);
            if (shift > 0 || scale > 0 || rotate > 0) {
                float[] from = Arrays.copyOfRange(all, at, at + channels * height * width);
                for (int c = 0; c < channels; c++) {
                    warp(from, all, last ? c : c * height * width, at, height, width, last ? channels : 1, right, down, factor, degrees);
                }
            }
        }
        if (noise > 0) {
            for (int i = 0; i < all.length; i++) {
                all[i] += (float) (noise * random.nextGaussian());
            }
        }
        images.data().copyFrom(MemorySegment.ofArray(all));
    }

    private static boolean channels(long indices) {
        return indices == 1 || indices == 3;
    }

    /**
     * One channel.
     *
     * @param in image; its channel begins at {@code first}, with {@code step} from one pixel to the next
     * @param out has the image from {@code at} on
     * @param right by which it moves, in pixels; {@code down} likewise
     * @param degrees by which it turns, from the first axis of pixels, which points right, to the second, which points down
     */
    static void warp(float[] in, float[] out, int first, int at, int height, int width, int step, double right, double down, double factor, double degrees) {
        double angle = Math.toRadians(degrees);
        double cos = StrictMath.cos(angle) / factor;
        double sin = StrictMath.sin(angle) / factor;
        double middleX = (width - 1) / 2.0;
        double middleY = (height - 1) / 2.0;
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                double toX = x - right - middleX;
                double toY = y - down - middleY;
                double fromX = Math.clamp(cos * toX + sin * toY + middleX, 0, width - 1);
                double fromY = Math.clamp(cos * toY - sin * toX + middleY, 0, height - 1);
                int left = (int) fromX;
                int top = (int) fromY;
                double a = fromX - left;
                double b = fromY - top;
                int p = first + step * (top * width + left);
                int toRight = left + 1 < width ? step : 0;
                int below = top + 1 < height ? step * width : 0;
                double upper = (1 - a) * in[p] + a * in[p + toRight];
                double lower = (1 - a) * in[p + below] + a * in[p + below + toRight];
                out[at + first + step * (y * width + x)] = (float) ((1 - b) * upper + b * lower);
            }
        }
    }
}
