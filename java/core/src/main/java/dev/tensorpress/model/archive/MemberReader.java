package dev.tensorpress.model.archive;

import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.kernel.Sha256;
import dev.tensorpress.model.archive.Index.Member;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Reads files one after the other, in parts of which one can hold bytes of several files, and hashes each file. Between these there can be
 * parts of yet another file.
 */
final class MemberReader implements AutoCloseable {
    private final List<Map.Entry<String, Path>> files;
    private final InputFiles inputs;
    private final ReadAhead ahead;
    private final Sha256 hash;
    private final List<Member> members = new ArrayList<>();
    /** Bytes of the file at hand that were read, and of all. */
    private long at;
    private long passed;

    /**
     * What is read next.
     *
     * @param other of which file; null for the next bytes of the files
     * @param start in that file
     */
    record Part(Path other, long start, long length) {}

    /**
     * @param parts together all bytes of the files, in their order
     * @param arena that the working memory is in
     */
    MemberReader(Map<String, Path> files, InputFiles inputs, List<Part> parts, Arena arena, Buffers buffers) {
        this.files = List.copyOf(files.entrySet());
        this.inputs = inputs;
        hash = new Sha256(arena);
        ahead = new ReadAhead(ranges(parts), buffers);
        skipEmpty();
    }

    private List<ReadAhead.Range> ranges(List<Part> parts) {
        List<ReadAhead.Range> all = new ArrayList<>();
        int file = 0;
        long start = 0;
        for (Part p : parts) {
            if (p.other != null) {
                all.addAll(ReadAhead.ranges(p.other, p.start, p.length));
                continue;
            }
            for (long length = p.length; length > 0;) {
                Path path = files.get(file).getValue();
                long n = Math.min(Math.min(length, Buffers.CHUNK), inputs.stamp(path).size() - start);
                if (n == 0) {
                    file++;
                    start = 0;
                    continue;
                }
                all.add(new ReadAhead.Range(path, start, n));
                start += n;
                length -= n;
            }
        }
        return all;
    }

    private long size() {
        return inputs.stamp(files.get(members.size()).getValue()).size();
    }

    /** Files without bytes are read once it is their turn. */
    private void skipEmpty() {
        while (members.size() < files.size() && at == size()) {
            members.add(new Member(files.get(members.size()).getKey(), at, hash.digest()));
            at = 0;
        }
    }

    /** Reads the next part, which is one of the files. */
    void read(MemorySegment to) throws IOException {
        for (long done = 0; done < to.byteSize();) {
            MemorySegment bytes = hash();
            MemorySegment.copy(bytes, 0, to, done, bytes.byteSize());
            done += bytes.byteSize();
        }
    }

    /** Passes over the next part, which is one of the files: it is hashed like the others. */
    void skip(long length) throws IOException {
        for (long done = 0; done < length;) {
            done += hash().byteSize();
        }
    }

    private MemorySegment hash() throws IOException {
        MemorySegment bytes = ahead.next();
        hash.update(bytes);
        at += bytes.byteSize();
        passed += bytes.byteSize();
        skipEmpty();
        return bytes;
    }

    /** Reads the next part, which is one of another file. */
    void readOther(MemorySegment to) throws IOException {
        for (long done = 0; done < to.byteSize();) {
            MemorySegment bytes = ahead.next();
            MemorySegment.copy(bytes, 0, to, done, bytes.byteSize());
            done += bytes.byteSize();
        }
    }

    /** Bytes of the files that were read. */
    long passed() {
        return passed;
    }

    /** The file at hand, or the last one. */
    String current() {
        return files.get(Math.min(members.size(), files.size() - 1)).getKey();
    }

    /** The files that are read, and what they are. */
    List<Member> members() {
        return members;
    }

    @Override
    public void close() {
        ahead.close();
    }
}
