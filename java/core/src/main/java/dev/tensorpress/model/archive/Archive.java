package dev.tensorpress.model.archive;

import com.github.luben.zstd.Zstd;
import com.github.luben.zstd.ZstdException;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.archive.Index.Chunk;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * An archive, {@code docs/archive.md}: files of models, packed. Opening reads its index alone. What is read of it is checked against the
 * hashes there, which the root of the hash tree vouches for.
 */
public final class Archive implements AutoCloseable {
    private final Path path;
    private final FileChannel channel;
    private final InputFiles inputs;
    private final Layout layout;
    private final ChunkCipher cipher;
    private final Index index;
    private final Sequence sequence;
    private final VerifyingKey signer;
    private final Map<String, Index.Array> arrays = new LinkedHashMap<>();
    /** Where the frame of each chunk is. */
    private final long[] places;
    /** Where each member begins. */
    private final Map<String, Long> starts = new LinkedHashMap<>();
    private Base base;
    /** What the base's files lie in, if they were in an archive. */
    private Mount mount;
    /** Made when a chunk is read by itself; its bytes are those of the chunk read last. */
    private Piece piece;
    private int last = -1;
    /** The range whose elements were decoded last, and these; null if none were. */
    private Sequence.Range decoded;
    private MemorySegment elements;
    private Arena decodedIn;

    /**
     * A file in an archive.
     *
     * @param name with slashes
     * @param sha256 in hexadecimal
     */
    public record Member(String name, long bytes, String sha256) {}

    /** Elements in a file that is in an archive. */
    public record Array(String name, DType type, Shape shape) {
        /** That they take in the file. */
        public long bytes() {
            return type.bytes(shape.elements());
        }
    }

    private Archive(Path path, FileChannel channel, InputFiles inputs, ArchiveKey key) throws IOException {
        this.path = path;
        this.channel = channel;
        this.inputs = inputs;
        layout = Layout.read(channel, path);
        cipher = Sealing.cipher(path, layout, key);
        try (Arena arena = Arena.ofShared()) {
            HashTree tree = new HashTree(arena);
            HashTree.Leaf leaf = new HashTree.Leaf(arena);
            MemorySegment stored = layout.readIndex(channel, path, arena);
            index = index(stored, arena);
            tree.add(leaf.digest(arena.allocateFrom(ValueLayout.JAVA_BYTE, layout.header())));
            for (Chunk c : index.chunks()) {
                tree.add(c.digest());
            }
            tree.add(leaf.digest(stored));
            if (!java.util.Arrays.equals(tree.root(), layout.root())) {
                throw bad(layout.size() - Layout.TRAILER, "the root of the archive's hash tree is not that of its header, chunks and index");
            }
        }
        signer = Signatures.read(path, layout);
        sequence = index.sequence();
        places = places();
        for (Index.Array a : index.arrays()) {
            arrays.put(a.name(), a);
        }
        long start = 0;
        for (Index.Member m : index.members()) {
            starts.put(m.name(), start);
            start += m.bytes();
        }
    }

    private MalformedModelException bad(long at, String what) {
        return new MalformedModelException(path, at, what);
    }

    private int overhead() {
        return cipher == null ? 0 : cipher.overhead();
    }

    private Index index(MemorySegment stored, Arena arena) {
        int n = Math.toIntExact(stored.byteSize() - Frame.BYTES);
        MemorySegment coded = stored.asSlice(Frame.BYTES);
        if (cipher != null) {
            coded = arena.allocate(Math.max(0, n - overhead()));
            if (!cipher.open(Frame.ordinal(stored), stored.asSlice(0, Frame.BYTES).asByteBuffer(), stored.asSlice(Frame.BYTES).asByteBuffer(),
                    coded.asByteBuffer())) {
                throw bad(layout.indexAt(), "the archive's index is not what was sealed");
            }
        }
        int length = Frame.plain(stored);
        if (length < 0 || length > Index.LARGEST) {
            throw bad(layout.indexAt(), "the archive claims an index of " + Integer.toUnsignedLong(length) + " bytes, expected " + Index.LARGEST
                    + " at most");
        }
        MemorySegment plain = arena.allocate(length);
        try {
            if (Zstd.decompress(plain.asByteBuffer(), coded.asByteBuffer()) != length) {
                throw bad(layout.indexAt(), "the archive's index has not the " + length + " bytes that it claims");
            }
        } catch (ZstdException e) {
            throw bad(layout.indexAt(), "the archive's index is no Zstandard: " + e.getMessage());
        }
        Index read = Index.read(plain.asByteBuffer(), path, layout.indexAt(), overhead());
        Frame expected = new Frame(read.chunks().size(), read.sequence().storedBytes(), length, n, Frame.Stored.INDEX, -1);
        if (!expected.isIn(stored)) {
            throw bad(layout.indexAt(), "the archive's index is preceded by another frame than it should");
        }
        return read;
    }

