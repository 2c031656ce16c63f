package dev.tensorpress.demo;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.kernel.Coding;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Transform;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Grey images as codes of coefficients, with one step for all. Codes of one frequency, of all images, are coded together as archives code bytes: so bytes are
 * real, and those of an image are its share.
 */
final class Picture {
    /** What coefficients are of. */
    enum Kind {
        /** Pixels themselves. */
        PIXELS("pixels"),
        /** Cosines of blocks of 8 x 8. */
        DCT("DCT"),
        HAAR("Haar"),
        /** The wavelet of JPEG 2000. */
        CDF97("CDF 9/7");

        final String title;

        Kind(String title) {
            this.title = title;
        }
    }

    private static final int BLOCK = 8;
    private static final int LEVELS = 3;
    /** Of codes, which are bytes. */
    private static final int LIMIT = 127;

    /**
     * What became of images.
     *
     * @param bytes of all, which {@link Coding#decode} makes the codes of
     * @param pixels as they are decoded
     * @param psnr peak signal to noise ratio, in dB; NaN where there are no pixels
     */
    record Coded(long bytes, float[] pixels, double psnr) {}

    private Picture() {}

    /**
     * Codes images, and decodes them.
     *
     * @param pixels [n, side, side], from 0 to 1
     * @param step in 255ths; at least 32, so that codes are bytes
     */
    static Coded code(Kind kind, float[] pixels, int side, double step, Executor executor) {
        int size = side * side;
        int n = pixels.length / size;
        Transform.Zone zone = new Transform.Zone(0.5f, 0, LIMIT);
        Transform.Steps steps = Transform.Steps.of((float) (step / 255));
        try (Arena arena = Arena.ofShared()) {
            MemorySegment image = arena.allocate(JAVA_FLOAT, size);
            MemorySegment coefficients = arena.allocate(JAVA_FLOAT, size);
            MemorySegment codes = arena.allocate(JAVA_INT, size);
            byte[] all = new byte[pixels.length];
            float[] decoded = new float[pixels.length];
            for (int i = 0; i < n; i++) {
                image.copyFrom(MemorySegment.ofArray(pixels).asSlice(4L * i * size, 4L * size));
                transform(kind, side, false, image, coefficients, executor);
                Transform.quantize(zone, steps, size, coefficients, codes, executor);
                int[] of = codes.toArray(JAVA_INT);
                for (int p = 0; p < size; p++) {
                    all[i * size + p] = (byte) of[p];
                }
                Transform.decode(zone, steps, size, codes, coefficients, executor);
                transform(kind, side, true, coefficients, image, executor);
                MemorySegment.copy(image, JAVA_FLOAT, 0, decoded, i * size, size);
            }
            double error = 0;
            for (int i = 0; i < pixels.length; i++) {
                decoded[i] = Math.clamp(decoded[i], 0, 1);
                error += Math.pow(decoded[i] - pixels[i], 2);
            }
            return new Coded(bytes(kind, all, side, arena), decoded, -10 * Math.log10(error / pixels.length));
        }
    }

    /**
     * The lowest frequencies of images, each seen as one block of cosines: what a network can be trained on in the place of pixels.
     *
     * @param pixels [n, side, side], from 0 to 1
     * @param most frequencies of both axes together are below this
     * @param step in 255ths
     * @return as {@link #code}, but that for each image, in the place of pixels, there are {@code most * (most + 1) / 2} coefficients as they are decoded
     */
    static Coded lowest(float[] pixels, int side, int most, double step, Executor executor) {
        int size = side * side;
        int n = pixels.length / size;
        int kept = most * (most + 1) / 2;
        Transform.Zone zone = new Transform.Zone(0.5f, 0, LIMIT);
        try (Arena arena = Arena.ofShared()) {
            MemorySegment image = arena.allocate(JAVA_FLOAT, size);
            MemorySegment coefficients = arena.allocate(JAVA_FLOAT, size);
            MemorySegment codes = arena.allocate(JAVA_INT, size);
            byte[][] alike = new byte[most][];
            for (int f = 0; f < most; f++) {
                alike[f] = new byte[n * (f + 1)];
            }
            float[] decoded = new float[n * kept];
            for (int i = 0; i < n; i++) {
                image.copyFrom(MemorySegment.ofArray(pixels).asSlice(4L * i * size, 4L * size));
                Transform.dct(side, side, side, 2, false, image, coefficients, executor);
                Transform.quantize(zone, Transform.Steps.of((float) (step / 255)), size, coefficients, codes, executor);
                int[] of = codes.toArray(JAVA_INT);
                int place = i * kept;
                for (int f = 0; f < most; f++) {
                    for (int y = 0; y <= f; y++) {
                        int code = of[y * side + f - y];
                        alike[f][y * n + i] = (byte) code;
                        decoded[place++] = (float) (code * step / 255);
                    }
                }
            }
            long bytes = 0;
            for (byte[] codesOf : alike) {
                bytes += bytes(codesOf, codesOf.length, arena);
            }
            return new Coded(bytes, decoded, Double.NaN);
        }
    }

    private static void transform(Kind kind, int side, boolean inverse, MemorySegment in, MemorySegment out, Executor executor) {
        switch (kind) {
            case PIXELS -> out.copyFrom(in);
            case DCT -> Transform.dct(side, side, BLOCK, 2, inverse, in, out, executor);
            case HAAR -> Transform.wavelet(Transform.Wavelet.HAAR, side, side, 2, LEVELS, inverse, in, out, executor);
            case CDF97 -> Transform.wavelet(Transform.Wavelet.CDF97, side, side, 2, LEVELS, inverse, in, out, executor);
        }
    }

    /** Of blocks of codes, one for each frequency, by place and then by image: so what is 0 in all images lies together. */
    private static long bytes(Kind kind, byte[] codes, int side, Arena arena) {
        int size = side * side;
        int n = codes.length / size;
        long bytes = 0;
        for (int frequency = 0; frequency < 2 * BLOCK; frequency++) {
            byte[] alike = new byte[codes.length];
            int count = 0;
            for (int p = 0; p < size; p++) {
                if (frequency(kind, p / side, p % side, side) != frequency) {
                    continue;
                }
                for (int i = 0; i < n; i++) {
                    alike[count++] = codes[i * size + p];
                }
            }
            if (count > 0) {
                bytes += bytes(alike, count, arena);
            }
        }
        return bytes;
    }

    /** Of a block of codes. */
    private static long bytes(byte[] codes, int count, Arena arena) {
        MemorySegment in = arena.allocate(count).copyFrom(MemorySegment.ofArray(codes).asSlice(0, count));
        MemorySegment out = arena.allocate(Coding.bound(Coding.Elements.BYTES, count));
        MemorySegment scratch = arena.allocate(Coding.scratchBytes(Coding.Elements.BYTES, count), 64);
        return Coding.encode(Coding.Elements.BYTES, in, MemorySegment.NULL, out, scratch).bytes();
    }

    /** Of a place: the diagonal of a block, or the level and direction of a wavelet. */
    private static int frequency(Kind kind, int y, int x, int side) {
        if (kind == Kind.PIXELS) {
            return 0;
        }
        if (kind == Kind.DCT) {
            return y % BLOCK + x % BLOCK;
        }
        int low = side;
        for (int level = 0; level < LEVELS; level++) {
            low = (low + 1) / 2;
            if (y >= low || x >= low) {
                return 3 * level + (y < low ? 1 : x < low ? 2 : 3);
            }
        }
        return 0;
    }
}
