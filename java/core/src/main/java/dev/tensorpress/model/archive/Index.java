package dev.tensorpress.model.archive;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.ByteArrayOutputStream;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * What the bytes of an archive are. All members, one after the other, are one sequence of bytes, in which positions count. Chunks cut what
 * is stored of it, which is the same but where {@link Encoded}s are.
 *
 * @param folder whether members lie in a folder; else there is one
 * @param entry the member that is to be opened as a model; empty for the folder
 * @param base files that chunks are coded by
 * @param encodings in the order of their positions
 */
record Index(boolean folder, String entry, List<Member> members, List<Member> base, List<Array> arrays, List<Encoded> encodings,
        List<Chunk> chunks) {
    /** Of this in bytes: what it becomes in memory is several times as large. */
    static final int LARGEST = 32 << 20;
    /** Plain bytes of a chunk at most. */
    static final int LARGEST_CHUNK = 4 << 20;
    private static final int LONGEST_NAME = 4096;
    /** Parts of a name: each is looked up. */
    private static final int DEEPEST = 64;
    private static final int HIGHEST_RANK = 64;
    private static final int FOLDER = 1;

    /** A file. */
    record Member(String name, long bytes, byte[] sha256) {}

    /** @param position of its first byte */
    record Array(String name, DType type, Shape shape, long position) {
        long bytes() {
            return type.bytes(shape.elements());
        }
    }

    /** @param digest of frame and stored bytes, as a leaf of the {@link HashTree} */
    record Chunk(Frame frame, byte[] digest) {}

    /** Where which bytes are stored. */
    Sequence sequence() {
        return new Sequence(total(members), encodings);
    }

    /** Bytes of some files. */
    static long total(List<Member> files) {
        long sum = 0;
        for (Member m : files) {
            sum = Math.addExact(sum, m.bytes);
        }
        return sum;
    }

    /**
     * Returns if members can be called so.
     *
     * @throws UnsupportedRequestException if one cannot
     */
    static void checkNames(Iterable<String> members) {
        String fault = fault(members);
        if (fault != null) {
            throw new UnsupportedRequestException("cannot be packed: " + fault);
        }
    }

    /**
     * As it is stored.
     *
     * @throws UnsupportedRequestException if it is too large
     */
    byte[] write() {
        Out out = new Out();
        out.u32(folder ? FOLDER : 0);
        out.text(entry);
        files(out, members);
        files(out, base);
        out.u32(arrays.size());
        for (Array a : arrays) {
            out.text(a.name);
            out.elements(a.type, a.shape, a.position);
        }
        out.u32(encodings.size());
        for (Encoded e : encodings) {
            out.elements(e.type(), e.shape(), e.position());
            out.form(e.form());
        }
        out.u32(chunks.size());
        for (Chunk c : chunks) {
            out.u32(c.frame.plain());
            out.u32(c.frame.stored());
            out.u32(c.frame.coding().ordinal());
            out.u64(c.frame.base());
            out.bytes.writeBytes(c.digest);
        }
        if (out.bytes.size() > LARGEST) {
            throw new UnsupportedRequestException("the index of this archive would have " + out.bytes.size() + " bytes, of " + LARGEST
                    + " at most: there are too many files, or they are too large");
        }
        return out.bytes.toByteArray();
    }

    private static void files(Out out, List<Member> files) {
        out.u32(files.size());
        for (Member m : files) {
            out.text(m.name);
            out.u64(m.bytes);
            out.bytes.writeBytes(m.sha256);
        }
    }

    private static final class Out {
        final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

        void u32(int v) {
            bytes.writeBytes(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(v).array());
        }

        void u64(long v) {
            bytes.writeBytes(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(v).array());
        }

        void text(String s) {
            byte[] utf8 = s.getBytes(StandardCharsets.UTF_8);
            u32(utf8.length);
            bytes.writeBytes(utf8);
        }

        void elements(DType type, Shape shape, long position) {
            text(type.name());
            u32(shape.rank());
            for (long d : shape.dims()) {
                u64(d);
            }
            u64(position);
        }

        /** Its kind, and what of it {@link In#form} needs to make one that decodes to the same. */
        void form(Form form) {
            text(form.kind().name());
            switch (form.kind()) {
                case QUANTIZED -> {
                    Form.Quantized q = form.quantized();
                    numbers(q.bits(), q.axis(), q.block(), q.symmetric() ? 1 : 0, q.transposed() ? 1 : 0, q.padded() ? 1 : 0);
                    text(q.type().name());
                    text(q.scaleType().name());
                }
                case CODEBOOK -> {
                    Form.Codebook c = form.codebook();
                    numbers(c.bits(), c.dimension(), c.axis(), c.block(), c.zero() ? 1 : 0);
                    text(c.table().name());
                }
                case TRANSFORMED -> {
                    Form.Transformed t = (Form.Transformed) form;
                    text(t.basis().name());
                    numbers(t.block(), t.dimensions(), t.levels(), t.rows());
                    text(t.type().name());
                }
                case HASHED -> {
                    Form.Hashed h = (Form.Hashed) form;
                    numbers(Math.toIntExact(h.buckets()), h.seed());
                    text(h.type().name());
                }
                case DENSE, SPARSE, LOW_RANK, CHAIN, SUM -> throw new IllegalArgumentException("not stored: " + form.describe());
            }
        }

        private void numbers(int... all) {
            for (int n : all) {
                u32(n);
            }
        }
    }

    /** Why files cannot be called so, or null. */
    private static String fault(Iterable<String> files) {
        Set<String> names = new HashSet<>();
        for (String name : files) {
            String fault = fault(name);
            if (fault == null && !names.add(name)) {
                fault = "is there twice";
            }
            if (fault != null) {
                return "the file '" + name + "' " + fault;
            }
        }
        // Folders are looked up, not kept: of names from anybody they can be a thousand times as large as these.
        for (String name : names) {
            for (int slash = name.indexOf('/'); slash >= 0; slash = name.indexOf('/', slash + 1)) {
                if (names.contains(name.substring(0, slash))) {
                    return "the file '" + name + "' has a file as its folder";
                }
            }
        }
        return null;
    }

    private static String fault(String name) {
        if (name.isEmpty() || name.length() > LONGEST_NAME) {
            return "has a name of " + name.length() + " characters, expected 1 to " + LONGEST_NAME;
        }
        for (int i = 0; i < name.length(); i++) {
            char c = name.charAt(i);
            if (c < ' ' || c == 0x7f || c == '\\') {
                return "has a control character, or a backslash, in its name";
            }
        }
        String[] parts = name.split("/", -1);
        for (String part : parts) {
            if (part.isEmpty() || part.equals(".") || part.equals("..")) {
                return "has a name that is no path inside a folder";
            }
        }
        return parts.length > DEEPEST ? "lies in more than " + (DEEPEST - 1) + " folders" : null;
    }

    /**
     * What {@link #write} wrote.
     *
     * @param bytes all of it
     * @param path of the archive, and {@code at} where in it the index is, for messages
     * @param overhead of the archive's cipher
     * @throws MalformedModelException if it is nothing of the kind
     */
    static Index read(ByteBuffer bytes, Path path, long at, int overhead) {
        return new In(bytes.order(ByteOrder.LITTLE_ENDIAN), path, at, overhead).index();
    }

    private static final class In {
        private final ByteBuffer bytes;
        private final Path path;
        private final long at;
        private final int overhead;

        In(ByteBuffer bytes, Path path, long at, int overhead) {
            this.bytes = bytes;
            this.path = path;
            this.at = at;
            this.overhead = overhead;
        }

        Index index() {
            try {
                int flags = bytes.getInt();
                if ((flags & ~FOLDER) != 0) {
                    throw bad("flags that nobody knows: " + flags);
                }
                String entry = text();
                List<Member> members = files();
                List<Member> base = files();
                List<Array> arrays = arrays(Index.total(members));
                List<Encoded> encodings = encodings();
                List<Chunk> chunks = chunks(new Sequence(Index.total(members), encodings).storedBytes(), Index.total(base));
                if (bytes.hasRemaining()) {
                    throw bad(bytes.remaining() + " bytes behind its end");
                }
                Index index = new Index((flags & FOLDER) != 0, entry, members, base, arrays, encodings, chunks);
                boolean named = members.stream().anyMatch(m -> m.name.equals(entry));
                if (index.folder ? !named && !entry.isEmpty() : !named || members.size() != 1 || entry.contains("/")) {
                    throw bad("an entry that is no member, or several members without a folder");
                }
                return index;
            } catch (BufferUnderflowException e) {
                throw bad("it ends early");
            } catch (ArithmeticException e) {
                throw bad("sizes that do not fit in 64 bits");
            } catch (IllegalArgumentException e) { // of encodings, of which forms know what there can be
                throw bad(e.getMessage());
            }
        }

        private MalformedModelException bad(String found) {
            return new MalformedModelException(path, at, "the archive's index is damaged before its byte " + bytes.position() + ": " + found);
        }

        /** How many of something follow that take at least so many bytes each. */
        private int count(int least) {
            int n = bytes.getInt();
            if (n < 0 || n > bytes.remaining() / least) {
                throw bad("it claims " + Integer.toUnsignedLong(n) + " of something where " + bytes.remaining() + " bytes are left");
            }
            return n;
        }

        private String text() {
            int n = count(1);
            ByteBuffer utf8 = bytes.slice(bytes.position(), n);
            try {
                String s = StandardCharsets.UTF_8.newDecoder().decode(utf8).toString();
                bytes.position(bytes.position() + n);
                return s;
            } catch (CharacterCodingException e) {
                throw bad("a name that is not UTF-8");
            }
        }

        private byte[] digest() {
            byte[] d = new byte[HashTree.DIGEST];
            bytes.get(d);
            return d;
        }

        private List<Member> files() {
            int n = count(4 + 8 + HashTree.DIGEST);
            List<Member> all = new ArrayList<>(n);
            for (int i = 0; i < n; i++) {
                String name = text();
                long size = bytes.getLong();
                if (size < 0) {
                    throw bad("file " + i + " has " + size + " bytes");
                }
                all.add(new Member(name, size, digest()));
            }
            String fault = fault(all.stream().map(Member::name).toList());
            if (fault != null) {
                throw bad(fault);
            }
            return all;
        }

        private List<Array> arrays(long total) {
            int n = count(4 + 4 + 4 + 8);
            Set<String> names = new HashSet<>();
            List<Array> all = new ArrayList<>(n);
            for (int i = 0; i < n; i++) {
                String name = text();
                if (!names.add(name)) {
                    throw bad("array '" + name + "' is there twice");
                }
                Array a = new Array(name, word(DType.class), shape(), bytes.getLong());
                if (a.position < 0 || a.position > total - a.bytes()) {
                    throw bad("array '" + name + "' is not within the " + total + " bytes that there are");
                }
                all.add(a);
            }
            return all;
        }

        private Shape shape() {
            int rank = count(8);
            if (rank > HIGHEST_RANK) {
                throw bad("a shape of " + rank + " axes");
            }
            long[] dims = new long[rank];
            for (int d = 0; d < rank; d++) {
                dims[d] = bytes.getLong();
            }
            return Shape.of(dims);
        }

        /** One of those that an enumeration has. */
        private <E extends Enum<E>> E word(Class<E> of) {
            String name = text();
            for (E e : of.getEnumConstants()) {
                if (e.name().equals(name)) {
                    return e;
                }
            }
            throw bad("a " + of.getSimpleName() + " that nobody knows: " + name);
        }

        private boolean flag() {
            int flag = bytes.getInt();
            if (flag != 0 && flag != 1) {
                throw bad("neither 0 nor 1, but " + flag);
            }
            return flag == 1;
        }

        private List<Encoded> encodings() {
            int n = count(4 + 4 + 8 + 4);
            List<Encoded> all = new ArrayList<>(n);
            for (int i = 0; i < n; i++) {
                DType type = word(DType.class);
                Shape shape = shape();
                all.add(new Encoded(bytes.getLong(), type, shape, form()));
            }
            return all;
        }

        /** What {@link Out#form} wrote; how codes are stored in models plays no part. */
        private Form form() {
            return switch (word(Form.Kind.class)) {
                case QUANTIZED -> {
                    int bits = bytes.getInt();
                    int axis = bytes.getInt();
                    int block = bytes.getInt();
                    boolean symmetric = flag();
                    boolean transposed = flag();
                    boolean padded = flag();
                    yield new Form.Quantized(bits, axis, block, symmetric, Form.Activations.FLOAT, word(DType.class), word(DType.class), transposed,
                            padded);
                }
                case CODEBOOK -> new Form.Codebook(bytes.getInt(), bytes.getInt(), bytes.getInt(), bytes.getInt(), flag(), word(DType.class), false);
                case TRANSFORMED -> new Form.Transformed(word(Form.Basis.class), bytes.getInt(), bytes.getInt(), bytes.getInt(), bytes.getInt(),
                        word(DType.class));
                case HASHED -> new Form.Hashed(bytes.getInt(), bytes.getInt(), word(DType.class));
                case DENSE, SPARSE, LOW_RANK, CHAIN, SUM -> throw bad("an encoding of a kind that is not stored");
            };
        }

        private static boolean repeats(List<Chunk> before, long position, int plain) {
            if (before.isEmpty()) {
                return false;
            }
            Frame origin = before.get(Sequence.search(before.size(), i -> before.get(i).frame.position() <= position)).frame;
            return origin.position() == position && origin.plain() == plain && origin.coding() != Frame.Stored.REPEATED;
        }

        private List<Chunk> chunks(long total, long baseTotal) {
            int n = count(4 + 4 + 4 + 8 + HashTree.DIGEST);
            List<Chunk> all = new ArrayList<>(n);
            long position = 0;
            for (int i = 0; i < n; i++) {
                int plain = bytes.getInt();
                int stored = bytes.getInt();
                Frame.Stored coding = Frame.Stored.of(bytes.getInt());
                long base = bytes.getLong();
                if (plain < 1 || plain > LARGEST_CHUNK || plain > total - position) {
                    throw bad("chunk " + i + " claims " + plain + " bytes where " + (total - position) + " are left, and "
                            + LARGEST_CHUNK + " the most");
                }
                boolean repeated = coding == Frame.Stored.REPEATED;
                if (stored < overhead || (stored == overhead) != repeated || stored - overhead > plain || coding == null || coding == Frame.Stored.INDEX
                        || coding == Frame.Stored.PLAIN && (stored - overhead != plain || base != -1)
                        || coding == Frame.Stored.PALETTE && base != -1) {
                    throw bad("chunk " + i + " of " + plain + " bytes claims to be stored in " + stored + " as nothing is");
                }
                if (repeated && !repeats(all, base, plain)) {
                    throw bad("chunk " + i + " repeats one that does not come before it, or is of another size");
                }
                if (!repeated && base != -1 && (base < 0 || base > baseTotal - plain)) {
                    throw bad("chunk " + i + " is coded by bytes that the base does not have");
                }
                all.add(new Chunk(new Frame(i, position, plain, stored, coding, base), digest()));
                position += plain;
            }
            if (position != total) {
                throw bad("chunks have " + position + " bytes, expected " + total);
            }
            return all;
        }
    }
}
