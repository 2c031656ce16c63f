package dev.tensorpress.model.safetensors;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.CharBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A file of named tensors (github.com/huggingface/safetensors, "Format"). The file is mapped; tensors are views of the
 * mapping and die with {@link #close}.
 *
 * <p>A header of JSON describes tensors that fill the rest of the file without gaps. Whatever departs from that is refused
 * with the byte where it shows; no two readers can take one file for different things. A name is never used as a path.
 */
public final class Safetensors implements AutoCloseable {
    /** Bytes of the header at most, as other readers have it. */
    static final int LARGEST_HEADER = 100_000_000;
    static final String METADATA = "__metadata__";
    private static final int PREFIX = 8;
    private static final int DECODED_AT_ONCE = 1 << 13;

    private final Path path;
    private final Arena arena;
    private final MemorySegment file;
    private final long dataStart;
    private final Map<String, Entry> tensors = new LinkedHashMap<>();
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

    private Safetensors(Path path, Arena arena, MemorySegment file) {
        this.path = path;
        this.arena = arena;
        this.file = file;
        long size = file.byteSize();
        if (size < PREFIX) {
            throw bad(0, "expected a safetensors file, this has " + size + " bytes");
        }
        long n = file.get(ValueLayout.JAVA_LONG_UNALIGNED, 0);
        if (n < 0 || n > LARGEST_HEADER) {
            throw bad(0, "expected the length of a safetensors header, at most " + LARGEST_HEADER + ", found "
                    + Long.toUnsignedString(n));
        }
        if (n > size - PREFIX) {
            throw bad(0, "the header claims " + n + " bytes where " + (size - PREFIX) + " are left");
        }
        if (n < 2 || file.get(ValueLayout.JAVA_BYTE, PREFIX) != '{') {
            throw bad(PREFIX, "expected a header that starts with '{'");
        }
        this.dataStart = PREFIX + n;
        byte[] header = file.asSlice(PREFIX, n).toArray(ValueLayout.JAVA_BYTE);
        checkText(header);
        try (JsonParser json = factory().createParser(header)) {
            read(json);
        } catch (JsonProcessingException e) {
            long at = e.getLocation() == null ? -1 : e.getLocation().getByteOffset();
            throw bad(at < 0 ? PREFIX : PREFIX + at, "the header is not JSON: " + e.getOriginalMessage());
        } catch (IOException e) {
            throw bad(PREFIX, "the header cannot be read: " + e.getMessage());
        }
        checkRanges();
    }

    private static JsonFactory factory() {
        // Names and strings are as long as the header allows; nesting is refused anyway.
        return new JsonFactoryBuilder().disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
                .disable(JsonFactory.Feature.FAIL_ON_SYMBOL_HASH_OVERFLOW)
                .streamReadConstraints(StreamReadConstraints.builder().maxNameLength(LARGEST_HEADER)
                        .maxStringLength(LARGEST_HEADER).maxNestingDepth(8).build()).build();
    }

    /**
     * Opens a file. The caller closes it.
     *
     * @throws MalformedModelException if it is not a safetensors file, or not a consistent one
     * @throws IOException if it cannot be read
     */
    public static Safetensors open(Path path) throws IOException {
        if (!Files.exists(path)) {
            throw new NoSuchFileException(path.toString());
        }
        if (!Files.isRegularFile(path)) {
            throw new MalformedModelException(path, -1, "expected a safetensors file, this is not a regular file");
        }
        Arena arena = Arena.ofShared();
        // The mapping outlives the channel.
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            return new Safetensors(path, arena,
                    channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena));
        } catch (IOException | RuntimeException | Error e) {
            arena.close();
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
        Entry e = entry(name);
        return new Tensor(e.dtype, e.shape, file.asSlice(e.start, e.length));
    }

    Entry entry(String name) {
        Entry e = tensors.get(name);
        if (e == null) {
            throw bad(PREFIX, "there is no tensor '" + name + "'");
        }
        return e;
    }

    /** Where the value of a key of the metadata starts in the file; the header's start if there is no such key. */
    long metadataAt(String key) {
        return metadataAt.getOrDefault(key, (long) PREFIX);
    }

    MalformedModelException bad(long offset, String expected) {
        return new MalformedModelException(path, offset, expected);
    }

    @Override
    public void close() {
        arena.close();
    }

    // Reading

    /** Strictly UTF-8, in small pieces: JSON parsers let some wrong sequences pass. */
    private void checkText(byte[] header) {
        CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder();
        ByteBuffer in = ByteBuffer.wrap(header);
        CharBuffer out = CharBuffer.allocate(DECODED_AT_ONCE);
        CoderResult r;
        do {
            r = decoder.decode(in, out.clear(), true);
            if (r.isError()) {
                throw bad(PREFIX + in.position(), "the header is not UTF-8");
            }
        } while (r.isOverflow());
    }

    private void read(JsonParser json) throws IOException {
        boolean metadataRead = false;
        json.nextToken();
        while (json.nextToken() == JsonToken.FIELD_NAME) {
            long at = at(json);
            String name = text(json);
            if (json.nextToken() != JsonToken.START_OBJECT) {
                throw bad(at(json), "expected an object for '" + name + "'");
            }
            if (name.equals(METADATA)) {
                if (metadataRead) {
                    throw bad(at, METADATA + " is there twice");
                }
                metadataRead = true;
                readMetadata(json);
            } else if (tensors.put(name, readTensor(json, name, at)) != null) {
                throw bad(at, "tensor '" + name + "' is there twice");
            }
        }
        if (json.currentToken() != JsonToken.END_OBJECT || json.nextToken() != null) {
            throw bad(at(json), "expected the end of the header");
        }
    }

    private void readMetadata(JsonParser json) throws IOException {
        while (json.nextToken() == JsonToken.FIELD_NAME) {
            long at = at(json);
            String key = text(json);
            if (json.nextToken() != JsonToken.VALUE_STRING) {
                throw bad(at(json), "expected a string as " + METADATA + " '" + key + "'");
            }
            metadataAt.put(key, at(json));
            if (metadata.put(key, text(json)) != null) {
                throw bad(at, METADATA + " '" + key + "' is there twice");
            }
        }
    }

    private Entry readTensor(JsonParser json, String name, long at) throws IOException {
        DType dtype = null;
        long[] shape = null;
        long[] offsets = null;
        Set<String> keys = new HashSet<>(4);
        while (json.nextToken() == JsonToken.FIELD_NAME) {
            String key = json.currentName();
            if (!keys.add(key)) {
                throw bad(at(json), "'" + key + "' of tensor '" + name + "' is there twice");
            }
            long keyAt = at(json);
            json.nextToken();
            switch (key) {
                case "dtype" -> dtype = type(json, name);
                case "shape" -> shape = numbers(json, "shape", name);
                case "data_offsets" -> {
                    offsets = numbers(json, "data_offsets", name);
                    if (offsets.length != 2) {
                        throw bad(keyAt, "data_offsets of tensor '" + name + "' are " + offsets.length
                                + " numbers, expected 2");
                    }
                }
                default -> throw bad(keyAt, "tensor '" + name
                        + "': expected dtype, shape or data_offsets, found '" + key + "'");
            }
        }
        if (dtype == null || shape == null || offsets == null) {
            throw bad(at, "tensor '" + name + "' has no "
                    + (dtype == null ? "dtype" : shape == null ? "shape" : "data_offsets"));
        }
        return entry(name, dtype, shape, offsets, at);
    }

    private Entry entry(String name, DType dtype, long[] dims, long[] offsets, long at) {
        long room = file.byteSize() - dataStart;
        if (offsets[0] > offsets[1] || offsets[1] > room) {
            throw bad(at, "tensor '" + name + "' claims bytes " + offsets[0] + " to " + offsets[1] + " of "
                    + room);
        }
        long bytes;
        try {
            long n = 1;
            for (long d : dims) {
                n = Math.multiplyExact(n, d);
            }
            bytes = dtype.bytes(n);
        } catch (ArithmeticException e) {
            throw bad(at, "the size of tensor '" + name + "' does not fit in 64 bits: " + Arrays.toString(dims));
        }
        if (bytes != offsets[1] - offsets[0]) {
            throw bad(at, "tensor '" + name + "': shape and type ask for " + bytes + " bytes, data_offsets for "
                    + (offsets[1] - offsets[0]));
        }
        return new Entry(name, dtype, Shape.of(dims), dataStart + offsets[0], bytes, at);
    }

    private DType type(JsonParser json, String name) throws IOException {
        if (json.currentToken() != JsonToken.VALUE_STRING) {
            throw bad(at(json), "expected the type of tensor '" + name + "'");
        }
        DType type = typeOf(json.getText());
        if (type == null) {
            throw bad(at(json), "tensor '" + name + "' has a type that is not known here: " + json.getText());
        }
        return type;
    }

    /** Null if there is no such type, or none here. */
    static DType typeOf(String id) {
        return switch (id) {
            case "F64" -> DType.F64;
            case "F32" -> DType.F32;
            case "F16" -> DType.F16;
            case "BF16" -> DType.BF16;
            case "F8_E4M3" -> DType.F8E4M3;
            case "F8_E5M2" -> DType.F8E5M2;
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

    private long[] numbers(JsonParser json, String what, String name) throws IOException {
        if (json.currentToken() != JsonToken.START_ARRAY) {
            throw bad(at(json), "expected an array as " + what + " of tensor '" + name + "'");
        }
        long[] values = new long[4];
        int n = 0;
        while (json.nextToken() != JsonToken.END_ARRAY) {
            if (json.currentToken() != JsonToken.VALUE_NUMBER_INT || json.getText().charAt(0) == '-') {
                throw bad(at(json), "expected whole numbers from 0 up as " + what + " of tensor '" + name + "'");
            }
            if (json.getNumberType() == JsonParser.NumberType.BIG_INTEGER) {
                throw bad(at(json), what + " of tensor '" + name + "' does not fit in 64 bits: " + json.getText());
            }
            if (n == values.length) {
                values = Arrays.copyOf(values, 2 * n);
            }
            values[n++] = json.getLongValue();
        }
        return Arrays.copyOf(values, n);
    }

    /** Where the current token starts in the file. */
    private static long at(JsonParser json) {
        return PREFIX + Math.max(0, json.currentTokenLocation().getByteOffset());
    }

    /** Names with half a surrogate pair, which an escape can make, are no text: two of them could become one. */
    private String text(JsonParser json) throws IOException {
        String s = json.getText();
        for (int i = 0; i < s.length(); i++) {
            if (Character.isSurrogate(s.charAt(i))) {
                if (!Character.isHighSurrogate(s.charAt(i)) || i + 1 == s.length()
                        || !Character.isLowSurrogate(s.charAt(i + 1))) {
                    throw bad(at(json), "a string with half a surrogate pair");
                }
                i++;
            }
        }
        return s;
    }

    private void checkRanges() {
        List<Entry> sorted = new ArrayList<>(tensors.values());
        sorted.sort(Comparator.comparingLong(Entry::start).thenComparingLong(Entry::length));
        long end = dataStart;
        String before = "the header";
        for (Entry e : sorted) {
            if (e.start != end) {
                throw bad(e.described, "tensor '" + e.name + "' starts at byte " + e.start + " of the file, "
                        + (e.start < end ? "inside " : "behind a gap after ") + before + ", which ends at " + end);
            }
            end = e.start + e.length;
            before = "'" + e.name + "'";
        }
        if (end != file.byteSize()) {
            throw bad(end, "expected the end of the file after " + before + ", found " + (file.byteSize() - end)
                    + " more bytes");
        }
    }
}
