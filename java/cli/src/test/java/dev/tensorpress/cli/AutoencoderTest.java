package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import dev.tensorpress.runtime.ArrayFile;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code autoencoder}, {@code encode} and {@code decode}. */
class AutoencoderTest {
    @TempDir
    Path folder;

    private Path data;
    private Path codec;

    @BeforeEach
    void write() throws IOException {
        data = array("data.npy", 400, 12, 1);
        codec = folder.resolve("codec.tpa");
    }

    /** Of two numbers, waves. */
    private Path array(String name, int samples, int width, long seed) throws IOException {
        Random random = new Random(seed);
        float[] values = new float[samples * width];
        for (int i = 0; i < samples; i++) {
            double u = random.nextGaussian();
            double v = random.nextGaussian();
            for (int k = 0; k < width; k++) {
                values[i * width + k] = (float) Math.sin(k * u + v);
            }
        }
        Path file = folder.resolve(name);
        ArrayFile.write(new Tensor(DType.F32, Shape.of(samples, width), MemorySegment.ofArray(values)), file, true);
        return file;
    }

    private static Result run(Object... args) {
        return MainTest.run(args);
    }

    @Test
    void thereAndBack() throws IOException {
        Result r = run("autoencoder", data, "-o", codec, "--step", "0.5", "--width", 32, "--epochs", 3, "--threads", 1);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("principal components") && r.out().contains("latents, of step 0.5"), r.out());
        Path other = array("other.npy", 300, 12, 2);
        Path coded = folder.resolve("other.latents");
        r = run("encode", other, "-o", coded, "--codec", codec);
        assertEquals(0, r.code(), r.err());
        assertTrue(Files.size(coded) < 0.2 * Files.size(other), r.out());
        Path back = folder.resolve("back.npy");
        r = run("decode", coded, "-o", back, "--codec", codec);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("F32 300x12"), r.out());
        assertEquals(Shape.of(300, 12), ArrayFile.read(back).shape());
        // What was in the archive is a codec as well.
        Path expanded = folder.resolve("expanded");
        assertEquals(0, run("expand", codec, "-o", expanded).code());
        Path again = folder.resolve("again.npy");
        assertEquals(0, run("decode", coded, "-o", again, "--codec", expanded).code());
        assertArrayEquals(Files.readAllBytes(back), Files.readAllBytes(again));
        // More steps than an int counts.
        r = run("autoencoder", data, "-o", folder.resolve("timed.tpa"), "--width", 8, "--batch", 1, "--epochs", Integer.MAX_VALUE, "--time", "1s", "--threads", 1);
        assertEquals(0, r.code(), r.err());
        assertFalse(r.err().contains(", -"), r.err()); // no time left is negative
        try (Stream<Path> all = Files.list(folder)) {
            assertTrue(all.noneMatch(file -> file.getFileName().toString().contains("tensorpress-")));
        }
    }

    @Test
    void wrongInputIsTold() throws IOException {
        assertEquals(0, run("autoencoder", data, "-o", codec, "--epochs", 0).code());
        Path coded = folder.resolve("coded");
        assertEquals(0, run("encode", data, "-o", coded, "--codec", codec).code());
        Path out = folder.resolve("out.npy");
        Path wide = array("wide.npy", 20, 13, 1);
        Path second = folder.resolve("second.tpa");
        assertEquals(0, run("autoencoder", wide, "-o", second, "--epochs", 0).code());
        Path short1 = folder.resolve("short");
        Files.write(short1, Arrays.copyOf(Files.readAllBytes(coded), 100));
        Path text = Files.writeString(folder.resolve("text.txt"), "text");
        told("exists", Main.IO, "autoencoder", data, "-o", codec, "--epochs", 0);
        told("missing -o", Main.USAGE, "autoencoder", data);
        told("is no file .npy, .npz or .safetensors", Main.USAGE, "autoencoder", text, "-o", out);
        told("no such file", Main.IO, "autoencoder", folder.resolve("none.npy"), "-o", out);
        ArrayFile.write(new Tensor(DType.F32, Shape.of(3, 2), MemorySegment.ofArray(new float[] {1, 2, 3, Float.NaN, 5, 6})), folder.resolve("nan.npy"), false);
        told("nan.npy: element 1 of sample 1 is NaN", Main.USAGE, "autoencoder", folder.resolve("nan.npy"), "-o", out);
        ArrayFile.write(new Tensor(DType.F32, Shape.of(6), MemorySegment.ofArray(new float[6])), folder.resolve("one.npy"), false);
        told("one.npy: expected an array of two or more samples along its first axis, found 6", Main.USAGE, "autoencoder", folder.resolve("one.npy"), "-o", out);
        told("--step", Main.USAGE, "autoencoder", data, "-o", out, "--step", "0");
        told("--rate", Main.USAGE, "autoencoder", data, "-o", out, "--rate", "x");
        told("missing --codec", Main.USAGE, "encode", data, "-o", out);
        told("missing -o", Main.USAGE, "decode", coded, "--codec", codec);
        told("wide.npy: the data are F32 20x13, but the codec is for samples of F32 12", Main.USAGE, "encode", wide, "-o", out, "--codec", codec);
        told(coded.getFileName() + " was made by another codec\n", Main.UNSUPPORTED, "decode", coded, "-o", out, "--codec", second);
        told("checksum", Main.MALFORMED, "decode", short1, "-o", out, "--codec", codec);
        told("expected a file that a codec has made", Main.MALFORMED, "decode", data, "-o", out, "--codec", codec);
        told("is no codec: it has no file encoder.onnx", Main.IO, "decode", coded, "-o", out, "--codec", folder);
        told("is no codec", Main.IO, "decode", coded, "-o", out, "--codec", data);
        // A codec may have to be signed by somebody.
        assertEquals(0, run("keygen", "--sign", "-o", folder.resolve("s.pem")).code());
        told("is not signed", Main.MALFORMED, "decode", coded, "-o", out, "--codec", codec, "--signed-by", folder.resolve("s.pub.pem"));
        told("is read, or written, by this command", Main.USAGE, "decode", coded, "-o", codec, "--codec", codec, "--force");
        assertFalse(Files.exists(out));
    }

    private static void told(String what, int code, Object... args) {
        Result r = run(args);
        assertEquals(code, r.code(), r.err());
        assertTrue(r.err().contains(what), r.err());
        assertEquals(1, r.err().strip().lines().count(), r.err());
    }

    /** Other commands list this one, and are run without the module. */
    @Test
    void theCommandIsListedWithoutTheModule() throws IOException {
        for (Class<?> command : new Class<?>[] {AutoencoderCommand.class, EncodeCommand.class, DecodeCommand.class}) {
            try (InputStream in = command.getResourceAsStream(command.getSimpleName() + ".class")) {
                assertFalse(new String(in.readAllBytes(), StandardCharsets.ISO_8859_1).contains("dev/tensorpress/train"));
            }
        }
    }
}
