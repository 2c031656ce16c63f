package dev.tensorpress.model.archive;

import com.github.luben.zstd.Zstd;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.model.archive.Index.Array;
import dev.tensorpress.model.archive.Index.Chunk;
import dev.tensorpress.model.archive.Index.Member;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** Puts an archive together: its header, chunks in their order, then what says what they are. Closed without {@link #commit}, it leaves nothing. */
final class ArchiveWriter implements AutoCloseable {
    private static final int INDEX_LEVEL = 9;

    private final ChunkCipher cipher;
    private final SigningKey signer;
    private final StreamFile file;
    private final Arena arena = Arena.ofShared();
    private final HashTree tree = new HashTree(arena);
    private final List<Chunk> chunks = new ArrayList<>();
    private long position;
    private long written;

    /**
     * @param key that encrypts, or null
     * @param signer that signs, or null
     */
    ArchiveWriter(Path out, ArchiveKey key, SigningKey signer, Buffers buffers) throws IOException {
        Sealing sealing = key == null ? null : Sealing.create(key);
        byte[] start = Layout.header(sealing == null ? new byte[0] : sealing.bytes());
        cipher = sealing == null ? null : sealing.cipher(start);
        this.signer = signer;
        Path whole = out.toAbsolutePath().normalize();
        file = StreamFile.growing(whole.getParent(), whole.getFileName().toString(), buffers);
        try {
            MemorySegment header = copy(start);
            tree.add(new HashTree.Leaf(arena).digest(header));
            write(header);
        } catch (IOException | RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    /** What chunks have to be sealed with before they are added; null for nothing. */
    ChunkCipher cipher() {
        return cipher;
    }

    private MemorySegment copy(byte[] bytes) {
        return arena.allocateFrom(ValueLayout.JAVA_BYTE, bytes);
    }

    private void write(MemorySegment bytes) throws IOException {
        file.write(bytes);
        written += bytes.byteSize();
    }

    /** The next chunk, which is encoded. */
    void add(Piece piece) throws IOException {
        chunks.add(new Chunk(piece.frame(), piece.digest()));
        tree.add(piece.digest());
        position += piece.frame().plain();
        write(piece.bytes());
    }

    /**
     * Writes what follows the chunks, and gives the file its name.
     *
     * @return bytes of the archive
     * @throws dev.tensorpress.model.UnsupportedRequestException as {@link Index#write}
     */
    long commit(boolean folder, String entry, List<Member> members, List<Member> base, List<Array> arrays, List<Encoded> encodings, Path out,
            boolean replace) throws IOException {
        byte[] index = new Index(folder, entry, members, base, arrays, encodings, chunks).write();
        long indexAt = written;
        byte[] coded = Zstd.compress(index, INDEX_LEVEL);
        MemorySegment bytes = arena.allocate(Frame.BYTES + coded.length + (cipher == null ? 0L : cipher.overhead()));
        try (Piece piece = new Piece()) {
            piece.index(chunks.size(), position, index.length, copy(coded), cipher, bytes);
            tree.add(piece.digest());
        }
        write(bytes);
        byte[] root = tree.root();
        write(copy(Layout.end(indexAt, Signatures.write(signer, root), root)));
        file.commit(out, replace);
        return written;
    }

    @Override
    public void close() throws IOException {
        try {
            file.close();
        } finally {
            arena.close();
        }
    }
}
