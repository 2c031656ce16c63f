package dev.tensorpress.model.archive;

import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Sha256;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.archive.Index.Chunk;
import dev.tensorpress.model.archive.Index.Member;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Arrays;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.BiConsumer;

/**
 * Makes the files that an archive holds: each chunk is checked before it is decoded, and each file before it gets its name. A folder is made
 * beside its place, as {@code OUT.partial}, and gets its name when it is whole.
 */
public final class Unpacker implements AutoCloseable {
    /** Smaller files are gathered in memory. */
    private static final int SMALL = 1 << 20;

    private final Archive archive;
    private final Settings settings;
    private final Buffers buffers;
    private final List<Member> members;
    /** Where each member begins. */
    private final long[] starts;
    private final List<Sequence.Range> ranges;
    /** What is left of the memory where an encoding is decoded. */
    private final long memory;
    private final Executor executor;
    /** Where the members are made. */
    private Path folder;
    /** Null for the names of the members. */
    private Path single;
    private final boolean[] finished;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment small = arena.allocate(SMALL);
    private final Sha256 hash = new Sha256(arena);

    // The member at hand.
    private int member;
    private long written;
    private StreamFile file;

    /** Arrays of the encoding at hand, and the arena that they are in; null if there is none. */
    private Arena arrays;
    private MemorySegment array;

    /**
     * How.
     *
     * @param overwrite what has the name of the output may be replaced
     * @param resume files of an interrupted run that are whole are used; only for folders
     * @param threads that decode; 0 for one per processor
     * @param memory bytes of buffers and working memory at most, as far as single encodings allow
     * @param progress told how many bytes are there, and in which file; or null
     */
    public record Settings(boolean overwrite, boolean resume, int threads, long memory, BiConsumer<Long, String> progress) {}

    private Unpacker(Archive archive, Settings settings) {
        this.archive = archive;
        this.settings = settings;
        members = archive.index().members();
        finished = new boolean[members.size()];
        starts = new long[members.size()];
        for (int i = 1; i < starts.length; i++) {
            starts[i] = starts[i - 1] + members.get(i - 1).bytes();
        }
        ranges = archive.sequence().ranges();
        memory = settings.memory - archive.index().encodings().stream().mapToLong(Encoded::memory).max().orElse(0);
        executor = Executor.cpu(1);
        buffers = new Buffers(memory / 2, new Phases());
    }

    /**
     * Makes the files.
     *
     * @param out a folder if the archive holds one, else a file
     * @throws FileAlreadyExistsException if there is something, and it is not to be replaced
     * @throws UnsupportedRequestException if replacing it would destroy files that the archive does not have, or the archive itself; or if
     *     a base is needed
     * @throws MalformedModelException if the archive is damaged; then nothing has the name of the output
     * @throws IOException if a file cannot be read or written
     */
    public static void expand(Archive archive, Path out, Settings settings) throws IOException {
        archive.opened();
        if (InputFiles.replacedBy(out, List.of(archive.path())) != null) {
            throw new UnsupportedRequestException("the output " + out + " is the archive itself, or a folder around it");
        }
        try (Unpacker u = new Unpacker(archive, settings)) {
            if (archive.isFolder()) {
                u.folder(out.toAbsolutePath().normalize());
            } else {
                u.single = out.toAbsolutePath().normalize();
                u.pass();
            }
        }
    }

