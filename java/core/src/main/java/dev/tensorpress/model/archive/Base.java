package dev.tensorpress.model.archive;

import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.kernel.Sha256;
import dev.tensorpress.model.archive.Index.Member;
import java.io.EOFException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Files that chunks are coded by, one after the other. Several threads read at once. */
final class Base implements AutoCloseable {
    private final List<Member> files = new ArrayList<>();
    /** Where each begins. */
    private final List<Long> starts = new ArrayList<>();
    private final Map<String, Long> positions = new HashMap<>();
    private final Map<String, FileChannel> channels = new LinkedHashMap<>();
    private long total;

    /**
     * Opens files, and hashes them.
     *
     * @param paths by their names in their folder
     */
    static Base open(Map<String, Path> paths) throws IOException {
        try (Buffers buffers = new Buffers(0)) {
            return new Base(paths, buffers);
        }
    }

    private Base(Map<String, Path> paths, Buffers buffers) throws IOException {
        try {
            for (Map.Entry<String, Path> e : paths.entrySet()) {
                FileChannel channel = FileChannel.open(e.getValue(), StandardOpenOption.READ);
                channels.put(e.getKey(), channel);
                long size = channel.size();
                files.add(new Member(e.getKey(), size, sha256(e.getValue(), size, buffers)));
                starts.add(total);
                positions.put(e.getKey(), total);
                total += size;
            }
        } catch (IOException | RuntimeException | Error e) {
            close();
            throw e;
        }
    }

    static byte[] sha256(Path file, long length, Buffers buffers) throws IOException {
        try (Arena arena = Arena.ofConfined(); ReadAhead ahead = new ReadAhead(ReadAhead.ranges(file, 0, length), buffers)) {
            Sha256 hash = new Sha256(arena);
            for (long at = 0; at < length; at += Buffers.CHUNK) {
                hash.update(ahead.next());
            }
            return hash.digest();
        }
    }

    List<Member> files() {
        return files;
    }

    /** Of all files. */
    long bytes() {
        return total;
    }

    /** Where a file begins; -1 if there is none of this name. */
    long position(String name) {
        return positions.getOrDefault(name, -1L);
    }

    /** Which of the files is not what was expected, in words; null if each is. */
    String difference(List<Member> expected) {
        for (int i = 0; i < files.size(); i++) {
            byte[] found = files.get(i).sha256();
            byte[] wanted = expected.get(i).sha256();
            if (!Arrays.equals(found, wanted)) {
                return "its file '" + expected.get(i).name() + "' has the SHA-256 " + HexFormat.of().formatHex(found) + ", expected "
                        + HexFormat.of().formatHex(wanted);
            }
        }
        return null;
    }

    /** Bytes from a position on, which there have to be. */
    byte[] read(long position, int length) throws IOException {
        ByteBuffer to = ByteBuffer.allocate(length);
        for (int i = 0; i < files.size() && to.hasRemaining(); i++) {
            long start = starts.get(i);
            long end = start + files.get(i).bytes();
            if (position + to.position() < start || position + to.position() >= end) {
                continue;
            }
            FileChannel channel = channels.get(files.get(i).name());
            to.limit((int) Math.min(length, end - position));
            while (to.hasRemaining()) {
                if (channel.read(to, position + to.position() - start) < 0) {
                    throw new EOFException("a file of the base became shorter while it was read");
                }
            }
            to.limit(length);
        }
        return to.array();
    }

    @Override
    public void close() throws IOException {
        for (FileChannel c : channels.values()) {
            c.close();
        }
    }
}
