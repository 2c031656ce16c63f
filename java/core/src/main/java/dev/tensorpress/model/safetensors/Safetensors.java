package dev.tensorpress.model.safetensors;

import com.fasterxml.jackson.core.JsonToken;
import dev.tensorpress.io.ForeignFormat;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.io.PageCache;
import dev.tensorpress.io.StrictJson;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A file of named tensors (github.com/huggingface/safetensors, "Format"). The file is mapped; tensors are views of the
 * mapping and die with {@link #close}.
 *
 * <p>A header of JSON describes tensors that fill the rest of the file without gaps. Whatever departs from that is refused
 * with the byte where it shows; no two readers can take one file for different things. A name is never used as a path.
 *
 * <p>Opening reads the header alone, and through the file, not the mapping; all ranges are checked against the file's size at
 * that time. A file must not become shorter while it is open: reading what is gone from a mapping throws
 * {@link InternalError} from Java code, and kills the process from native code, as with every mapping. Who cannot rely on
 * that copies ranges, {@link Entry#start} and {@link Entry#length}, through a channel, which only gets an error.
 */
public final class Safetensors implements AutoCloseable {
    /** Bytes of the header at most, as other readers have it. */
    public static final int LARGEST_HEADER = 100_000_000;
    static final String METADATA = "__metadata__";
    private static final int PREFIX = 8;
    private static final int READ_AT_ONCE = 1 << 20;

    private final Path path;
    private final Arena arena;
    private final MemorySegment file;
    private final long size;
    private final long dataStart;
    private final Map<String, Entry> tensors;
    /** By their places in the file. */
    private final List<Entry> sorted = new ArrayList<>();
    private final Map<String, String> metadata = new LinkedHashMap<>();
    /** Where in the file the value of each key of the metadata starts. */
    private final Map<String, Long> metadataAt = new LinkedHashMap<>();

    /**
     * A tensor.
     *
     * @param start its first byte in the file
     * @param described where the header describes it
     */
    public record Entry(String name, DType dtype, Shape shape, long start, long length, long described) {}

    private Safetensors(Path path, Arena arena, FileChannel channel) throws IOException {
        this.path = path;
        this.arena = arena;
        long size = channel.size();
        if (size < PREFIX) {
            throw bad(0, "expected a safetensors file, this has " + size + " bytes");
        }
        long n = ByteBuffer.wrap(read(channel, 0, PREFIX)).order(ByteOrder.LITTLE_ENDIAN).getLong();
        if (n < 0 || n > LARGEST_HEADER) {
            throw bad(0, "expected the length of a safetensors header, at most " + LARGEST_HEADER + ", found "
                    + Long.toUnsignedString(n));
        }
        if (n > size - PREFIX) {
            throw bad(0, "the header claims " + n + " bytes where " + (size - PREFIX) + " are left");
        }
        // Not through the mapping: should the file become shorter meanwhile, this is an error and not a fault.
        byte[] header = read(channel, PREFIX, (int) n);
        if (n < 2 || header[0] != '{') {
            throw bad(PREFIX, "expected a header that starts with '{'");
        }
        this.dataStart = PREFIX + n;
        this.size = size;
        StrictJson.read(path, header, PREFIX, "the header", this::read);
        // All at once: a map that grows while there is so much to read is what most of the time would go to.
        this.tensors = LinkedHashMap.newLinkedHashMap(sorted.size());
        for (Entry e : sorted) {
            if (tensors.put(e.name, e) != null) {
                throw bad(e.described, "tensor '" + e.name + "' is there twice");
            }
        }
        checkRanges();
        this.file = channel.map(FileChannel.MapMode.READ_ONLY, 0, size, arena);
    }

    private byte[] read(FileChannel channel, long at, int n) throws IOException {
        ByteBuffer b = ByteBuffer.allocate(n);
        while (b.position() < n) {
            // In pieces: a channel copies what it reads through a buffer of the same size.
            b.limit(Math.min(n, b.position() + READ_AT_ONCE));
            if (channel.read(b, at + b.position()) < 0) {
                throw bad(at + b.position(), "the file became shorter while it was read");
            }
        }
        return b.array();
    }

    /**
     * Opens a file. The caller closes it.
     *
     * @throws MalformedModelException if it is not a safetensors file, or not a consistent one
     * @throws UnsupportedRequestException if it is a {@link ForeignFormat}
     * @throws IOException if it cannot be read
     */
    public static Safetensors open(Path path) throws IOException {
        if (!Files.exists(path)) {
            throw new NoSuchFileException(path.toString());
        }
        if (!Files.isRegularFile(path)) {
            throw InputFiles.irregular(path, "a safetensors file");
        }
        Arena arena = Arena.ofShared();
        // The mapping outlives the channel.
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            return new Safetensors(path, arena, channel);
        } catch (IOException | RuntimeException | Error e) {
            arena.close();
            if (e instanceof MalformedModelException) {
                ForeignFormat.check(path);
            }
            throw e;
        }
    }

    /** True if a file starts like one of this format; whether it is one only {@link #open} finds out. */
    public static boolean resembles(Path path) throws IOException {
        ByteBuffer start = ByteBuffer.allocate(PREFIX + 1).order(ByteOrder.LITTLE_ENDIAN);
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            while (start.hasRemaining() && channel.read(start) >= 0) {
                continue;
            }
        }
        long n = start.getLong(0);
        return !start.hasRemaining() && n > 1 && n <= LARGEST_HEADER && start.get(PREFIX) == '{';
    }

    /** The file. */
    public Path path() {
        return path;
    }

    /** Bytes of the file when it was opened. */
    public long bytes() {
        return size;
    }

    /** Bytes that precede the data. */
    long headerLength() {
        return dataStart;
    }

    /** All tensors by name, in the order of the header. */
    public Map<String, Entry> tensors() {
        return Collections.unmodifiableMap(tensors);
    }

    /** What the header says besides, in its order. */
    public Map<String, String> metadata() {
        return Collections.unmodifiableMap(metadata);
    }

    /**
     * A view of one tensor; any alignment.
     *
     * @throws MalformedModelException if there is none of that name
     */
    public Tensor tensor(String name) {
        return tensor(entry(name));
    }

    public Tensor tensor(Entry e) {
        return new Tensor(e.dtype, e.shape, file.asSlice(e.start, e.length));
    }

    /**
     * Copies a tensor's data, through the file and not the mapping.
     *
     * @param to of the same length
     * @throws IOException if the file cannot be read, or does not have them any more
     */
    public void read(Entry e, MemorySegment to) throws IOException {
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ); PageCache cache = new PageCache(path)) {
            for (long at = 0; at < e.length; ) {
                ByteBuffer b = to.asSlice(at, Math.min(READ_AT_ONCE, e.length - at)).asByteBuffer();
                int n = channel.read(b, e.start + at);
                if (n < 0) {
                    throw new IOException("cannot read " + path + ": it became shorter while it was read: tensor '" + e.name + "' has "
                            + e.length + " bytes at " + e.start + ", the file " + channel.size() + " in all");
                }
                at += n;
            }
            cache.drop(e.start, e.length);
        }
    }

    /** All tensors in the order of their data. */
    public List<Entry> inOrder() {
        return sorted;
    }

    public Entry entry(String name) {
        Entry e = tensors.get(name);
        if (e == null) {
            throw bad(PREFIX, "there is no tensor '" + name + "'");
        }
        return e;
    }

    /** Where the value of a key of the metadata starts in the file; the header's start if there is no such key. */
    public long metadataAt(String key) {
        return metadataAt.getOrDefault(key, (long) PREFIX);
    }

    public MalformedModelException bad(long offset, String expected) {
        return new MalformedModelException(path, offset, expected);
    }

    @Override
    public void close() {
        arena.close();
    }

    // Reading

    private Void read(StrictJson json) {
        boolean metadataRead = false;
        json.next();
        while (json.next() == JsonToken.FIELD_NAME) {
            long at = json.at();
            String name = json.text();
            if (json.next() != JsonToken.START_OBJECT) {
                throw json.bad("expected an object for '" + name + "'");
            }
            if (name.equals(METADATA)) {
                if (metadataRead) {
                    throw bad(at, METADATA + " is there twice");
                }
                metadataRead = true;
                readMetadata(json);
            } else {
                sorted.add(readTensor(json, name, at));
            }
        }
        json.end();
        return null;
    }

    private void readMetadata(StrictJson json) {
        while (json.next() == JsonToken.FIELD_NAME) {
            long at = json.at();
            String key = json.text();
            if (json.next() != JsonToken.VALUE_STRING) {
                throw json.bad("expected a string as " + METADATA + " '" + key + "'");
            }
            metadataAt.put(key, json.at());
            if (metadata.put(key, json.text()) != null) {
                throw bad(at, METADATA + " '" + key + "' is there twice");
            }
        }
    }

    private Entry readTensor(StrictJson json, String name, long at) {
        DType dtype = null;
        long[] shape = null;
        long[] offsets = null;
        while (json.next() == JsonToken.FIELD_NAME) {
            String key = json.text();
            boolean twice;
            switch (key) {
                case "dtype" -> twice = dtype != null;
                case "shape" -> twice = shape != null;
                case "data_offsets" -> twice = offsets != null;
                default -> throw json.bad("tensor '" + name + "': expected dtype, shape or data_offsets, found '" + key + "'");
            }
            if (twice) {
                throw json.bad("'" + key + "' of tensor '" + name + "' is there twice");
            }
            json.next();
            switch (key) {
                case "dtype" -> dtype = type(json, name);
                case "shape" -> shape = numbers(json, "shape", name);
                default -> {
                    offsets = numbers(json, "data_offsets", name);
                    if (offsets.length != 2) {
                        throw json.bad("data_offsets of tensor '" + name + "' are " + offsets.length + " numbers, expected 2");
                    }
                }
            }
        }
        if (dtype == null || shape == null || offsets == null) {
            throw bad(at, "tensor '" + name + "' has no "
                    + (dtype == null ? "dtype" : shape == null ? "shape" : "data_offsets"));
        }
        return entry(name, dtype, shape, offsets, at);
    }

    private Entry entry(String name, DType dtype, long[] dims, long[] offsets, long at) {
        long room = size - dataStart;
        if (offsets[0] > offsets[1] || offsets[1] > room) {
            throw bad(at, "tensor '" + name + "' claims bytes " + offsets[0] + " to " + offsets[1] + " of "
                    + room);
        }
        long n = 1;
        long bytes;
        try {
            for (long d : dims) {
                n = Math.multiplyExact(n, d);
            }
            bytes = dtype.bytes(n);
        } catch (ArithmeticException e) {
            throw bad(at, "the size of tensor '" + name + "' does not fit in 64 bits: " + Arrays.toString(dims));
        }
        if (dtype.bits() < 8 && n % 8 * dtype.bits() % 8 != 0) {
            throw bad(at, "tensor '" + name + "' ends inside a byte: " + n + " elements of " + dtype.bits() + " bits");
        }
        if (bytes != offsets[1] - offsets[0]) {
            throw bad(at, "tensor '" + name + "': shape and type ask for " + bytes + " bytes, data_offsets for "
                    + (offsets[1] - offsets[0]));
        }
        return new Entry(name, dtype, Shape.of(dims), dataStart + offsets[0], bytes, at);
    }

    private static DType type(StrictJson json, String name) {
        if (json.token() != JsonToken.VALUE_STRING) {
            throw json.bad("expected the type of tensor '" + name + "'");
        }
        DType type = typeOf(json.text());
        if (type == null) {
            throw json.bad("tensor '" + name + "' has a type that is not known here: " + json.text());
        }
        return type;
    }

    /** Null if the format has no such type. */
    public static DType typeOf(String id) {
        return switch (id) {
            case "F64" -> DType.F64;
            case "F32" -> DType.F32;
            case "F16" -> DType.F16;
            case "BF16" -> DType.BF16;
            case "F8_E4M3" -> DType.F8E4M3;
            case "F8_E5M2" -> DType.F8E5M2;
            case "F8_E4M3FNUZ" -> DType.F8E4M3FNUZ;
            case "F8_E5M2FNUZ" -> DType.F8E5M2FNUZ;
            case "F8_E8M0" -> DType.F8E8M0;
            case "F6_E2M3" -> DType.F6E2M3;
            case "F6_E3M2" -> DType.F6E3M2;
            case "F4" -> DType.F4;
            case "C64" -> DType.C64;
            case "I64" -> DType.I64;
            case "I32" -> DType.I32;
            case "I16" -> DType.I16;
            case "I8" -> DType.I8;
            case "U64" -> DType.U64;
            case "U32" -> DType.U32;
            case "U16" -> DType.U16;
            case "U8" -> DType.U8;
            case "BOOL" -> DType.BOOL;
            default -> null;
        };
    }

    private static long[] numbers(StrictJson json, String what, String name) {
        if (json.token() != JsonToken.START_ARRAY) {
            throw json.bad("expected an array as " + what + " of tensor '" + name + "'");
        }
        long[] values = new long[4];
        int n = 0;
        while (json.next() != JsonToken.END_ARRAY) {
            if (json.token() != JsonToken.VALUE_NUMBER_INT || json.negative()) {
                throw json.bad("expected whole numbers from 0 up as " + what + " of tensor '" + name + "'");
            }
            if (!json.fits()) {
                throw json.bad(what + " of tensor '" + name + "' does not fit in 64 bits");
            }
            if (n == values.length) {
                values = Arrays.copyOf(values, 2 * n);
            }
            values[n++] = json.number();
        }
        return Arrays.copyOf(values, n);
    }

    private void checkRanges() {
        sorted.sort((a, b) -> a.start == b.start ? Long.compare(a.length, b.length) : Long.compare(a.start, b.start));
        long end = dataStart;
        Entry before = null;
        for (Entry e : sorted) {
            if (e.start != end) {
                throw bad(e.described, "tensor '" + e.name + "' starts at byte " + e.start + " of the file, "
                        + (e.start < end ? "inside " : "behind a gap after ") + called(before) + ", which ends at " + end);
            }
            end = e.start + e.length;
            before = e;
        }
        if (end != size) {
            throw bad(end, "expected the end of the file after " + called(before) + ", found " + (size - end)
                    + " more bytes");
        }
    }

    private static String called(Entry e) {
        return e == null ? "the header" : "'" + e.name + "'";
    }
}
