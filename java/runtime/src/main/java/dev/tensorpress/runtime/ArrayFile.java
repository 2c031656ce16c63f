package dev.tensorpress.runtime;

import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;

/** Files of an array. */
public final class ArrayFile {
    private static final int MOST_BYTES = Integer.MAX_VALUE - 1024;
    private static final long STEP = 8 << 20;

    private ArrayFile() {}

    /**
     * The array of a file {@code .npy}, or the only one of a file {@code .npz} or {@code .safetensors}, for as long as it can be reached.
     *
     * @throws InputException if the file is none of these, or has not one array
     * @throws dev.tensorpress.model.MalformedModelException if it is damaged
     * @throws UnsupportedRequestException if the array has 2 GiB or more, or a type that is not read
     */
    public static Tensor read(Path file) throws IOException {
        InputFiles.named(file);
        String name = file.getFileName().toString();
        Map<String, Tensor> arrays;
        if (name.endsWith(".npy")) {
            return Npy.read(file);
        } else if (name.endsWith(".npz")) {
            arrays = Npy.archive(file);
        } else if (name.endsWith(".safetensors")) {
            arrays = safetensors(file);
        } else {
            throw new InputException(file + " is no file .npy, .npz or .safetensors");
        }
        if (arrays.size() != 1) {
            throw new InputException(file + " has " + arrays.size() + " arrays" + (arrays.isEmpty() ? "" : ", " + String.join(", ", arrays.keySet()))
                    + ", where one is expected");
        }
        return arrays.values().iterator().next();
    }

    static Map<String, Tensor> safetensors(Path path) throws IOException {
        Map<String, Tensor> arrays = new LinkedHashMap<>();
        try (Safetensors file = Safetensors.open(path)) {
            for (Safetensors.Entry e : file.tensors().values()) {
                if (e.length() > MOST_BYTES) {
                    throw new UnsupportedRequestException(path + ": " + e.name() + " is an array of 2 GiB or more; at most that is read");
                }
                MemorySegment data = Arena.ofAuto().allocate(e.length(), Long.BYTES);
                file.read(e, data);
                arrays.put(e.name(), new Tensor(e.dtype(), e.shape(), data));
            }
        }
        return arrays;
    }

    /**
     * Writes a file {@code .npy}, whole or not at all.
     *
     * @param array of f32, f64 or u8, of less than 2 GiB
     * @param replace whether a file that is there is replaced
     */
    public static void write(Tensor array, Path file, boolean replace) throws IOException {
        String type = switch (array.dtype()) {
            case F32 -> "<f4";
            case F64 -> "<f8";
            case U8 -> "|u1";
            default -> throw new IllegalArgumentException("arrays of " + array.dtype() + " are not written");
        };
        String shape = Arrays.stream(array.shape().dims()).mapToObj(d -> d + ",").collect(Collectors.joining(" "));
        String header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + shape + "), }";
        // Data begin at a multiple of 64 bytes.
        header += " ".repeat(63 - (10 + header.length()) % 64) + "\n";
        ByteBuffer start = ByteBuffer.allocate(10 + header.length()).put(new byte[] {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0})
                .put((byte) header.length()).put((byte) (header.length() >> 8)).put(header.getBytes(StandardCharsets.US_ASCII)).flip();
        try (DurableFile out = new DurableFile(file.toAbsolutePath().getParent(), file.getFileName().toString())) {
            out.write(start);
            for (long at = 0; at < array.data().byteSize(); at += STEP) {
                // Segments on the heap are no buffers.
                out.write(ByteBuffer.wrap(array.data().asSlice(at, Math.min(STEP, array.data().byteSize() - at)).toArray(ValueLayout.JAVA_BYTE)));
            }
            out.commit(file, replace);
        }
    }

    /** @throws UnsupportedRequestException if it would have 2 GiB or more */
    static MemorySegment allocate(DType type, Shape shape) {
        if (shape.elements() > MOST_BYTES / type.bytes(1)) {
            throw new UnsupportedRequestException("an array of " + shape + " would have 2 GiB or more");
        }
        return Arena.ofAuto().allocate(Math.max(1, type.bytes(shape.elements())), 64).asSlice(0, type.bytes(shape.elements()));
    }
}
