package dev.tensorpress.model.archive;

import com.github.luben.zstd.ZstdCompressCtx;
import com.github.luben.zstd.ZstdDecompressCtx;
import com.github.luben.zstd.ZstdException;
import dev.tensorpress.kernel.Coding;
import dev.tensorpress.kernel.CodingFormatException;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.archive.Frame.Stored;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A chunk in memory, plain and stored, and what turns one into the other. One thread at a time. */
final class Piece implements AutoCloseable {
    /** More than Zstandard, and blocks of elements, can take beyond what they are given; and all that a cipher adds. */
    private static final int ROOM = 64 << 10;
    /** A frame and what is stored, in bytes. */
    static final long LONGEST = Frame.BYTES + Index.LARGEST_CHUNK + ROOM;
    /** Of one of these, with what codecs need, in bytes. */
    static final long MEMORY = 7L * Index.LARGEST_CHUNK;
    /** Windows that reach from the last byte of a chunk to the first of what it is coded by. */
    private static final int BASE_WINDOW = 23;

    private final Arena arena = Arena.ofShared();
    /** Plain bytes, as many as the frame says. */
    final MemorySegment plain = arena.allocate(Index.LARGEST_CHUNK, 64);
    /** A frame, and behind it what is stored. */
    final MemorySegment stored = arena.allocate(LONGEST, 64);
    /** Coded and not sealed; made when it is needed. */
    private MemorySegment open;
    private final HashTree.Leaf leaf = new HashTree.Leaf(arena);
    private ZstdCompressCtx compressor;
    private ZstdDecompressCtx decompressor;
    private Frame frame;
    private byte[] digest;
    private List<Coding.Plane> planes = List.of();
    /** Bytes of the base, for blocks. */
    private MemorySegment base;
    private Palette palette;
    private Arena scratches;
    private MemorySegment scratch = MemorySegment.NULL;

    /** The chunk as it is stored. */
    Frame frame() {
        return frame;
    }

    /** Of frame and stored bytes. */
    byte[] digest() {
        return digest;
    }

    /** Frame and stored bytes. */
    MemorySegment bytes() {
        return stored.asSlice(0, Frame.BYTES + (long) frame.stored());
    }

    /** What became of the elements that were coded; none if they were coded in another way. */
    List<Coding.Plane> planes() {
        return planes;
    }

    MemorySegment plainBytes() {
        return plain.asSlice(0, frame.plain());
    }

    /**
     * What plain bytes take in each of some ways.
     *
     * @param like bytes of the base; null if there are none
     */
    Map<Way, Integer> sizes(List<Way> ways, int length, byte[] like) {
        Map<Way, Integer> all = new LinkedHashMap<>();
        for (Way way : ways) {
            int n = code(way, length, like, coded());
            if (n >= 0) {
                all.put(way, n);
            }
        }
        return all;
    }

    /**
     * Codes plain bytes; those that get no smaller are stored as they are.
     *
     * @param from position in the base of {@code like}
     * @param cipher or null
     */
    void encode(int ordinal, long position, int length, Way way, long from, byte[] like, ChunkCipher cipher) {
        int overhead = cipher == null ? 0 : cipher.overhead();
        MemorySegment out = cipher == null ? stored.asSlice(Frame.BYTES) : coded();
        Way used = way;
        int n = code(way, length, like, out);
        if (n < 0) {
            used = way.withoutPalette();
            n = code(used, length, like, out);
        }
        if (n >= length) {
            planes = List.of();
            out.copyFrom(plain.asSlice(0, length));
            frame = new Frame(ordinal, position, length, length + overhead, Stored.PLAIN, -1);
        } else {
            frame = new Frame(ordinal, position, length, n + overhead, used.stored(), used.based() ? from : -1);
        }
        seal(out, cipher);
    }

    /**
     * Stores that an earlier chunk has the same bytes.
     *
     * @param origin position of that
     */
    void repeat(int ordinal, long position, int length, long origin, ChunkCipher cipher) {
        planes = List.of();
        frame = new Frame(ordinal, position, length, cipher == null ? 0 : cipher.overhead(), Stored.REPEATED, origin);
        seal(coded(), cipher);
    }

