package dev.tensorpress.model.archive;

import com.github.luben.zstd.ZstdCompressCtx;
import com.github.luben.zstd.ZstdDecompressCtx;
import com.github.luben.zstd.ZstdException;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.archive.Frame.Stored;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.file.Path;

/** A chunk in memory, plain and stored, and what turns one into the other. One thread at a time. */
final class Piece implements AutoCloseable {
    /** More than Zstandard, and blocks of elements, can take beyond what they are given; and all that a cipher adds. */
    private static final int ROOM = 64 << 10;
    /** Of one of these, with what Zstandard needs, in bytes. */
    static final long MEMORY = 5L * Index.LARGEST_CHUNK;
    private static final int LEVEL = 3;
    /** Windows that reach from the last byte of a chunk to the first of what it is coded by. */
    private static final int BASE_WINDOW = 23;

    private final Arena arena = Arena.ofShared();
    /** Plain bytes, as many as the frame says. */
    final MemorySegment plain = arena.allocate(Index.LARGEST_CHUNK, 64);
    /** A frame, and behind it what is stored. */
    final MemorySegment stored = arena.allocate(Frame.BYTES + Index.LARGEST_CHUNK + ROOM, 64);
    /** Coded and not sealed; made when it is needed. */
    private MemorySegment open;
    private final HashTree.Leaf leaf = new HashTree.Leaf(arena);
    private ZstdCompressCtx compressor;
    private ZstdDecompressCtx decompressor;
    private Frame frame;
    private byte[] digest;

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

    MemorySegment plainBytes() {
        return plain.asSlice(0, frame.plain());
    }

    /**
     * Codes plain bytes.
     *
     * @param from position in the base of bytes that these are like; -1 if there are none
     * @param cipher or null
     */
    void encode(int ordinal, long position, int length, Base base, long from, ChunkCipher cipher) throws IOException {
        int overhead = cipher == null ? 0 : cipher.overhead();
        MemorySegment out = cipher == null ? stored.asSlice(Frame.BYTES) : opened();
        byte[] like = from < 0 ? null : base.read(from, length);
        int n = compress(length, like, out);
        if (n >= length) {
            out.copyFrom(plain.asSlice(0, length));
            frame = new Frame(ordinal, position, length, length + overhead, Stored.PLAIN, -1);
        } else {
            frame = new Frame(ordinal, position, length, n + overhead, Stored.ZSTD, from);
        }
        seal(out, cipher);
    }

    /** Stores bytes of the index. */
    void index(int ordinal, long position, MemorySegment bytes, ChunkCipher cipher, MemorySegment to) {
        int n = Math.toIntExact(bytes.byteSize());
        frame = new Frame(ordinal, position, n, n + (cipher == null ? 0 : cipher.overhead()), Stored.INDEX, -1);
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

    private MemorySegment opened() {
        if (open == null) {
            open = arena.allocate(Index.LARGEST_CHUNK + ROOM, 64);
        }
        return open;
    }

    private int compress(int length, byte[] like, MemorySegment out) {
        ByteBuffer to = out.asByteBuffer();
        ByteBuffer in = plain.asSlice(0, length).asByteBuffer();
        if (like != null) {
            try (ZstdCompressCtx own = new ZstdCompressCtx().setLevel(LEVEL).setWindowLog(BASE_WINDOW)) {
                return own.loadDict(like).compress(to, in);
            }
        }
        if (compressor == null) {
            compressor = new ZstdCompressCtx().setLevel(LEVEL);
        }
        return compressor.compress(to, in);
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
            MemorySegment to = opened().asSlice(0, frame.stored() - cipher.overhead());
            if (!cipher.open(frame.ordinal(), associated(stored), coded.asByteBuffer(), to.asByteBuffer())) {
                throw bad(path, at, "is not what was sealed");
            }
            coded = to;
        }
        switch (frame.coding()) {
            case PLAIN -> MemorySegment.copy(coded, 0, plain, 0, frame.plain());
            case ZSTD -> decompress(coded, frame.base() < 0 ? null : base.read(frame.base(), frame.plain()), path, at);
            case CODED, INDEX -> throw bad(path, at, "is stored in a way that this reader does not know");
        }
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
        digest = leaf.digest(bytes());
        if (!java.security.MessageDigest.isEqual(digest, expected.digest())) {
            throw bad(path, at, "has not the SHA-256 that the index has");
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
        arena.close();
    }
}