    private long[] places() {
        long[] all = new long[index.chunks().size()];
        long at = layout.header().length;
        for (int i = 0; i < all.length; i++) {
            all[i] = at;
            at += Frame.BYTES + (long) index.chunks().get(i).frame().stored();
        }
        if (at != layout.indexAt()) {
            throw bad(layout.indexAt(), "the archive's chunks end at byte " + at + ", where its index does not begin");
        }
        return all;
    }

    /** True if a file begins as archives do. */
    public static boolean isArchive(Path path) throws IOException {
        if (!InputFiles.isFile(path)) {
            return false;
        }
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            return Layout.isAt(channel);
        }
    }

    /**
     * Opens an archive. If it is encrypted, the environment has to name the key, as {@link ArchiveKey#of} has it. The caller closes it.
     *
     * @throws MalformedModelException if it is none, or a damaged one
     * @throws WrongKeyException if the environment has not its key
     * @throws UnsupportedRequestException if it is one of another version
     * @throws IOException if it cannot be read
     */
    public static Archive open(Path path) throws IOException {
        return open(path, null);
    }

    /**
     * {@link #open(Path)} of an archive that is encrypted. One that is not is refused: anybody could have made it.
     *
     * @param key or null, for {@link #open(Path)}
     * @throws WrongKeyException if it is encrypted with another key, or with none
     */
    public static Archive open(Path path, ArchiveKey key) throws IOException {
        InputFiles inputs = InputFiles.named(path);
        FileChannel channel = FileChannel.open(path, StandardOpenOption.READ);
        try {
            return new Archive(path, channel, inputs, key);
        } catch (IOException | RuntimeException | Error e) {
            channel.close();
            throw e;
        }
    }

    /** Whose signature it has, which is one of all that it holds; empty if it is not signed. */
    public Optional<VerifyingKey> signer() {
        return Optional.ofNullable(signer);
    }

    /** Whether it takes a key. */
    public boolean isEncrypted() {
        return cipher != null;
    }

    /** @throws MalformedModelException unless it is signed by this key */
    public void requireSigner(VerifyingKey key) {
        Signatures.require(path, signer, key);
    }

    /** The archive. */
    public Path path() {
        return path;
    }

    /** Bytes of the archive. */
    public long bytes() {
        return layout.size();
    }

    /** Bytes of all members. */
    public long plainBytes() {
        return Index.total(index.members());
    }

    /** Whether the members lie in a folder; else there is one. */
    public boolean isFolder() {
        return index.folder();
    }

    /** The member that is to be opened as a model; empty for the folder. */
    public String entry() {
        return index.entry();
    }

    /** The files that it holds, in their order. */
    public List<Member> members() {
        return members(index.members());
    }

    /** The files that have to be there to read it; none if it stands for itself. */
    public List<Member> base() {
        return members(index.base());
    }

    private static List<Member> members(List<Index.Member> files) {
        List<Member> all = new ArrayList<>();
        for (Index.Member m : files) {
            all.add(new Member(m.name(), m.bytes(), HexFormat.of().formatHex(m.sha256())));
        }
        return all;
    }

    /** What {@link #weight} can be asked for, by name: weights, and other elements of one type. */
    public List<Array> arrays() {
        List<Array> all = new ArrayList<>();
        for (Index.Array a : index.arrays()) {
            all.add(new Array(a.name(), a.type(), a.shape()));
        }
        return all;
    }

    /**
     * An array.
     *
     * @throws UnknownNameException if there is none of this name
     */
    public Array array(String name) {
        Index.Array a = find(name);
        return new Array(a.name(), a.type(), a.shape());
    }

    private Index.Array find(String name) {
        Index.Array a = arrays.get(name);
        if (a == null) {
            throw new UnknownNameException(path + " has no array '" + name + "'", name, List.copyOf(arrays.keySet()));
        }
        return a;
    }

    /**
     * Reads the elements of one array, and what lies in the same chunks.
     *
     * @param out as many bytes as the array has
     * @throws UnknownNameException if there is none of this name
     * @throws MalformedModelException if they are damaged
     * @throws IOException if they cannot be read
     */
    public void weight(String name, MemorySegment out) throws IOException {
        Index.Array a = find(name);
        if (out.byteSize() != a.bytes()) {
            throw new IllegalArgumentException("'" + name + "' has " + a.bytes() + " bytes, the memory " + out.byteSize());
        }
        read(a.position(), out);
    }

    /**
     * The form whose arrays are stored in the place of an array's elements, or of the first of these that are stored so; empty if the elements are.
     *
     * @throws UnknownNameException if there is none of this name
     */
    public Optional<Form> encoding(String name) {
        Index.Array a = find(name);
        List<Sequence.Range> ranges = sequence.ranges();
        for (int i = sequence.at(a.position()); i < ranges.size() && ranges.get(i).position() < a.position() + a.bytes(); i++) {
            if (ranges.get(i).encoded() != null) {
                return Optional.of(ranges.get(i).encoded().form());
            }
        }
        return Optional.empty();
    }

    private synchronized void read(long position, MemorySegment out) throws IOException {
        if (!channel.isOpen()) {
            throw closed();
        }
        int at = sequence.at(position);
        for (long done = 0; done < out.byteSize(); at++) {
            Sequence.Range r = sequence.ranges().get(at);
            long from = position + done - r.position();
            MemorySegment to = out.asSlice(done, Math.min(r.length() - from, out.byteSize() - done));
            if (r.encoded() == null) {
                readStored(r.stored() + from, to);
            } else {
                decode(r);
                MemorySegment.copy(elements, from, to, 0, to.byteSize());
            }
            done += to.byteSize();
        }
    }

    private void readStored(long position, MemorySegment out) throws IOException {
        for (long done = 0; done < out.byteSize();) {
            Chunk c = index.chunks().get(chunk(position + done));
            decode(c);
            long from = position + done - c.frame().position();
            long n = Math.min(c.frame().plain() - from, out.byteSize() - done);
            MemorySegment.copy(piece.plain, from, out, done, n);
            done += n;
        }
    }

    private void decode(Sequence.Range r) throws IOException {
        if (r == decoded) {
            return;
        }
        forget();
        decodedIn = Arena.ofShared();
        try (Executor executor = Executor.cpu(1); Arena arena = executor.arena()) {
            MemorySegment stored = r.encoded().allocate(arena);
            readStored(r.stored(), stored);
            elements = decode(r, stored, decodedIn, executor);
            decoded = r;
        }
    }

    /** @throws MalformedModelException if the arrays decode to nothing */
    MemorySegment decode(Sequence.Range r, MemorySegment stored, Arena arena, Executor executor) {
        try {
            return r.encoded().decode(stored, arena, executor);
        } catch (IllegalArgumentException e) {
            throw bad(places[chunk(r.stored())], "the arrays of an encoding, " + r.encoded().form().describe() + ", are none: " + e.getMessage());
        }
    }

    private void forget() {
        decoded = null;
        elements = null;
        if (decodedIn != null) {
            decodedIn.close();
            decodedIn = null;
        }
    }

    private void decode(Chunk c) throws IOException {
        int ordinal = c.frame().ordinal();
        if (ordinal == last) {
            return;
        }
        last = -1;
        if (piece == null) {
            piece = new Piece();
        }
        Layout.read(channel, path, places[ordinal], piece.stored.asSlice(0, Frame.BYTES + (long) c.frame().stored()));
        decode(piece, c, opened());
        last = ordinal;
    }

    /** Decodes what a piece has, and what that repeats if it does. */
    void decode(Piece of, Chunk c, Base files) throws IOException {
        of.decode(c, files, cipher, path, places[c.frame().ordinal()]);
        if (c.frame().coding() == Frame.Stored.REPEATED) {
            int origin = chunk(c.frame().base());
            of.decodeOrigin(index.chunks().get(origin), channel, files, cipher, path, places[origin]);
        }
    }

    /** The chunk with a byte that is stored. */
    int chunk(long stored) {
        return Sequence.search(places.length, i -> index.chunks().get(i).frame().position() <= stored);
    }

    /**
     * The bytes of a member. One of a large archive takes no more memory than one of a small one, but for elements that are decoded
     * from an encoding, which are kept until others are; the archive has to stay open.
     *
     * @throws UnknownNameException if there is none of this name
     */
    public InputStream stream(String member) {
        Long start = starts.get(member);
        if (start == null) {
            throw new UnknownNameException(path + " has no member '" + member + "'", member, List.copyOf(starts.keySet()));
        }
        long length = index.members().get(List.copyOf(starts.keySet()).indexOf(member)).bytes();
        return new InputStream() {
            private long at;

            @Override
            public int read() throws IOException {
                byte[] one = new byte[1];
                return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
            }

            @Override
            public int read(byte[] to, int from, int n) throws IOException {
                int most = (int) Math.min(n, length - at);
                if (most <= 0) {
                    return n == 0 ? 0 : -1;
                }
                Archive.this.read(start + at, MemorySegment.ofArray(to).asSlice(from, most));
                at += most;
                return most;
            }
        };
    }

    /** {@link #useBase(Path, ArchiveKey)} with a key of the environment, if it is an archive that takes one. */
    public void useBase(Path path) throws IOException {
        useBase(path, null);
    }

    /**
     * The files that an archive with a {@link #base} is coded by, which are hashed. They take the place of others that were given before, unless they are refused.
     *
     * @param path the folder that they are in, the one that is opened as a model, or an archive that holds them, which is expanded into a temporary folder
     *     until this archive is closed
     * @param key of that archive, as {@link Mount#of(Path, ArchiveKey, VerifyingKey)} has it; may be null
     * @throws UnsupportedRequestException if they are not those that it was made with
     * @throws IOException if they cannot be read
     */
    public synchronized void useBase(Path path, ArchiveKey key) throws IOException {
        if (!channel.isOpen()) {
            throw closed();
        }
        Mount mounted = Mount.of(path, key, null);
        Base opened;
        try {
            opened = base(path, mounted.model());
        } catch (IOException | RuntimeException | Error e) {
            mounted.close();
            throw e;
        }
        closeBase();
        base = opened;
        mount = mounted;
    }

    private Base base(Path given, Path path) throws IOException {
        boolean file = InputFiles.isFile(path);
        Map<String, Path> files = new LinkedHashMap<>();
        for (Index.Member m : index.base()) {
            Path one = file && index.base().size() == 1 ? path
                    : InputFiles.resolve(file ? path.toAbsolutePath().getParent() : path, m.name());
            if (!InputFiles.isFile(one)) {
                throw otherBase(given, "it has no file '" + m.name() + "'");
            }
            files.put(m.name(), one);
        }
        Base opened = Base.open(files);
        String difference = opened.difference(index.base());
        if (difference != null) {
            opened.close();
            throw otherBase(given, difference);
        }
        return opened;
    }

    private void closeBase() throws IOException {
        try (Mount _ = mount) {
            if (base != null) {
                base.close();
            }
        } finally {
            base = null;
            mount = null;
        }
    }

    private IllegalStateException closed() {
        return new IllegalStateException(path + " is closed");
    }

    private UnsupportedRequestException otherBase(Path given, String why) {
        return new UnsupportedRequestException(given + " is not the model that " + path + " was packed with: " + why);
    }

    /** @throws UnsupportedRequestException if it is needed, and nobody gave it */
    Base opened() {
        if (base == null && !index.base().isEmpty()) {
            throw new UnsupportedRequestException(path + " holds what changed since another model, which has to be given as well");
        }
        return base;
    }

    Index index() {
        return index;
    }

    Sequence sequence() {
        return sequence;
    }

    ChunkCipher cipher() {
        return cipher;
    }

    long place(int chunk) {
        return places[chunk];
    }

    /** @throws IOException if the archive changed since it was opened */
    void checkUnchanged() throws IOException {
        inputs.check();
    }

    /** Waits for what is being read. Closing it again does nothing. */
    @Override
    public synchronized void close() throws IOException {
        try (channel) {
            forget();
            if (piece != null) {
                piece.close();
            }
            closeBase();
        } finally {
            piece = null;
            last = -1;
        }
    }
}