    /** Bytes of it; -1 if it cannot be coded in this way, as a palette. */
    private int code(Way way, int length, byte[] like, MemorySegment out) {
        planes = List.of();
        if (way.stored() == Stored.ZSTD) {
            return compress(length, way.level(), way.based() ? like : null, out);
        }
        if (way.stored() == Stored.PALETTE) {
            return palette().encode(way.elements().bytes(), plain.asSlice(0, length), out);
        }
        MemorySegment base = way.based() ? off(like) : MemorySegment.NULL;
        Coding.Coded c = Coding.encode(way.elements(), plain.asSlice(0, length), base, out, scratch(Coding.scratchBytes(way.elements(), length)));
        planes = c.planes();
        return Math.toIntExact(c.bytes());
    }

    private Palette palette() {
        if (palette == null) {
            palette = new Palette(arena.allocate(Index.LARGEST_CHUNK, 64), this::scratch);
        }
        return palette;
    }

    private MemorySegment off(byte[] like) {
        if (base == null) {
            base = arena.allocate(Index.LARGEST_CHUNK, 64);
        }
        MemorySegment.copy(like, 0, base, ValueLayout.JAVA_BYTE, 0, like.length);
        return base.asSlice(0, like.length);
    }

    private MemorySegment scratch(long bytes) {
        if (scratch.byteSize() < bytes) {
            if (scratches != null) {
                scratches.close();
            }
            scratches = Arena.ofShared();
            scratch = scratches.allocate(bytes, 64);
        }
        return scratch;
    }

    /** Stores the index, of so many plain bytes, which are coded. */
    void index(int ordinal, long position, int length, MemorySegment bytes, ChunkCipher cipher, MemorySegment to) {
        int n = Math.toIntExact(bytes.byteSize());
        frame = new Frame(ordinal, position, length, n + (cipher == null ? 0 : cipher.overhead()), Stored.INDEX, -1);
        frame.write(to);
        if (cipher == null) {
            to.asSlice(Frame.BYTES).copyFrom(bytes);
        } else {
            cipher.seal(ordinal, associated(to), bytes.asByteBuffer(), payload(to));
        }
        digest = leaf.digest(to);
    }

    private void seal(MemorySegment coded, ChunkCipher cipher) {
        frame.write(stored);
        if (cipher != null) {
            cipher.seal(frame.ordinal(), associated(stored), coded.asSlice(0, frame.stored() - cipher.overhead()).asByteBuffer(), payload(bytes()));
        }
        digest = leaf.digest(bytes());
    }

    private static ByteBuffer associated(MemorySegment stored) {
        return stored.asSlice(0, Frame.BYTES).asByteBuffer();
    }

    private static ByteBuffer payload(MemorySegment stored) {
        return stored.asSlice(Frame.BYTES).asByteBuffer();
    }

    private MemorySegment coded() {
        if (open == null) {
            open = arena.allocate(Index.LARGEST_CHUNK + ROOM, 64);
        }
        return open;
    }

    private int compress(int length, int level, byte[] like, MemorySegment out) {
        ByteBuffer to = out.asByteBuffer();
        ByteBuffer in = plain.asSlice(0, length).asByteBuffer();
        if (like != null) {
            try (ZstdCompressCtx own = new ZstdCompressCtx().setLevel(level).setWindowLog(BASE_WINDOW)) {
                return own.loadDict(like).compress(to, in);
            }
        }
        if (compressor == null) {
            compressor = new ZstdCompressCtx();
        }
        return compressor.setLevel(level).compress(to, in);
    }

