package dev.tensorpress.io;

import dev.tensorpress.kernel.Sha256;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.DirectoryStream;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A folder with a model that comes into being whole or not at all. Its files are made in a folder beside it, named {@code
 * OUT.partial}: first the shards one by one, each durable and noted in {@link Checkpoint} when it is done; then what goes with them;
 * last the manifest. Then that folder gets its name. What was finished stays if the work ends early, and another run may go on
 * from there. {@code docs/large-models.md} says what users see of this.
 *
 * <p>Use: {@link #begin}; for each shard that is not {@link #finished}, {@link #shard}, all tensors in order, {@link #done}; then
 * {@link #commit}; {@link #close} in any case.
 */
public final class DurableFolder implements AutoCloseable {
    /**
     * What a folder is made from.
     *
     * @param hashed files that hold the model, and how many of their first bytes tell which one it is: what is known of the others
     *     is their size and time
     * @param auxiliary files that are copied, by the names they get, with slashes; those that are made are not
     * @param inputs all of them as they were when they were opened
     */
    public record Source(Map<Path, Long> hashed, Map<String, Path> auxiliary, InputFiles inputs) {
        public Source {
            hashed = Collections.unmodifiableMap(new LinkedHashMap<>(hashed));
            auxiliary = Collections.unmodifiableMap(new LinkedHashMap<>(auxiliary));
        }
    }

    /**
     * What a folder holds besides auxiliary files.
     *
     * @param target its name, for the manifest
     * @param shardSize bytes of tensors in a file at most, for the manifest
     * @param shards in order
     * @param made small files by name
     */
    public record Contents(String target, long shardSize, List<PlannedFile> shards, Map<String, byte[]> made) {
        public Contents {
            shards = List.copyOf(shards);
            made = Collections.unmodifiableMap(new TreeMap<>(made));
        }
    }

    private static final String PARTIAL = ".partial";
    private static final String LOCK = ".tensorpress-lock";
    /** What an old folder is called while a new one takes its place: a dot, its name, this, a random number, and the end. */
    private static final String TAIL = ".tensorpress-";
    private static final int DIGITS = 8;
    private static final String OLD = ".old";

    private final Destination to;
    private final List<PlannedFile> shards;
    private final Source source;
    /** Without links, so that nothing is put or removed elsewhere than it seems. */
    private final Path out;
    private final Path partial;
    private final Buffers buffers;
    private final Manifest manifest;
    private final Checkpoint checkpoint;
    /** Small files that are made here, by name, in the order in which they are written. */
    private final Map<String, byte[]> made;
    /** Files that are copied, by the names they get. */
    private final Map<String, Path> auxiliary = new LinkedHashMap<>();
    /** Names of files that this run, or the one that it follows, puts there. */
    private final Set<String> ours = new TreeSet<>();
    private FileChannel lock;
    /** While true, nothing is taken away at the end: it is not this run's yet, or no more. */
    private boolean settled = true;
    private boolean spoiled;

    private DurableFolder(Destination to, Contents contents, Source source, Buffers buffers) throws IOException {
        this.to = to;
        this.shards = contents.shards;
        this.made = contents.made;
        this.source = source;
        this.buffers = buffers;
        this.out = place(to.path());
        this.partial = partial(out);
        auxiliary.putAll(source.auxiliary);
        auxiliary.keySet().removeAll(made.keySet());
        auxiliary.remove(Manifest.NAME);
        List<Manifest.Input> inputs = inputs();
        this.manifest = new Manifest(to.provenance(), contents.target, contents.shardSize, inputs, shards);
        this.checkpoint = new Checkpoint(identity(contents, inputs));
        for (PlannedFile s : shards) {
            checkpoint.files.add(s.name());
        }
        checkpoint.files.addAll(auxiliary.keySet());
        checkpoint.files.addAll(made.keySet());
        checkpoint.files.add(Manifest.NAME);
        ours.addAll(checkpoint.files);
    }

    /**
     * Checks all that can be known before the work, and locks the folder.
     *
     * @param buffers for files and for hashing what is there
     * @throws FileAlreadyExistsException if there is something of that name and it is not to be overwritten, or an interrupted run
     *     is there and it is not to be resumed
     * @throws UnsupportedRequestException if replacing what is there would destroy what is not an output of this library, or the
     *     input; if the folder of an interrupted run holds what is not of it; or if such a run is to be resumed that did another
     *     work, with what differs
     * @throws MalformedModelException if what it left cannot be read
     * @throws IOException if the folder cannot be written, is too large for its disk, or is being written
     */
    public static DurableFolder begin(Destination to, Contents contents, Source source, Buffers buffers) throws IOException {
        DurableFolder f = new DurableFolder(to, contents, source, buffers);
        try {
            f.begin();
            return f;
        } catch (IOException | RuntimeException | Error e) {
            try {
                f.close();
            } catch (IOException suppressed) {
                e.addSuppressed(suppressed);
            }
            throw e;
        }
    }

    /** Where the files of a folder are made. */
    public static Path partial(Path out) {
        Path whole = out.toAbsolutePath().normalize();
        return whole.resolveSibling(whole.getFileName() + PARTIAL);
    }

    /** True if a run that was interrupted left finished files where it made them. */
    public static boolean holdsFinished(Path out) {
        try {
            Path partial = partial(out);
            Checkpoint before = Files.isDirectory(partial) ? Checkpoint.read(partial) : null;
            return before != null && !before.shards.isEmpty();
        } catch (IOException | MalformedModelException e) {
            return false; // whoever goes on is told
        }
    }

    // What there is before

    private static Path place(Path path) throws IOException {
        Path p = path.toAbsolutePath().normalize();
        if (Files.exists(p)) {
            p = p.toRealPath();
        } else if (Files.exists(p, LinkOption.NOFOLLOW_LINKS)) {
            throw new IOException("cannot write " + path + ": it is a link to nothing");
        }
        Path parent = p.getParent();
        if (parent == null) {
            throw new UnsupportedRequestException("cannot write " + path + ": it is the root of a file system");
        }
        if (!Files.isDirectory(parent)) {
            throw DurableFile.explain(new NoSuchFileException(parent.toString()), path);
        }
        return parent.toRealPath().resolve(p.getFileName());
    }

    private void begin() throws IOException {
        checkInputs();
        checkOutput();
        boolean created = false;
        try {
            Files.createDirectory(partial);
            created = true;
            DurableFile.forceFolder(partial.getParent());
        } catch (FileAlreadyExistsException e) {
            checkPartial();
        } catch (FileSystemException e) {
            throw DurableFile.explain(e, to.path());
        }
        lock = lock();
        if (tidy()) {
            checkOutput();
        }
        Checkpoint before = created ? null : Checkpoint.read(partial);
        checkOwn(before);
        if (before != null && !before.shards.isEmpty()) {
            if (to.resume()) {
                resume(before);
            } else if (!to.overwrite()) {
                throw new FileAlreadyExistsException(partial.toString(), null, "holds " + before.shards.size() + " of "
                        + shards.size() + " files of an interrupted run, which is resumed or replaced only when asked to");
            }
        }
        settled = false;
        clear();
        checkSpace();
        checkpoint.write(partial);
    }

    /** Nothing of the input may be replaced or removed. */
    private void checkInputs() throws IOException {
        List<Path> files = new ArrayList<>(source.hashed.keySet());
        files.addAll(source.auxiliary.values());
        for (Path place : List.of(out, partial)) {
            Path file = InputFiles.replacedBy(place, files);
            if (file != null) {
                throw new UnsupportedRequestException("the output " + to.path() + " would take the place of " + file
                        + ", which the model is read from");
            }
        }
    }

    private void checkOutput() throws IOException {
        if (!Files.exists(out)) {
            return;
        }
        if (!to.overwrite()) {
            throw new FileAlreadyExistsException(to.path().toString(), null, "exists; it is replaced only when asked to");
        }
        if (!Files.isDirectory(out)) {
            throw new UnsupportedRequestException("cannot write " + to.path() + ": a folder is written, and this is a file");
        }
        List<String> there = names(out);
        if (there.isEmpty()) {
            return;
        }
        Set<String> ours = Manifest.filesOf(out);
        if (ours == null) {
            throw new UnsupportedRequestException(to.path() + " is not replaced: it has no " + Manifest.NAME
                    + ", so that it may hold anything; remove it, or name another folder");
        }
        for (String name : there) {
            if (!isOf(ours, name)) {
                throw new UnsupportedRequestException(to.path() + " is not replaced: its manifest does not list " + name
                        + ", which would be lost; remove it, or name another folder");
            }
        }
    }

    /** Whether a file is listed, or is one of those by which runs note how far they are; or a folder has listed ones. */
    private static boolean isOf(Set<String> listed, String name) {
        if (name.endsWith("/")) {
            for (String file : listed) {
                if (file.startsWith(name)) {
                    return true;
                }
            }
            return false;
        }
        return listed.contains(name) || name.equals(LOCK) || name.equals(Checkpoint.NAME);
    }

    /** A folder that only happens to have the name is left alone. */
    private void checkPartial() throws IOException {
        List<String> there = Files.isDirectory(partial, LinkOption.NOFOLLOW_LINKS) ? names(partial) : List.of("");
        if (!there.isEmpty() && !there.contains(LOCK) && !there.contains(Checkpoint.NAME)) {
            throw foreign("is not what an interrupted run leaves; remove it, or name another folder");
        }
    }

    /** In a folder of an interrupted run, what is not of it stays, and with it the folder. */
    private void checkOwn(Checkpoint before) throws IOException {
        Set<String> files = before == null ? Set.of() : before.files;
        for (String name : names(partial)) {
            if (!isOf(files, name) && !DurableFile.isTemporary(name.substring(name.lastIndexOf('/') + 1))) {
                throw foreign("holds " + name + ", which is not of the interrupted run and would be lost; move it away, or name"
                        + " another folder");
            }
        }
        ours.addAll(files);
    }

    private UnsupportedRequestException foreign(String what) {
        return new UnsupportedRequestException("cannot write " + to.path() + ": " + partial + ", where its files are made, exists"
                + " and " + what);
    }

    /**
     * Ends what a run that was killed had begun: the old folder is put back if there is none in its place yet, else removed.
     *
     * @return whether one was put back
     */
    private boolean tidy() throws IOException {
        boolean back = false;
        String head = "." + out.getFileName() + TAIL;
        List<Path> olds = new ArrayList<>();
        try (DirectoryStream<Path> beside = Files.newDirectoryStream(out.getParent())) {
            for (Path p : beside) {
                String name = p.getFileName().toString();
                if (name.startsWith(head) && name.endsWith(OLD) && name.length() == head.length() + DIGITS + OLD.length()
                        && Files.isDirectory(p, LinkOption.NOFOLLOW_LINKS)) {
                    olds.add(p);
                }
            }
        }
        for (Path old : olds) {
            Set<String> listed = listed(old);
            if (Files.exists(out)) {
                delete(old, listed);
            } else if (!listed.isEmpty() && names(old).containsAll(listed)) {
                Files.move(old, out, StandardCopyOption.ATOMIC_MOVE);
                DurableFile.forceFolder(out.getParent());
                back = true;
            }
        }
        return back;
    }

    /** What a folder's manifest lists; nothing if it has none that can be read, which then proves nothing to be ours. */
    private static Set<String> listed(Path folder) throws IOException {
        try {
            Set<String> files = Manifest.filesOf(folder);
            return files == null ? Set.of() : files;
        } catch (MalformedModelException e) {
            return Set.of();
        }
    }

    /** All below a folder, by names from there on, with slashes; folders end with one, and precede what is in them. */
    private static List<String> names(Path folder) throws IOException {
        List<String> names = new ArrayList<>();
        add("", folder, names);
        return names;
    }

    private static void add(String prefix, Path folder, List<String> to) throws IOException {
        try (DirectoryStream<Path> files = Files.newDirectoryStream(folder)) {
            for (Path p : files) {
                boolean within = Files.isDirectory(p, LinkOption.NOFOLLOW_LINKS);
                String name = prefix + p.getFileName() + (within ? "/" : "");
                to.add(name);
                if (within) {
                    add(name, p, to);
                }
            }
        }
    }

    /**
     * Whoever finished or gave up meanwhile took the file away, so what counts is the lock of the file that has the name before and
     * after. Nothing else may open it: when a process closes any descriptor of a file, its locks are gone.
     */
    private FileChannel lock() throws IOException {
        Path file = partial.resolve(LOCK);
        while (true) {
            FileChannel channel = null;
            boolean held = false;
            try {
                if (!Files.exists(file)) {
                    Files.createFile(file);
                }
                Object before = key(file);
                channel = FileChannel.open(file, StandardOpenOption.WRITE);
                if (!tryLock(channel)) {
                    throw new IOException("cannot write " + to.path() + ": another run is writing " + partial);
                }
                held = Objects.equals(before, key(file));
            } catch (FileAlreadyExistsException | NoSuchFileException e) {
                if (!Files.isDirectory(partial)) {
                    throw DurableFile.explain(e, to.path());
                }
            } catch (FileSystemException e) {
                throw DurableFile.explain(e, to.path());
            } finally {
                if (!held && channel != null) {
                    channel.close();
                }
            }
            if (held) {
                return channel;
            }
        }
    }

    private static Object key(Path file) throws IOException {
        return Files.readAttributes(file, BasicFileAttributes.class).fileKey();
    }

    private static boolean tryLock(FileChannel channel) throws IOException {
        try {
            return channel.tryLock() != null;
        } catch (OverlappingFileLockException e) {
            return false; // held in this process
        }
    }

    private void resume(Checkpoint before) throws IOException {
        String difference = before.difference(checkpoint);
        if (difference != null) {
            throw new UnsupportedRequestException("cannot go on with " + partial + ": its " + difference
                    + "; it has to be started over, by overwriting", "overwrite");
        }
        for (PlannedFile s : shards) {
            StreamFile.Summary done = before.shards.get(s.name());
            if (done != null && intact(s, done)) {
                checkpoint.shards.put(s.name(), done);
            }
        }
    }

    private boolean intact(PlannedFile s, StreamFile.Summary done) throws IOException {
        Path file = partial.resolve(s.name());
        return done.bytes() == s.bytes() && done.tensors().size() == s.tensors().size() && Files.isRegularFile(file)
                && Files.size(file) == s.bytes() && sha256(file, s.bytes()).equals(done.sha256());
    }

    /** Removes what is ours but not finished. */
    private void clear() throws IOException {
        for (String name : names(partial).reversed()) {
            Path p = partial.resolve(name);
            if (name.endsWith("/")) {
                removeFolder(p);
            } else if (!checkpoint.shards.containsKey(name) && (ours.contains(name)
                    || DurableFile.isTemporary(p.getFileName().toString()))) {
                Files.deleteIfExists(p);
            }
        }
    }

    /** Unless something is in it. */
    private static void removeFolder(Path folder) throws IOException {
        try {
            Files.deleteIfExists(folder);
        } catch (DirectoryNotEmptyException e) {
            // What is not ours stays.
        }
    }

    private void checkSpace() throws IOException {
        Map<String, Long> sizes = new TreeMap<>();
        long needed = 0;
        for (PlannedFile s : shards) {
            sizes.put(s.name(), s.bytes());
            needed = Math.addExact(needed, checkpoint.shards.containsKey(s.name()) ? 0 : s.bytes());
        }
        for (Map.Entry<String, byte[]> e : made.entrySet()) {
            sizes.put(e.getKey(), (long) e.getValue().length);
            needed += e.getValue().length;
        }
        for (Map.Entry<String, Path> e : auxiliary.entrySet()) {
            long size = source.inputs.stamp(e.getValue()).size();
            sizes.put(e.getKey(), size);
            needed = Math.addExact(needed, size);
        }
        needed += 2 * manifest.length(sizes); // and the checkpoint, which has the same hashes
        long free = partial.toFile().getUsableSpace();
        if (needed > free) {
            throw new IOException("cannot write " + to.path() + ": it needs " + needed + " bytes, and " + free
                    + " are free on its disk");
        }
    }

    // Identity

    private List<Manifest.Input> inputs() throws IOException {
        List<Manifest.Input> inputs = new ArrayList<>();
        for (Map.Entry<Path, Long> e : source.hashed.entrySet()) {
            Path p = e.getKey();
            inputs.add(new Manifest.Input(p.getFileName().toString(), source.inputs.stamp(p).size(), sha256(p, e.getValue())));
        }
        inputs.sort((a, b) -> a.name().compareTo(b.name()));
        return inputs;
    }

    private Map<String, String> identity(Contents contents, List<Manifest.Input> inputs) {
        Map<String, String> facts = new TreeMap<>(to.provenance());
        facts.putAll(to.others());
        facts.put("target", contents.target);
        facts.put("shard size", Long.toString(contents.shardSize));
        Map<String, InputFiles.Stamp> stamps = new TreeMap<>();
        for (Path p : source.hashed.keySet()) {
            stamps.put(p.getFileName().toString(), source.inputs.stamp(p));
        }
        for (Manifest.Input i : inputs) {
            facts.put("input " + i.name(), stamps.get(i.name()) + ", " + i.sha256());
        }
        try (Arena arena = Arena.ofConfined()) {
            Sha256 layout = new Sha256(arena);
            for (PlannedFile s : shards) {
                update(layout, s.name().getBytes(StandardCharsets.UTF_8));
                update(layout, s.header());
            }
            for (byte[] b : made.values()) {
                update(layout, b);
            }
            facts.put("layout", layout.finish());
        }
        return facts;
    }

    private static void update(Sha256 hash, byte[] bytes) {
        try (Arena arena = Arena.ofConfined()) {
            hash.update(arena.allocateFrom(ValueLayout.JAVA_BYTE, bytes));
        }
    }

    private String sha256(Path file, long length) throws IOException {
        try (Arena arena = Arena.ofConfined(); ReadAhead ahead = new ReadAhead(ReadAhead.ranges(file, 0, length), buffers)) {
            Sha256 hash = new Sha256(arena);
            for (long at = 0; at < length; at += Buffers.CHUNK) {
                hash.update(ahead.next());
            }
            return hash.finish();
        }
    }

    // The work

    /** True if a shard is there already, from a run that was interrupted. */
    public boolean finished(int shard) {
        return checkpoint.shards.containsKey(shards.get(shard).name());
    }

    /** Starts a shard and writes its header; the caller writes the tensors, closes it in any case, and calls {@link #done}. */
    public StreamFile shard(int shard) throws IOException {
        PlannedFile s = shards.get(shard);
        StreamFile file = new StreamFile(partial, s.name(), s.bytes(), buffers);
        try {
            file.write(MemorySegment.ofArray(s.header()));
            return file;
        } catch (IOException | RuntimeException | Error e) {
            file.close();
            throw e;
        }
    }

    /** Makes a shard durable, and notes that it is done. */
    public void done(int shard, StreamFile file) throws IOException {
        PlannedFile s = shards.get(shard);
        StreamFile.Summary summary = file.finish();
        for (PlannedFile.Tensor i : s.tensors()) {
            if (!summary.tensors().containsKey(i.name())) {
                throw new IllegalStateException("tensor '" + i.name() + "' of " + s.name() + " was not written");
            }
        }
        file.commit(partial.resolve(s.name()));
        checkpoint.shards.put(s.name(), summary);
        checkpoint.write(partial);
    }

    /**
     * Writes what goes with the shards, checks that the input is what it was, and gives the folder its name.
     *
     * @return all files, the manifest last
     * @throws IOException if a file cannot be written, or the input changed; then it cannot be resumed either
     */
    public Set<Path> commit() throws IOException {
        Map<String, StreamFile.Summary> files = new TreeMap<>(checkpoint.shards);
        if (files.size() != shards.size()) {
            throw new IllegalStateException(files.size() + " of " + shards.size() + " shards were written");
        }
        for (Map.Entry<String, Path> e : auxiliary.entrySet()) {
            files.put(e.getKey(), copy(e.getValue(), e.getKey()));
        }
        for (Map.Entry<String, byte[]> e : made.entrySet()) {
            files.put(e.getKey(), write(e.getKey(), e.getValue()));
        }
        try {
            source.inputs.check();
        } catch (IOException e) {
            spoiled = true;
            throw e;
        }
        writeManifest(files);
        rename();
        Set<Path> all = new LinkedHashSet<>();
        for (String name : files.keySet()) {
            all.add(to.path().resolve(name));
        }
        all.add(to.path().resolve(Manifest.NAME));
        return all;
    }

    private StreamFile.Summary copy(Path from, String name) throws IOException {
        long length = source.inputs.stamp(from).size();
        Path to = partial.resolve(name);
        makeFolder(to.getParent());
        try (StreamFile file = new StreamFile(to.getParent(), to.getFileName().toString(), length, buffers);
                ReadAhead ahead = new ReadAhead(ReadAhead.ranges(from, 0, length), buffers)) {
            for (long at = 0; at < length; at += Buffers.CHUNK) {
                file.write(ahead.next());
            }
            file.commit(to);
            return file.finish();
        }
    }

    /** With those around it, durably. */
    private static void makeFolder(Path folder) throws IOException {
        if (!Files.isDirectory(folder)) {
            makeFolder(folder.getParent());
            Files.createDirectory(folder);
            DurableFile.forceFolder(folder.getParent());
        }
    }

    private StreamFile.Summary write(String name, byte[] bytes) throws IOException {
        try (StreamFile file = new StreamFile(partial, name, bytes.length, buffers)) {
            file.write(MemorySegment.ofArray(bytes));
            file.commit(partial.resolve(name));
            return file.finish();
        }
    }

    private void writeManifest(Map<String, StreamFile.Summary> files) throws IOException {
        Map<String, Long> sizes = new TreeMap<>();
        for (Map.Entry<String, StreamFile.Summary> e : files.entrySet()) {
            sizes.put(e.getKey(), e.getValue().bytes());
        }
        try (StreamFile file = new StreamFile(partial, Manifest.NAME, manifest.length(sizes), buffers)) {
            manifest.write(files, new OutputStream() {
                @Override
                public void write(int b) throws IOException {
                    write(new byte[] {(byte) b}, 0, 1);
                }

                @Override
                public void write(byte[] b, int from, int length) throws IOException {
                    file.write(MemorySegment.ofArray(b).asSlice(from, length));
                }
            });
            file.commit(partial.resolve(Manifest.NAME));
        }
    }

    /** The checkpoint goes last: up to the rename a run can go on, and after it the model is whole. */
    private void rename() throws IOException {
        Path old = null;
        if (to.overwrite() && Files.exists(out)) {
            checkOutput(); // it may be another one by now
            old = out.resolveSibling("." + out.getFileName() + TAIL
                    + HexFormat.of().toHexDigits(ThreadLocalRandom.current().nextInt()) + OLD);
            Files.move(out, old, StandardCopyOption.ATOMIC_MOVE);
        }
        try {
            Files.move(partial, out, StandardCopyOption.ATOMIC_MOVE);
        } catch (FileSystemException e) {
            if (old != null) {
                Files.move(old, out, StandardCopyOption.ATOMIC_MOVE);
            }
            throw Files.exists(out) ? new FileAlreadyExistsException(to.path().toString(), null, to.path()
                    + " exists; it was made while this was written") : DurableFile.explain(e, to.path());
        }
        settled = true;
        DurableFile.forceFolder(out.getParent());
        Files.delete(out.resolve(Checkpoint.NAME));
        Files.delete(out.resolve(LOCK));
        if (old != null) {
            delete(old, listed(old));
        }
    }

    /** Removes an old folder, the manifest last: whatever ends this early, the next run can tell what it is. */
    private static void delete(Path folder, Set<String> listed) throws IOException {
        for (String name : names(folder).reversed()) {
            if (name.endsWith("/")) {
                removeFolder(folder.resolve(name));
            } else if (isOf(listed, name) && !name.equals(Manifest.NAME)) {
                Files.deleteIfExists(folder.resolve(name));
            }
        }
        if (listed.contains(Manifest.NAME) && names(folder).equals(List.of(Manifest.NAME))) {
            Files.deleteIfExists(folder.resolve(Manifest.NAME));
        }
        removeFolder(folder);
    }

    /** Unless the folder is whole: removes what no other run can use, which is all of it if nothing is finished. */
    @Override
    public void close() throws IOException {
        if (lock == null) {
            return;
        }
        try {
            if (!settled) {
                if (spoiled) {
                    checkpoint.shards.clear();
                }
                clear();
                if (checkpoint.shards.isEmpty()) {
                    Files.deleteIfExists(partial.resolve(Checkpoint.NAME));
                    Files.deleteIfExists(partial.resolve(LOCK));
                    removeFolder(partial);
                }
            }
        } finally {
            lock.close();
            lock = null;
        }
    }
}
