package dev.tensorpress.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.runtime.ArrayFile;
import dev.tensorpress.runtime.InputException;
import dev.tensorpress.runtime.LatentCodec;
import dev.tensorpress.runtime.LatentCodec.Coded;
import dev.tensorpress.runtime.LatentCoder.Table;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import dev.tensorpress.train.Autoencoder.Options;
import dev.tensorpress.train.Autoencoder.Result;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AutoencoderTest {
    private static final Options QUICK = Options.DEFAULT.width(64).batch(64).rate(3e-3);
    private static final int WIDTH = 24;

    @TempDir
    Path folder;

    private static Tensor f32(float[] values, long... dims) {
        return new Tensor(DType.F32, Shape.of(dims), Arena.ofAuto().allocate(4L * values.length, 64).copyFrom(MemorySegment.ofArray(values)));
    }

    /** Two numbers that are anything, and waves of them: a surface that bends through many dimensions. */
    private static Tensor surface(int samples, long seed) {
        Random fixed = new Random(9);
        double[] waves = new double[3 * WIDTH];
        Arrays.setAll(waves, _ -> 1.5 * fixed.nextGaussian());
        Random random = new Random(seed);
        float[] values = new float[samples * WIDTH];
        for (int i = 0; i < samples; i++) {
            double u = 2 * random.nextDouble() - 1;
            double v = 2 * random.nextDouble() - 1;
            for (int k = 0; k < WIDTH; k++) {
                values[i * WIDTH + k] = (float) Math.sin(waves[3 * k] * u + waves[3 * k + 1] * v + waves[3 * k + 2]);
            }
        }
        return f32(values, samples, WIDTH);
    }

    /** Squares of 6 x 6 pixels, brighter where one of them is near. */
    private static Tensor images(int samples, long seed) {
        Random random = new Random(seed);
        byte[] values = new byte[samples * 36];
        for (int i = 0; i < samples; i++) {
            double x = 5 * random.nextDouble();
            double y = 5 * random.nextDouble();
            for (int k = 0; k < 36; k++) {
                values[i * 36 + k] = (byte) (255 * Math.exp(-0.5 * ((k % 6 - x) * (k % 6 - x) + (k / 6 - y) * (k / 6 - y))));
            }
        }
        return new Tensor(DType.U8, Shape.of(samples, 6, 6), Arena.ofAuto().allocate(values.length, 64).copyFrom(MemorySegment.ofArray(values)));
    }

    private Path codec(String name, Tensor data, Options options) throws IOException {
        Path to = Files.createDirectories(folder.resolve(name));
        try (Autoencoder autoencoder = new Autoencoder(data, options)) {
            autoencoder.run(to, _ -> { });
        }
        return to;
    }

    private Coded coded(Path codec, Tensor data) throws IOException {
        try (LatentCodec open = LatentCodec.open(codec, 1)) {
            return open.encode(data, folder.resolve("coded"), true);
        }
    }

    /** A matrix cannot follow a surface that bends: components take more bytes, and lose a multiple. */
    @Test
    void whatBendsTakesLessThanItsComponents() throws IOException {
        Tensor training = surface(3000, 1);
        Tensor test = surface(1500, 2);
        Coded trained = coded(codec("trained", training, QUICK.step(0.7).epochs(40)), test);
        double error = Double.POSITIVE_INFINITY;
        long most = 0;
        for (double step = 4; step > 0.3; step /= 1.15) {
            Coded components = coded(codec("components", training, QUICK.step(step).epochs(0)), test);
            if (components.bytes() <= 1.02 * trained.bytes()) {
                error = Math.min(error, components.squaredError());
                most = Math.max(most, components.bytes());
            }
        }
        assertTrue(most > 0.85 * trained.bytes(), most + " bytes of components, " + trained);
        assertTrue(trained.squaredError() < 0.4 * error, trained + ", components " + error);
    }

    /** Before training it is principal components: as good as these are, and the sizes are those that it says. */
    @Test
    void withoutEpochsItIsPrincipalComponents() throws IOException {
        Random random = new Random(4);
        int n = 20_000;
        float[] values = new float[n * 3];
        for (int i = 0; i < n; i++) {
            double a = 10 * random.nextGaussian();
            double b = 3 * random.nextGaussian();
            values[3 * i] = (float) (a + b) + 100;
            values[3 * i + 1] = (float) (a - b);
            values[3 * i + 2] = (float) (0.01 * random.nextGaussian());
        }
        Path to = Files.createDirectories(folder.resolve("codec"));
        try (Autoencoder autoencoder = new Autoencoder(f32(values, n, 3), QUICK.step(1).epochs(0).heldOut(0))) {
            Result result = autoencoder.run(to, _ -> { });
            assertEquals(2, result.latents());
            assertEquals(0, result.kept());
            // Of Gaussians at high rates: entropy less log2 of the step; and step^2 / 12 in each of two of three directions.
            double gaussian = 0.5 * Math.log(2 * Math.PI * Math.E) / Math.log(2);
            double bits = 2 * gaussian + Math.log(10 * Math.sqrt(2) * 3 * Math.sqrt(2)) / Math.log(2);
            assertEquals(2.0 / 12 / 3, result.after().squaredError(), 0.003);
            Coded coded = coded(to, f32(values, n, 3));
            assertEquals(result.after().squaredError(), coded.squaredError(), 1e-4);
            assertEquals(bits, 8.0 * coded.bytes() / n, 0.02 * bits);
        }
    }

    @Test
    void filesAreDecodedToTheSameNumbers() throws IOException {
        for (Tensor data : List.of(images(700, 1), surface(700, 1))) {
            Path codec = codec("codec" + data.dtype(), data, QUICK.epochs(2));
            try (LatentCodec open = LatentCodec.open(codec, 1)) {
                Path file = folder.resolve("file" + data.dtype());
                Coded coded = open.encode(data, file, false);
                assertEquals(Files.size(file), coded.bytes());
                Tensor again = open.decode(file);
                assertEquals(data.shape(), again.shape());
                assertEquals(data.dtype(), again.dtype());
                assertEquals(-1, again.data().mismatch(open.samples(open.latents(data)).data()));
                double squares = 0;
                float[] before = LatentCodec.floats(data);
                float[] after = LatentCodec.floats(again);
                for (int i = 0; i < before.length; i++) {
                    squares += Math.pow(before[i] - after[i], 2);
                }
                assertEquals(squares / before.length, coded.squaredError(), 1e-9 * squares);
                Path array = folder.resolve(data.dtype() + ".npy");
                ArrayFile.write(again, array, false);
                assertEquals(-1, ArrayFile.read(array).data().mismatch(again.data()));
                assertEquals(again.shape(), ArrayFile.read(array).shape());
            }
        }
    }

    @Test
    void theSameSeedMakesTheSameBytes() throws IOException {
        Tensor data = images(300, 1);
        Path first = codec("first", data, QUICK.epochs(2));
        Path second = codec("second", data, QUICK.epochs(2));
        Path other = codec("other", data, QUICK.epochs(2).seed(2));
        for (String name : List.of(LatentCodec.ENCODER, LatentCodec.DECODER, LatentCodec.PRIOR)) {
            assertEquals(-1, Files.mismatch(first.resolve(name), second.resolve(name)), name);
        }
        assertTrue(Files.mismatch(first.resolve(LatentCodec.DECODER), other.resolve(LatentCodec.DECODER)) >= 0);
    }

    @Test
    void whatCannotBeLearnedIsRefused() throws IOException {
        float[] values = new float[20];
        InputException same = assertThrows(InputException.class, () -> new Autoencoder(f32(values, 10, 2), QUICK));
        assertTrue(same.getMessage().contains("all samples are the same"), same.getMessage());
        values[7] = Float.NaN;
        InputException nan = assertThrows(InputException.class, () -> new Autoencoder(f32(values, 10, 2), QUICK));
        assertTrue(nan.getMessage().contains("element 1 of sample 3 is NaN"), nan.getMessage());
        assertThrows(InputException.class, () -> new Autoencoder(f32(new float[20], 20), QUICK));
        assertThrows(InputException.class, () -> new Autoencoder(f32(new float[20], 1, 20), QUICK));
        Tensor data = surface(200, 1);
        refused("only 1 is left to learn from", InputException.class, data, QUICK.heldOut(0.999));
        refused("would become numbers above 16777216", InputException.class, data, QUICK.step(1e-8));
        refused("is too large for numbers that deviate by", InputException.class, data, QUICK.step(1e6));
        refused("is too large to be trained", UnsupportedRequestException.class, data, QUICK.width(Integer.MAX_VALUE));
        for (float unit : new float[] {1e-30f, 1e30f}) {
            float[] other = data.data().toArray(ValueLayout.JAVA_FLOAT);
            for (int i = 0; i < other.length; i++) {
                other[i] *= unit;
            }
            refused("in another unit", InputException.class, f32(other, 200, WIDTH), QUICK);
        }
        UnsupportedRequestException diverged = assertThrows(UnsupportedRequestException.class, () -> codec("far", surface(200, 1), QUICK.rate(1e30)));
        assertTrue(diverged.getMessage().startsWith("the loss is"), diverged.getMessage());
        assertFalse(Files.exists(folder.resolve("far").resolve(LatentCodec.PRIOR)));
    }

    private static void refused(String why, Class<? extends RuntimeException> as, Tensor data, Options options) {
        RuntimeException e = assertThrows(as, () -> new Autoencoder(data, options));
        assertTrue(e.getMessage().contains(why), e.getMessage());
    }

    @Test
    void trainingEndsByTheClockAndByInterruption() throws IOException {
        long start = System.nanoTime();
        Autoencoder.Progress[] last = new Autoencoder.Progress[1];
        try (Autoencoder autoencoder = new Autoencoder(surface(500, 1), QUICK.epochs(1_000_000_000).time(Duration.ofSeconds(1)))) {
            autoencoder.run(folder, p -> last[0] = p);
        }
        assertTrue(last[0].step() < 1_000_000 && last[0].steps() < 1.5 * last[0].step(), last[0].toString());
        assertTrue(System.nanoTime() - start < 60e9);
        try (Autoencoder autoencoder = new Autoencoder(surface(200, 1), QUICK.epochs(1))) {
            assertThrows(ClosedByInterruptException.class, () -> autoencoder.run(folder, _ -> Thread.currentThread().interrupt()));
        }
        assertTrue(Thread.interrupted());
    }

    @Test
    void hostileFilesAreTold() throws IOException {
        Tensor data = surface(300, 1);
        Path codec = codec("codec", data, QUICK.epochs(0));
        Path file = folder.resolve("file");
        Path changed = folder.resolve("changed");
        coded(codec, data);
        Files.move(folder.resolve("coded"), file);
        byte[] bytes = Files.readAllBytes(file);
        try (LatentCodec open = LatentCodec.open(codec, 1)) {
            for (int length = 0; length < bytes.length; length += 7) {
                Files.write(changed, Arrays.copyOf(bytes, length));
                assertThrows(MalformedModelException.class, () -> open.decode(changed), length + " bytes");
            }
            Files.write(changed, Arrays.copyOf(bytes, bytes.length + 1));
            assertThrows(MalformedModelException.class, () -> open.decode(changed));
            for (int at = 0; at < bytes.length; at += 3) {
                byte[] one = bytes.clone();
                one[at] ^= 4;
                Files.write(changed, one);
                assertThrows(MalformedModelException.class, () -> open.decode(changed), "byte " + at);
            }
            try (RandomAccessFile large = new RandomAccessFile(changed.toFile(), "rw")) {
                large.setLength(0);
                large.setLength(3L << 30); // of zeros, which take no room
            }
            assertThrows(MalformedModelException.class, () -> open.decode(changed));
            for (Tensor wrong : List.of(f32(new float[46], 2, 23), f32(new float[48], 2, 4, 6), images(3, 1))) {
                InputException e = assertThrows(InputException.class, () -> open.encode(wrong, changed, true));
                assertTrue(e.getMessage().contains("but the codec is for samples of F32 24"), e.getMessage());
            }
            float[] far = new float[48];
            far[30] = 1e12f;
            InputException e = assertThrows(InputException.class, () -> open.encode(f32(far, 2, 24), changed, true));
            assertTrue(e.getMessage().startsWith("sample 1 is too far from what the codec has learned"), e.getMessage());
        }
        Path other = codec("other", data, QUICK.epochs(0).step(2));
        try (LatentCodec open = LatentCodec.open(other, 1)) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> open.decode(file));
            assertTrue(e.getMessage().contains("was made by another codec"), e.getMessage());
        }
    }

    @Test
    void hostileCodecsAreTold() throws IOException {
        Path codec = codec("codec", surface(300, 1), QUICK.epochs(0));
        Path other = codec("other", images(300, 1), QUICK.epochs(0));
        Path prior = codec.resolve(LatentCodec.PRIOR);
        byte[] bytes = Files.readAllBytes(prior);
        Table half = new Table(0, new int[] {1 << 14, 1 << 14});
        LatentCodec.writePrior(prior, DType.F32, Shape.of(WIDTH), List.of(half));
        assertThrows(MalformedModelException.class, () -> LatentCodec.open(codec, 1).close()); // of one latent
        Files.copy(other.resolve(LatentCodec.PRIOR), prior, StandardCopyOption.REPLACE_EXISTING);
        assertThrows(MalformedModelException.class, () -> LatentCodec.open(codec, 1).close());
        Random random = new Random(1);
        for (int i = 0; i < 300; i++) {
            byte[] one = bytes.clone();
            one[i < 200 ? i : random.nextInt(bytes.length)] ^= (byte) (1 << random.nextInt(8));
            Files.write(prior, i % 10 == 0 ? Arrays.copyOf(bytes, random.nextInt(bytes.length)) : one);
            try {
                LatentCodec.open(codec, 1).close();
            } catch (MalformedModelException | UnsupportedRequestException e) {
                assertTrue(e.getMessage().contains(LatentCodec.PRIOR) || e.getMessage().contains(".onnx"), e.getMessage());
            }
        }
        Files.write(prior, bytes);
        LatentCodec.open(codec, 1).close();
        Path decoder = codec.resolve(LatentCodec.DECODER);
        byte[] whole = Files.readAllBytes(decoder);
        try (RandomAccessFile large = new RandomAccessFile(decoder.toFile(), "rw")) {
            large.setLength(3L << 30);
        }
        assertThrows(MalformedModelException.class, () -> LatentCodec.open(codec, 1).close());
        Files.write(decoder, whole);
        Files.delete(codec.resolve(LatentCodec.ENCODER));
        assertThrows(NoSuchFileException.class, () -> LatentCodec.open(codec, 1));
        assertArrayEquals(bytes, Files.readAllBytes(prior));
    }
}
