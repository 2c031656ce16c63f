package dev.tensorpress.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ForeignFormatTest {
    @TempDir
    Path folder;

    private static byte[] zip(String first) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (ZipOutputStream zip = new ZipOutputStream(out)) {
            zip.putNextEntry(new ZipEntry(first));
            zip.write(1);
        }
        return out.toByteArray();
    }

    private static byte[] bytes(String text) {
        return (text + "\0".repeat(300)).getBytes(StandardCharsets.ISO_8859_1);
    }

    /** Beginnings of files as their tools write them, and what is said of them. */
    private static Map<byte[], String> samples() throws IOException {
        Map<byte[], String> all = new LinkedHashMap<>();
        for (String name : new String[] {"archive/data.pkl", "jit/data/0", "e/data/weights/weight_0"}) {
            all.put(zip(name), " is a file of PyTorch; save its tensors as safetensors");
        }
        all.put(bytes("\u0080\2\u008a\nl\u00fc\u009cF\u00f9 j\u00a8P\31.\u0080\2M\u00e9\3."), " is a pickle of Python");
        all.put(bytes("\u0080\4\u0095\n\0\0\0\0\0\0\0}\u0094\u008c\1a"), " is a pickle of Python");
        all.put(bytes("GGUF\3\0\0\0"), " is a model in GGUF");
        all.put(bytes("\34\0\0\0TFL3\24\0"), " is a model of TensorFlow Lite");
        all.put(bytes("\u0089HDF\r\n\u001a\n\0"), " is a file in HDF5");
        all.put(bytes("\u0093NUMPY\1\0v\0{'descr'"), " is an array of NumPy");
        all.put(zip("weight.npy"), " is arrays of NumPy");
        all.put(zip("model.onnx"), " is a zip archive; unpack it");
        all.put(bytes("version https://git-lfs.github.com/spec/v1\noid sha256:"), " is what Git LFS leaves in place");
        return all;
    }

    @Test
    void filesOfOtherFormatsAreToldByTheirBytes() throws IOException {
        for (String name : new String[] {"model.onnx", "model.safetensors", "model.bin"}) {
            Path file = folder.resolve(name);
            for (Map.Entry<byte[], String> e : samples().entrySet()) {
                Files.write(file, e.getKey());
                String message = assertThrows(UnsupportedRequestException.class, () -> Compressor.open(file), e.getValue())
                        .getMessage();
                assertTrue(message.startsWith(file + e.getValue()), message);
            }
        }
    }

    @Test
    void damagedFilesAreNotTakenForOthers() throws IOException {
        // A header of 640 bytes begins as a pickle does.
        Path safetensors = Files.write(folder.resolve("model"), bytes("\u0080\2\0\0\0\0\0\0{\"a\":"));
        assertThrows(MalformedModelException.class, () -> Compressor.open(safetensors));
        Path file = folder.resolve("short");
        for (byte[] sample : samples().keySet()) {
            for (int n = 0; n < 60; n++) {
                Files.write(file, Arrays.copyOf(sample, n));
                try {
                    Compressor.open(file).close();
                } catch (MalformedModelException | UnsupportedRequestException e) {
                    assertTrue(e.getMessage().startsWith(file.toString()), e.getMessage());
                }
            }
        }
    }

    @Test
    void aFolderSaysWhatItHoldsInstead() throws IOException {
        Files.writeString(folder.resolve("config.json"), "{}");
        Files.write(folder.resolve("notes.zip"), zip("a.txt"));
        assertThrows(MalformedModelException.class, () -> Compressor.open(folder));
        Path bin = Files.write(folder.resolve("pytorch_model.bin"), zip("archive/data.pkl"));
        String message = assertThrows(UnsupportedRequestException.class, () -> Compressor.open(folder)).getMessage();
        assertTrue(message.startsWith(bin + " is a file of PyTorch; "), message);
        Path onnx = Files.write(folder.resolve("model.onnx"), new byte[1]);
        message = assertThrows(UnsupportedRequestException.class, () -> Compressor.open(folder)).getMessage();
        assertEquals(folder + " holds no model in safetensors; name the file " + onnx, message);
    }
}
