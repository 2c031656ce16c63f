package dev.tensorpress.model.gguf;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What llama.cpp's {@code llama-imatrix} writes: of each weight, by its name in GGUF, sums of the squares of what it is multiplied with. Two
 * forms of files are read, GGUF of general type {@code imatrix}, and the older one without a magic number.
 *
 * @param entries by name, in the order of the file
 * @param datasets what the model ran on, as the file has it; can be empty
 * @param chunks how many pieces of text that was
 */
public record ImportanceMatrix(Map<String, Entry> entries, List<String> datasets, long chunks) {
    private static final int MAGIC = 0x46554747; // "GGUF"
    private static final int SAFETENSORS_HEADER = 8;
    /** Of GGUF, whose third differs from the second in nothing that is little-endian. */
    private static final int LEAST_VERSION = 2;
    private static final int VERSION = 3;
    private static final int F32 = 0;
    private static final int DIMENSIONS = 4;
    private static final int ALIGNMENT = 32;
    private static final int STRING = 8;
    private static final int ARRAY = 9;
    private static final int U32 = 4;
    /** Bytes of a value of each type; 0 of those that say themselves how long they are. */
    private static final int[] SIZES = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    /** Of a tensor's description, and of a value's, with empty names. */
    private static final int LEAST_TENSOR = 24;
    private static final int LEAST_VALUE = 13;
    private static final String SQUARES = ".in_sum2";
    private static final String SUMS = ".in_sum";
    private static final String COUNTS = ".counts";

    /**
     * What one weight is multiplied with. A stack of experts has a part of each, one behind the other.
     *
     * @param counts rows of each part; 0 if an expert was never asked. The older form has one part of all experts
     * @param squares sums of squares, all inputs of a part together
     * @param sums of the inputs, in the same order; null if the file has none
     */
    public record Entry(long[] counts, float[] squares, float[] sums) {}

    /** True if a file begins as one of the two forms does, and not as safetensors. */
    public static boolean detect(Path file) throws IOException {
        try (Source in = new Source(file)) {
            // Safetensors begin with the length of their header, at most 100 MB, in eight bytes; the older form with two numbers, and a name.
            return in.left() > SAFETENSORS_HEADER && (in.i32("") == MAGIC || in.i32("") != 0);
        }
    }

    /**
     * Reads a file.
     *
     * @throws MalformedModelException if it is of neither form, or not a consistent one
     * @throws UnsupportedRequestException if it is GGUF of another version, byte order or type
     * @throws IOException if it cannot be read
     */
    public static ImportanceMatrix read(Path file) throws IOException {
        try (Source in = new Source(file)) {
            int first = in.i32("an importance matrix");
            return first == MAGIC ? new Gguf(in).read() : older(in, first);
        }
    }

    private static ImportanceMatrix older(Source in, int count) throws IOException {
        if (count < 1) {
            throw in.bad(0, "expected the number of entries of an importance matrix, found " + count);
        }
        Map<String, Entry> entries = new LinkedHashMap<>();
        long most = 0;
        for (int i = 0; i < count; i++) {
            long at = in.at();
            int length = in.i32("the length of a name");
            if (length < 1) {
                throw in.bad(at, "expected the length of a name, found " + length);
            }
            String name = in.text(length, "a name");
            int calls = in.i32("the number of calls");
            int n = in.i32("the number of values");
            if (calls < 0 || n < 1) {
                throw in.bad(in.at() - 8, "expected how often '" + name + "' was called, and how many values it has, found " + calls + " and " + n);
            }
            float[] squares = in.floats(n, false, "sums of squares of '" + name + "'");
            // Sums are of all calls; without a call, of one.
            if (entries.put(name, new Entry(new long[] {Math.max(1, calls)}, squares, null)) != null) {
                throw in.bad(at, "'" + name + "' is there twice");
            }
            most = Math.max(most, calls);
        }
        List<String> datasets = new ArrayList<>();
        if (in.left() > 0) {
            in.i32("the number of the last chunk");
            if (in.left() > 0) {
                String dataset = in.text(in.i32("the length of a name"), "the name of what it was made of");
                datasets.add(dataset);
            }
        }
        if (in.left() > 0) {
            throw in.bad(in.at(), "expected the end of an importance matrix, found " + in.left() + " more bytes");
        }
        return new ImportanceMatrix(entries, datasets, most);
    }

