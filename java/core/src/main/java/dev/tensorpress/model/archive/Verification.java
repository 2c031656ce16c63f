package dev.tensorpress.model.archive;

import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import java.util.function.LongConsumer;

/**
 * That an archive is whole: its bytes have the hash that it ends with, and the signature, if there is one, is of that. It takes no key, since
 * what is hashed is encrypted already. Of one that is not encrypted the index is read as well; what chunks decode to is not looked at.
 *
 * @param bytes of the archive
 * @param chunks that it has
 * @param encrypted whether reading it takes a key
 * @param root of the hash tree, in hexadecimal
 * @param signer whose signature it has
 */
public record Verification(long bytes, int chunks, boolean encrypted, String root, Optional<VerifyingKey> signer) {
    /**
     * Verifies an archive.
     *
     * @param progress told how many bytes are verified; or null
     * @throws MalformedModelException if it is none, is cut, or was changed
     * @throws IOException if it cannot be read, or changes meanwhile
     */
    public static Verification of(Path file, LongConsumer progress) throws IOException {
        Checked checked;
        try (Buffers buffers = new Buffers(0)) {
            checked = check(file, progress, buffers, null);
        }
        return checked.signed(checked.layout.size(), Signatures.read(file, checked.layout));
    }

    /** An archive that is whole, whatever its signature is. */
    record Checked(Layout layout, int chunks) {
        /** @param signer null for none */
        Verification signed(long bytes, VerifyingKey signer) {
            return new Verification(bytes, chunks, layout.parameters().length > 0, HexFormat.of().formatHex(layout.root()),
                    Optional.ofNullable(signer));
        }
    }

    /**
     * Checks all hashes.
     *
     * @param copy gets the bytes up to the signature, before it is known whether they are right; or null
     */
    static Checked check(Path file, LongConsumer progress, Buffers buffers, StreamFile copy) throws IOException {
        InputFiles inputs = InputFiles.named(file);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ);
                Arena arena = Arena.ofShared()) {
            Layout layout = Layout.read(channel, file);
            List<ReadAhead.Range> chunks = chunks(file, channel, layout);
            HashTree tree = new HashTree(arena);
            HashTree.Leaf leaf = new HashTree.Leaf(arena);
            MemorySegment header = arena.allocateFrom(ValueLayout.JAVA_BYTE, layout.header());
            take(header, leaf.digest(header), tree, copy);
            Iterator<ReadAhead.Range> hashed = chunks.iterator();
            try (ReadAhead ahead = new ReadAhead(chunks, buffers);
                    Conveyor conveyor = new Conveyor(0, Destination.DEFAULT_MEMORY, piece -> {
                        ReadAhead.Range c = hashed.next();
                        take(piece.stored.asSlice(0, c.length()), piece.digest(), tree, copy);
                        if (progress != null) {
                            progress.accept(c.start() + c.length());
                        }
                    })) {
                for (ReadAhead.Range c : chunks) {
                    Piece piece = conveyor.next();
                    MemorySegment.copy(ahead.next(), 0, piece.stored, 0, c.length());
                    conveyor.start(piece, () -> {
                        piece.hash(c.length());
                        return null;
                    });
                }
                conveyor.finish();
            }
            MemorySegment index = layout.readIndex(channel, file, arena);
            take(index, leaf.digest(index), tree, copy);
            if (!Arrays.equals(tree.root(), layout.root())) {
                throw new MalformedModelException(file, layout.size() - Layout.TRAILER,
                        "the root of the archive's hash tree is not that of its header, chunks and index: they were changed");
            }
            if (layout.parameters().length == 0) {
                Archive.open(file).close(); // which reads the index
            }
            inputs.check();
            return new Checked(layout, chunks.size());
        }
    }

    private static void take(MemorySegment bytes, byte[] digest, HashTree tree, StreamFile copy) throws IOException {
        tree.add(digest);
        if (copy != null) {
            copy.write(bytes);
        }
    }

    /**
     * Demands a signature.
     *
     * @param file that was verified
     * @throws MalformedModelException unless it is signed by this key
     */
    public void requireSigner(Path file, VerifyingKey key) {
        Signatures.require(file, signer.orElse(null), key);
    }

    /** From frame to frame. */
    private static List<ReadAhead.Range> chunks(Path file, FileChannel channel, Layout layout) throws IOException {
        List<ReadAhead.Range> all = new ArrayList<>();
        long at = layout.header().length;
        while (at < layout.indexAt()) {
            byte[] frame = Layout.read(channel, at, Frame.BYTES);
            long stored = frame.length < Frame.BYTES ? -1 : Frame.stored(MemorySegment.ofArray(frame));
            long length = Frame.BYTES + stored;
            if (stored < 0 || length > Piece.LONGEST || length > layout.indexAt() - at) {
                throw new MalformedModelException(file, at, "expected chunk " + all.size() + " of the archive, before its index at byte "
                        + layout.indexAt());
            }
            all.add(new ReadAhead.Range(file, at, length));
            at += length;
        }
        return all;
    }
}