    /**
     * Checks and decodes what is in {@link #stored}.
     *
     * @param expected as the index has it
     * @param path of the archive, and {@code at} where in it the frame is, for messages
     * @throws MalformedModelException if it is anything else
     */
    void decode(Index.Chunk expected, Base base, ChunkCipher cipher, Path path, long at) throws IOException {
        check(expected, path, at);
        MemorySegment coded = stored.asSlice(Frame.BYTES, frame.stored());
        if (cipher != null) {
            MemorySegment to = coded().asSlice(0, frame.stored() - cipher.overhead());
            if (!cipher.open(frame.ordinal(), associated(stored), coded.asByteBuffer(), to.asByteBuffer())) {
                throw bad(path, at, "is not what was sealed");
            }
            coded = to;
        }
        switch (frame.coding()) {
            case PLAIN -> MemorySegment.copy(coded, 0, plain, 0, frame.plain());
            case ZSTD -> decompress(coded, frame.base() < 0 ? null : base.read(frame.base(), frame.plain()), path, at);
            case CODED -> decodeBlock(coded, base, path, at);
            case PALETTE -> decodePalette(coded, path, at);
            case REPEATED -> { } // whoever knows the other chunk decodes that
            case INDEX -> throw new IllegalStateException("an index as a chunk");
        }
    }

    /** Decodes, in the place of what was decoded and is repeated, the chunk that it repeats; the frame stays. */
    void decodeOrigin(Index.Chunk origin, FileChannel channel, Base base, ChunkCipher cipher, Path path, long at) throws IOException {
        Frame own = frame;
        byte[] ownDigest = digest;
        Layout.read(channel, path, at, stored.asSlice(0, Frame.BYTES + (long) origin.frame().stored()));
        decode(origin, base, cipher, path, at);
        frame = own;
        digest = ownDigest;
    }

    /** Makes the digest of so many bytes in {@link #stored}, whatever they are. */
    void hash(long length) {
        digest = leaf.digest(stored.asSlice(0, length));
    }

    /**
     * Checks what is in {@link #stored}.
     *
     * @throws MalformedModelException if the index has it otherwise
     */
    void check(Index.Chunk expected, Path path, long at) {
        frame = expected.frame();
        if (!frame.isIn(stored)) {
            throw bad(path, at, "is preceded by another frame than the index has");
        }
        hash(bytes().byteSize());
        if (!MessageDigest.isEqual(digest, expected.digest())) {
            throw bad(path, at, "has not the SHA-256 that the index has");
        }
    }

    private void decodeBlock(MemorySegment block, Base files, Path path, long at) throws IOException {
        MemorySegment like = frame.base() < 0 ? MemorySegment.NULL : off(files.read(frame.base(), frame.plain()));
        try {
            long bytes = Coding.decodedBytes(block);
            if (bytes != frame.plain()) {
                throw bad(path, at, "decodes to " + bytes + " bytes, expected " + frame.plain());
            }
            Coding.decode(block, like, plainBytes(), scratch(Coding.scratchBytes(Coding.elements(block), bytes)));
        } catch (CodingFormatException e) {
            throw bad(path, at, "is " + e.getMessage());
        }
    }

    private void decodePalette(MemorySegment coded, Path path, long at) {
        try {
            String fault = palette().decode(coded, plainBytes());
            if (fault != null) {
                throw bad(path, at, fault);
            }
        } catch (CodingFormatException e) {
            throw bad(path, at, "is " + e.getMessage());
        }
    }

    private void decompress(MemorySegment coded, byte[] like, Path path, long at) {
        ByteBuffer out = plainBytes().asByteBuffer();
        try {
            int n;
            if (like != null) {
                try (ZstdDecompressCtx own = new ZstdDecompressCtx()) {
                    n = own.loadDict(like).decompress(out, coded.asByteBuffer());
                }
            } else {
                if (decompressor == null) {
                    decompressor = new ZstdDecompressCtx();
                }
                n = decompressor.decompress(out, coded.asByteBuffer());
            }
            if (n != frame.plain()) {
                throw bad(path, at, "decodes to " + n + " bytes, expected " + frame.plain());
            }
        } catch (ZstdException e) {
            throw bad(path, at, "is no Zstandard: " + e.getMessage());
        }
    }

    private MalformedModelException bad(Path path, long at, String what) {
        return new MalformedModelException(path, at, "chunk " + frame.ordinal() + " of the archive " + what);
    }

    @Override
    public void close() {
        if (compressor != null) {
            compressor.close();
        }
        if (decompressor != null) {
            decompressor.close();
        }
        if (scratches != null) {
            scratches.close();
        }
        arena.close();
    }
}