    /** The newer form: metadata, descriptions of tensors, and these without gaps but for their alignment. */
    private static final class Gguf {
        private final Source in;
        private String type;
        private long alignment = ALIGNMENT;
        private long chunks = -1;
        private final List<String> datasets = new ArrayList<>();
        private final Map<String, Tensor> tensors = new LinkedHashMap<>();

        /** @param at where it is described */
        private record Tensor(long at, long first, long elements) {}

        Gguf(Source in) {
            this.in = in;
        }

        ImportanceMatrix read() throws IOException {
            int version = in.i32("the version of GGUF");
            if (version < LEAST_VERSION || version > VERSION) {
                throw new UnsupportedRequestException(in.path() + " is GGUF of version " + Integer.toUnsignedString(version)
                        + ", or in the other byte order; known here are " + LEAST_VERSION + " and " + VERSION);
            }
            long count = count("tensors", LEAST_TENSOR);
            long values = count("values", LEAST_VALUE);
            for (long i = 0; i < values; i++) {
                metadata();
            }
            if (!"imatrix".equals(type)) {
                throw new UnsupportedRequestException(in.path() + " is GGUF, but no importance matrix: its general.type is "
                        + (type == null ? "not said" : "'" + type + "'"));
            }
            if (chunks < 0) {
                throw in.bad(in.at(), "expected imatrix.chunk_count among the metadata");
            }
            long end = 0;
            for (long i = 0; i < count; i++) {
                end = tensor(end);
            }
            in.skip(Math.floorMod(-in.at(), alignment), "padding");
            return new ImportanceMatrix(entries(), datasets, chunks);
        }

        private long count(String what, int least) throws IOException {
            long at = in.at();
            long n = in.i64("the number of " + what);
            if (n < 0 || n > in.left() / least) {
                throw in.bad(at, "expected the number of " + what + ", at most " + in.left() / least + ", found " + Long.toUnsignedString(n));
            }
            return n;
        }

        private void metadata() throws IOException {
            String key = in.text(in.i64("the length of a key"), "a key");
            long at = in.at();
            int kind = in.i32("the type of a value");
            switch (key) {
                case "general.type" -> type = string(at, kind, key);
                case "general.alignment" -> {
                    alignment = number(at, kind, key);
                    if (Long.bitCount(alignment) != 1) {
                        throw in.bad(at, "expected a power of two as " + key + ", found " + alignment);
                    }
                }
                case "imatrix.chunk_count" -> chunks = number(at, kind, key);
                case "imatrix.datasets" -> {
                    if (kind != ARRAY || in.i32("the type of elements") != STRING) {
                        throw in.bad(at, "expected texts as " + key);
                    }
                    long n = count("texts", 8);
                    for (long i = 0; i < n; i++) {
                        datasets.add(in.text(in.i64("the length of a text"), "a text"));
                    }
                }
                default -> skip(at, kind, 0);
            }
        }

        private String string(long at, int kind, String key) throws IOException {
            if (kind != STRING) {
                throw in.bad(at, "expected a text as " + key);
            }
            return in.text(in.i64("the length of a text"), "a text");
        }

        private long number(long at, int kind, String key) throws IOException {
            if (kind != U32) {
                throw in.bad(at, "expected a number of 32 bits as " + key);
            }
            return Integer.toUnsignedLong(in.i32("a number"));
        }