    private void folder(Path out) throws IOException {
        Set<String> names = new HashSet<>();
        members.forEach(m -> names.add(m.name()));
        if (Files.exists(out, LinkOption.NOFOLLOW_LINKS)) {
            if (!settings.overwrite) {
                throw new FileAlreadyExistsException(out.toString(), null, "exists; it is replaced only when asked to");
            }
            checkOwn(out, names);
        }
        folder = out.resolveSibling(out.getFileName() + ".partial");
        if (Files.exists(folder, LinkOption.NOFOLLOW_LINKS)) {
            if (!settings.resume && !settings.overwrite) {
                throw new FileAlreadyExistsException(folder.toString(), null,
                        "is of an interrupted run, which is resumed or replaced only when asked to");
            }
            checkOwn(folder, names);
            if (settings.resume) {
                findFinished();
            } else {
                delete(folder);
            }
        }
        Files.createDirectories(folder);
        boolean whole = false;
        try {
            pass();
            force();
            whole = true;
        } finally {
            if (!whole && Files.exists(folder) && isEmpty(folder)) {
                delete(folder);
            }
        }
        Path old = null;
        if (Files.exists(out, LinkOption.NOFOLLOW_LINKS)) {
            checkOwn(out, names); // it may be another one by now
            old = out.resolveSibling("." + out.getFileName() + ".tensorpress-"
                    + HexFormat.of().toHexDigits(ThreadLocalRandom.current().nextInt()) + ".old");
            Files.move(out, old, StandardCopyOption.ATOMIC_MOVE);
        }
        try {
            Files.move(folder, out, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            if (old != null) {
                Files.move(old, out, StandardCopyOption.ATOMIC_MOVE);
            }
            throw DurableFile.explain(e, out);
        }
        DurableFile.forceFolder(out.getParent());
        if (old != null) {
            delete(old);
        }
    }

    /** Only what the archive has as well is replaced. */
    private static void checkOwn(Path there, Set<String> names) throws IOException {
        if (!Files.isDirectory(there, LinkOption.NOFOLLOW_LINKS)) {
            throw new UnsupportedRequestException("cannot write " + there + ": a folder is written, and this is none");
        }
        Files.walkFileTree(there, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) {
                String name = there.relativize(file).toString();
                if (!names.contains(name) && !DurableFile.isTemporary(file.getFileName().toString())) {
                    throw new UnsupportedRequestException(there + " is not replaced: the archive has no file " + name
                            + ", which would be lost; remove it, or name another folder");
                }
                return FileVisitResult.CONTINUE;
            }
        });
    }

    private static boolean isEmpty(Path folder) throws IOException {
        boolean[] empty = {true};
        Files.walkFileTree(folder, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) {
                empty[0] = false;
                return FileVisitResult.TERMINATE;
            }
        });
        return empty[0];
    }

    /** Removes a folder with all that is in it; what links in it lead to stays. */
    public static void delete(Path folder) throws IOException {
        Files.walkFileTree(folder, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
                Files.delete(file);
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult postVisitDirectory(Path folder, IOException e) throws IOException {
                if (e != null) {
                    throw e;
                }
                Files.delete(folder);
                return FileVisitResult.CONTINUE;
            }
        });
    }

    /** What is small was not forced yet, in an earlier run that was interrupted neither. */
    private void force() throws IOException {
        DurableFile.forceAll(members.stream().filter(m -> m.bytes() <= SMALL).map(m -> folder.resolve(m.name())).toList());
        Files.walkFileTree(folder, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult postVisitDirectory(Path folder, IOException e) throws IOException {
                DurableFile.forceFolder(folder);
                return FileVisitResult.CONTINUE;
            }
        });
    }

    private void findFinished() throws IOException {
        for (int i = 0; i < finished.length; i++) {
            Member m = members.get(i);
            Path p = folder.resolve(m.name());
            finished[i] = Files.isRegularFile(p, LinkOption.NOFOLLOW_LINKS) && Files.size(p) == m.bytes()
                    && Arrays.equals(Base.sha256(p, m.bytes(), buffers), m.sha256());
        }
    }

    /** Whether some of the members' bytes are of a file that is not there yet. */
    private boolean needed(long from, long to) {
        for (int i = Sequence.search(starts.length, m -> starts[m] <= from); i < starts.length && starts[i] < to; i++) {
            if (!finished[i] && starts[i] + members.get(i).bytes() > from) {
                return true;
            }
        }
        return false;
    }

    /** Whether some of a chunk's bytes are needed. */
    private boolean needed(Chunk c) {
        long from = c.frame().position();
        long to = from + c.frame().plain();
        for (int i = archive.sequence().storedAt(from); i < ranges.size() && ranges.get(i).stored() < to; i++) {
            Sequence.Range r = ranges.get(i);
            long least = Math.max(from, r.stored()) - r.stored();
            long most = Math.min(to, r.storedEnd()) - r.stored();
            if (r.encoded() == null ? needed(r.position() + least, r.position() + most) : needed(r.position(), r.end())) {
                return true;
            }
        }
        return false;
    }

    private void pass() throws IOException {
        List<Chunk> chunks = archive.index().chunks().stream().filter(this::needed).toList();
        List<ReadAhead.Range> frames = chunks.stream().map(c -> new ReadAhead.Range(archive.path(), archive.place(c.frame().ordinal()),
                Frame.BYTES + (long) c.frame().stored())).toList();
        Base base = archive.opened();
        try (ReadAhead ahead = new ReadAhead(frames, buffers);
                Conveyor conveyor = new Conveyor(settings.threads, memory, piece -> stored(piece.frame().position(), piece.plainBytes()))) {
            for (Chunk c : chunks) {
                Piece piece = conveyor.next();
                MemorySegment bytes = ahead.next();
                MemorySegment.copy(bytes, 0, piece.stored, 0, bytes.byteSize());
                conveyor.start(piece, () -> {
                    archive.decode(piece, c, base);
                    return null;
                });
            }
            conveyor.finish();
        }
        archive.checkUnchanged();
        while (member < members.size()) {
            end();
        }
    }

    /** Bytes of a chunk, from a position on among all that are stored. */
    private void stored(long position, MemorySegment bytes) throws IOException {
        int at = archive.sequence().storedAt(position);
        for (long done = 0; done < bytes.byteSize(); at++) {
            Sequence.Range r = ranges.get(at);
            long from = position + done - r.stored();
            MemorySegment part = bytes.asSlice(done, Math.min(bytes.byteSize() - done, r.storedLength() - from));
            if (r.encoded() == null) {
                write(r.position() + from, part);
            } else if (needed(r.position(), r.end())) {
                encoded(r, from, part);
            }
            done += part.byteSize();
        }
    }

    /** Bytes of an encoding's arrays, which are decoded once all are there. */
    private void encoded(Sequence.Range r, long from, MemorySegment part) throws IOException {
        if (from == 0) {
            arrays = Arena.ofShared();
            array = r.encoded().allocate(arrays);
        }
        MemorySegment.copy(part, 0, array, from, part.byteSize());
        if (from + part.byteSize() == r.storedLength()) {
            try (Arena memory = executor.arena()) {
                write(r.position(), archive.decode(r, array, memory, executor));
            } finally {
                arrays.close();
                arrays = null;
            }
        }
    }

    /** Bytes of members from a position on. */
    private void write(long position, MemorySegment bytes) throws IOException {
        for (long done = 0; done < bytes.byteSize();) {
            while (position + done >= starts[member] + members.get(member).bytes()) {
                end();
            }
            Member m = members.get(member);
            long n = Math.min(bytes.byteSize() - done, starts[member] + m.bytes() - position - done);
            if (!finished[member]) {
                append(bytes.asSlice(done, n));
            }
            done += n;
            if (settings.progress != null) {
                settings.progress.accept(position + done, m.name());
            }
        }
    }

    private Path target() {
        return single != null ? single : folder.resolve(members.get(member).name());
    }

    private void append(MemorySegment bytes) throws IOException {
        Member m = members.get(member);
        if (m.bytes() <= SMALL) {
            MemorySegment.copy(bytes, 0, small, written, bytes.byteSize());
        } else {
            if (file == null) {
                Path target = target();
                Files.createDirectories(target.getParent());
                file = new StreamFile(target.getParent(), target.getFileName().toString(), m.bytes(), buffers);
            }
            file.write(bytes);
        }
        written += bytes.byteSize();
    }

    /** Checks the member at hand, gives it its name, and goes on to the next one. */
    private void end() throws IOException {
        Member m = members.get(member);
        if (!finished[member]) {
            if (written != m.bytes()) {
                throw new IllegalStateException(written + " of " + m.bytes() + " bytes of '" + m.name() + "' were decoded");
            }
            Path target = target();
            boolean replace = single == null || settings.overwrite;
            if (file != null) {
                check(m, file.finish().sha256());
                file.commit(target, replace);
                file.close();
                file = null;
            } else {
                hash.update(small.asSlice(0, written));
                check(m, hash.finish());
                Files.createDirectories(target.getParent());
                try (DurableFile one = new DurableFile(target.getParent(), target.getFileName().toString())) {
                    ByteBuffer all = small.asSlice(0, written).asByteBuffer();
                    while (all.hasRemaining()) {
                        one.channel().write(all);
                    }
                    if (single == null) {
                        one.commitUnforced(target, replace); // before the folder has its name
                    } else {
                        one.commit(target, replace);
                    }
                }
            }
        }
        written = 0;
        member++;
    }

    private void check(Member m, String sha256) {
        if (!sha256.equals(HexFormat.of().formatHex(m.sha256()))) {
            throw new MalformedModelException(archive.path(), -1, "'" + m.name() + "' decodes to bytes with the SHA-256 " + sha256
                    + ", the archive has " + HexFormat.of().formatHex(m.sha256()));
        }
    }

    @Override
    public void close() throws IOException {
        try {
            if (file != null) {
                file.close();
            }
        } finally {
            if (arrays != null) {
                arrays.close();
            }
            executor.close();
            buffers.close();
            arena.close();
        }
    }
}
