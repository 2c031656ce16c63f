package dev.tensorpress.model.archive;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.Arrays;

/**
 * What stands at both ends of an archive.
 *
 * @param header all of it: mark, version, length of parameters, parameters
 * @param indexAt where the index's frame is
 * @param signature bytes between index and trailer
 * @param root of the {@link HashTree}
 * @param size of the file
 */
record Layout(byte[] header, long indexAt, byte[] signature, byte[] root, long size) {
    private static final byte[] MARK = {(byte) 0x89, 'T', 'P', 'A', '\r', '\n', 0x1a, '\n'};
    private static final byte[] END = {(byte) 0x89, 'A', 'P', 'T', '\r', '\n', 0x1a, '\n'};
    private static final int VERSION = 1;
    private static final int HEADER = MARK.length + 4 + 4;
    /** Of the cipher's parameters, and of a signature. */
    static final int LARGEST = 64 << 10;
    static final int TRAILER = 8 + 4 + HashTree.DIGEST + END.length;

    /** @param parameters of the cipher; none without one */
    static byte[] header(byte[] parameters) {
        if (parameters.length > LARGEST) {
            throw new IllegalArgumentException("parameters of " + parameters.length + " bytes, expected " + LARGEST + " at most");
        }
        return ByteBuffer.allocate(HEADER + parameters.length).order(ByteOrder.LITTLE_ENDIAN).put(MARK).putInt(VERSION)
                .putInt(parameters.length).put(parameters).array();
    }

    /** Where the parameters are. */
    long parametersAt() {
        return HEADER;
    }

    /** Of the cipher; none without one. */
    byte[] parameters() {
        return Arrays.copyOfRange(header, HEADER, header.length);
    }

    /** What follows the index. */
    static byte[] end(long indexAt, byte[] signature, byte[] root) {
        return ByteBuffer.allocate(signature.length + TRAILER).order(ByteOrder.LITTLE_ENDIAN).put(signature).putLong(indexAt)
                .putInt(signature.length).put(root).put(END).array();
    }

    /** True if a file begins as archives do. */
    static boolean isAt(FileChannel channel) throws IOException {
        byte[] start = read(channel, 0, MARK.length);
        return Arrays.equals(start, MARK);
    }

    /** Fewer bytes if the file ends before. */
    static byte[] read(FileChannel channel, long at, int length) throws IOException {
        ByteBuffer b = ByteBuffer.allocate(length);
        while (b.hasRemaining() && channel.read(b, at + b.position()) >= 0) {
            continue;
        }
        return Arrays.copyOf(b.array(), b.position());
    }

    /**
     * Of a file.
     *
     * @throws MalformedModelException if it is no archive, or does not end as one
     * @throws UnsupportedRequestException if it is one of another version
     */
    static Layout read(FileChannel channel, Path path) throws IOException {
        long size = channel.size();
        if (!isAt(channel)) {
            throw new MalformedModelException(path, 0, "expected an archive, which begins with another mark");
        }
        ByteBuffer start = ByteBuffer.wrap(read(channel, 0, HEADER)).order(ByteOrder.LITTLE_ENDIAN);
        if (start.capacity() < HEADER || size < HEADER + Frame.BYTES + TRAILER) {
            throw new MalformedModelException(path, size, "the archive ends in its header");
        }
        int version = start.getInt(MARK.length);
        int parameters = start.getInt(MARK.length + 4);
        if (version != VERSION) {
            throw new UnsupportedRequestException(path + " is an archive of version " + Integer.toUnsignedLong(version) + "; version "
                    + VERSION + " can be read");
        }
        if (parameters < 0 || parameters > LARGEST || parameters > size - HEADER - Frame.BYTES - TRAILER) {
            throw new MalformedModelException(path, MARK.length + 4, "the archive claims parameters of " + Integer.toUnsignedLong(parameters)
                    + " bytes");
        }
        long end = size - TRAILER;
        ByteBuffer trailer = ByteBuffer.wrap(read(channel, end, TRAILER)).order(ByteOrder.LITTLE_ENDIAN);
        byte[] root = new byte[HashTree.DIGEST];
        byte[] mark = new byte[END.length];
        if (trailer.capacity() == TRAILER) {
            trailer.get(8 + 4, root).get(8 + 4 + HashTree.DIGEST, mark);
        }
        if (!Arrays.equals(mark, END)) {
            throw new MalformedModelException(path, end, "the archive does not end as archives do: it was cut");
        }
        long indexAt = trailer.getLong(0);
        int signature = trailer.getInt(8);
        if (signature < 0 || signature > LARGEST || indexAt < HEADER + parameters || indexAt > end - signature - Frame.BYTES) {
            throw new MalformedModelException(path, end, "the archive's trailer claims an index at " + indexAt + ", and a signature of "
                    + signature + " bytes, before byte " + end);
        }
        return new Layout(read(channel, 0, HEADER + parameters), indexAt, read(channel, end - signature, signature), root, size);
    }

    /** Where the signature is. */
    long signatureAt() {
        return size - TRAILER - signature.length;
    }

    /**
     * Reads the index as it is stored, with its frame.
     *
     * @throws MalformedModelException if it is larger than any
     */
    MemorySegment readIndex(FileChannel channel, Path path, Arena arena) throws IOException {
        long n = signatureAt() - indexAt;
        if (n > Frame.BYTES + Index.LARGEST + AesGcm.TAG) {
            throw new MalformedModelException(path, indexAt, "the archive claims an index of " + n + " bytes, expected " + Index.LARGEST
                    + " at most");
        }
        MemorySegment stored = arena.allocate(n);
        read(channel, path, indexAt, stored);
        return stored;
    }

    /** @throws IOException if the file ends before that */
    static void read(FileChannel channel, Path path, long at, MemorySegment to) throws IOException {
        ByteBuffer b = to.asByteBuffer();
        while (b.hasRemaining()) {
            if (channel.read(b, at + b.position()) < 0) {
                throw new IOException(path + " became shorter while it was read");
            }
        }
    }
}