        private void skip(long at, int kind, int depth) throws IOException {
            if (kind < 0 || kind >= SIZES.length) {
                throw in.bad(at, "expected the type of a value, found " + Integer.toUnsignedString(kind));
            }
            if (kind == STRING) {
                in.skip(in.i64("the length of a text"), "a text");
            } else if (kind == ARRAY) {
                if (depth == DIMENSIONS) {
                    throw in.bad(at, "expected at most " + DIMENSIONS + " arrays in each other");
                }
                int element = in.i32("the type of elements");
                boolean sized = element >= 0 && element < SIZES.length && SIZES[element] > 0;
                long n = count("elements", sized ? SIZES[element] : 8);
                if (sized) {
                    in.skip(n * SIZES[element], "elements");
                    return;
                }
                for (long i = 0; i < n; i++) {
                    skip(at, element, depth + 1);
                }
            } else {
                in.skip(SIZES[kind], "a value");
            }
        }

        /** @param first where its data have to start; @return where those of the next one do */
        private long tensor(long first) throws IOException {
            long at = in.at();
            String name = in.text(in.i64("the length of a name"), "a name");
            int rank = in.i32("the number of dimensions");
            if (rank < 1 || rank > DIMENSIONS) {
                throw in.bad(at, "expected 1 to " + DIMENSIONS + " dimensions of '" + name + "', found " + Integer.toUnsignedString(rank));
            }
            long elements = 1;
            for (int d = 0; d < rank; d++) {
                long n = in.i64("a dimension");
                if (n < 1 || n > Integer.MAX_VALUE / 4 / elements) {
                    throw in.bad(at, "expected fewer elements of '" + name + "' than " + Integer.MAX_VALUE / 4 + ", and some");
                }
                elements *= n;
            }
            int kind = in.i32("the type of a tensor");
            long offset = in.i64("where a tensor starts");
            if (kind != F32 || offset != first) {
                throw in.bad(at, "expected '" + name + "' to be of type " + F32 + " (f32) at " + first + " of the data, found type "
                        + Integer.toUnsignedString(kind) + " at " + Long.toUnsignedString(offset));
            }
            if (tensors.put(name, new Tensor(at, first, elements)) != null) {
                throw in.bad(at, "tensor '" + name + "' is there twice");
            }
            long bytes = 4 * elements;
            return first + bytes + Math.floorMod(-bytes, alignment);
        }

        private Map<String, Entry> entries() throws IOException {
            long data = in.at();
            Map<String, Entry> entries = new LinkedHashMap<>();
            Map<String, float[]> sums = new LinkedHashMap<>();
            Map<String, float[]> counts = new LinkedHashMap<>();
            Map<String, float[]> squares = new LinkedHashMap<>();
            for (Map.Entry<String, Tensor> e : tensors.entrySet()) {
                String name = e.getKey();
                Tensor t = e.getValue();
                in.skip(data + t.first - in.at(), "padding");
                float[] values = in.floats((int) t.elements, !name.endsWith(SQUARES) && !name.endsWith(COUNTS), "the numbers of '" + name + "'");
                for (String end : List.of(SQUARES, SUMS, COUNTS)) {
                    if (name.endsWith(end)) {
                        (end.equals(SQUARES) ? squares : end.equals(SUMS) ? sums : counts).put(name.substring(0, name.length() - end.length()), values);
                    }
                }
            }
            if (in.left() >= alignment) {
                throw in.bad(in.at(), "expected the end of the file, found " + in.left() + " more bytes");
            }
            for (String name : squares.keySet()) {
                float[] of = counts.remove(name);
                float[] x = squares.get(name);
                float[] sum = sums.remove(name);
                long at = tensors.get(name + SQUARES).at;
                if (of == null || x.length % of.length != 0 || sum != null && sum.length != x.length) {
                    throw in.bad(at, "expected counts of '" + name + "' that divide its " + x.length + " sums of squares, and as many sums or none");
                }
                long[] rows = new long[of.length];
                for (int i = 0; i < rows.length; i++) {
                    rows[i] = Math.round((double) of[i]);
                }
                entries.put(name, new Entry(rows, x, sum));
            }
            for (Map<String, float[]> lonely : List.of(counts, sums)) {
                for (String name : lonely.keySet()) {
                    throw in.bad(tensors.get(name + (lonely == counts ? COUNTS : SUMS)).at, "expected '" + name + SQUARES + "' beside it");
                }
            }
            return entries;
        }
    }
}
