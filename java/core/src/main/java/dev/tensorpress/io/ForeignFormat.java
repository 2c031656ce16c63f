package dev.tensorpress.io;

import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** Files that people take for models that can be read, told by how they begin. */
public final class ForeignFormat {
    /** Enough for the first name in a zip archive. */
    private static final int START = 256;
    private static final String ZIP = "PK\3\4";
    private static final int ZIP_NAME_LENGTH = 26;
    private static final int ZIP_NAME = 30;
    private static final int SAFETENSORS_HEADER = 8;
    private static final String TORCH = "; save its tensors as safetensors (save_pretrained of transformers, or"
            + " safetensors.torch.save_file), or export the model to ONNX (torch.onnx.export)";

    private ForeignFormat() {}

    /**
     * Returns if a file is of no format that is known, and could be a damaged one of those that are read.
     *
     * @throws UnsupportedRequestException if it is of another one: which, and how to get a model that can be read
     * @throws IOException if it cannot be read
     */
    public static void check(Path file) throws IOException {
        if (!InputFiles.isFile(file)) {
            return;
        }
        ByteBuffer start = ByteBuffer.allocate(START).order(ByteOrder.LITTLE_ENDIAN);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            while (start.hasRemaining() && channel.read(start) >= 0) {
                continue;
            }
        }
        String found = name(start, new String(start.array(), 0, start.position(), StandardCharsets.ISO_8859_1));
        if (found != null) {
            throw new UnsupportedRequestException(file + " is " + found);
        }
    }

    private static String name(ByteBuffer start, String text) {
        if (text.startsWith(ZIP)) {
            return zip(text.substring(Math.min(text.length(), ZIP_NAME),
                    Math.min(text.length(), ZIP_NAME + Short.toUnsignedInt(start.getShort(ZIP_NAME_LENGTH)))));
        }
        if (text.startsWith("\u0080") && text.length() > SAFETENSORS_HEADER && text.charAt(1) >= 2 && text.charAt(1) <= 5
                && text.charAt(SAFETENSORS_HEADER) != '{') {
            return "a pickle of Python, as old files of PyTorch are" + TORCH;
        }
        if (text.startsWith("GGUF")) {
            return "a model in GGUF, whose weights llama.cpp packs by its own tools; take the one that it was made of, in"
                    + " safetensors";
        }
        if (text.startsWith("TFL3", 4)) {
            return "a model of TensorFlow Lite; convert it to ONNX (tf2onnx --tflite)";
        }
        if (text.startsWith("\u0089HDF\r\n\u001a\n")) {
            return "a file in HDF5, as Keras writes; export the model to ONNX (model.export of Keras 3, or tf2onnx)";
        }
        if (text.startsWith("\u0093NUMPY")) {
            return "an array of NumPy; save it as safetensors (safetensors.numpy.save_file)";
        }
        if (text.startsWith("version https://git-lfs")) {
            return "what Git LFS leaves in place of a file; fetch the file itself (git lfs pull)";
        }
        return null;
    }

    /** @param first name in the archive */
    private static String zip(String first) {
        if (first.substring(first.indexOf('/') + 1).startsWith("data")) {
            return "a file of PyTorch" + TORCH;
        }
        return first.endsWith(".npy") ? "arrays of NumPy in a zip archive; save them as safetensors (safetensors.numpy.save_file)"
                : "a zip archive; unpack it, and name the model in it";
    }
}
