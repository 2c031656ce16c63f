package dev.tensorpress.io;

import dev.tensorpress.model.Phases;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.ReadOnlyFileSystemException;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ThreadLocalRandom;

/**
 * A file that comes into being whole or not at all: written under a temporary name in the folder where it will be,
 * forced to disk, renamed over what was there, and the folder forced too. Closed without {@link #commit}, it leaves
 * nothing behind. A process killed midway leaves a file named {@code .NAME.tensorpress-XXXXXXXX.tmp}, and the old one.
 */
public final class DurableFile implements AutoCloseable {
    private static final int LONGEST_NAME = 255;
    /** Temporary names: a dot, the name, this, a random number, and the end. */
    private static final String TAIL = ".tensorpress-";
    private static final int DIGITS = 8;
    private static final String END = ".tmp";
    /** Threads that wait for the disk. */
    private static final int FORCED_AT_ONCE = 16;

    /** Those of all files that are being written. */
    private static final Set<Path> TEMPORARY = ConcurrentHashMap.newKeySet();

    private final Path named;
    private Path temporary;
    private final FileChannel channel;
    private final Phases phases;

    /**
     * Starts a file in {@code folder}; {@code name} is only for the temporary file's name.
     *
     * @throws IOException if the folder does not exist or cannot be written
     */
    public DurableFile(Path folder, String name) throws IOException {
        this(folder, name, new Phases());
    }

    /**
     * {@link #DurableFile(Path, String)}.
     *
     * @param phases told how long the disk takes in the end
     */
    public DurableFile(Path folder, String name, Phases phases) throws IOException {
        this.phases = phases;
        this.named = folder.resolve(name);
        FileChannel opened = null;
        while (opened == null) {
            Path p = folder.resolve(temporaryName(name));
            try {
                opened = FileChannel.open(p, StandardOpenOption.READ, StandardOpenOption.WRITE,
                        StandardOpenOption.CREATE_NEW);
                temporary = p;
                TEMPORARY.add(p);
            } catch (FileAlreadyExistsException e) {
                // Another process drew the same number.
            } catch (IOException | ReadOnlyFileSystemException e) {
                throw explain(e, named);
            }
        }
        channel = opened;
    }

    private static String temporaryName(String name) {
        String tail = TAIL + HexFormat.of().toHexDigits(ThreadLocalRandom.current().nextInt()) + END;
        int room = LONGEST_NAME - 1 - tail.length();
        String head = name;
        while (head.getBytes(StandardCharsets.UTF_8).length > room) {
            head = head.substring(0, head.offsetByCodePoints(head.length(), -1));
        }
        return "." + head + tail;
    }

    /**
     * Makes a folder with the name of a temporary one; {@code name} is only for that.
     *
     * @throws IOException if the folder around it does not exist or cannot be written
     */
    public static Path temporaryFolder(Path around, String name) throws IOException {
        while (true) {
            try {
                return Files.createDirectory(around.resolve(temporaryName(name)));
            } catch (FileAlreadyExistsException e) {
                // Another process drew the same number.
            }
        }
    }

    /** Whether a file or folder has such a name as a temporary one. */
    public static boolean isTemporary(String name) {
        int tail = name.length() - TAIL.length() - DIGITS - END.length();
        return tail > 0 && name.charAt(0) == '.' && name.startsWith(TAIL, tail) && name.endsWith(END);
    }

    /** Removes the temporary files of a process that ends while threads still write: they can neither finish nor clean up. */
    public static void abandonAll() throws IOException {
        for (Path p : TEMPORARY) {
            Files.deleteIfExists(p);
        }
    }

    /** Where to write; what was written can be read back. */
    public FileChannel channel() {
        return channel;
    }

    /**
     * Writes what remains of a buffer, behind what was written so far.
     *
     * @throws IOException that says in words what kept it from being written
     */
    public void write(ByteBuffer bytes) throws IOException {
        try {
            while (bytes.hasRemaining()) {
                channel.write(bytes);
            }
        } catch (ClosedChannelException e) {
            throw e; // of an interruption, too
        } catch (IOException e) {
            throw explain(e, named);
        }
    }

    /** What the file is called until then. */
    Path temporary() {
        return temporary;
    }

    /** {@link #commit(Path, boolean)}, replacing what had the name. */
    public void commit(Path target) throws IOException {
        commit(target, true);
    }

    /**
     * Forces the contents to disk and gives the file its name. What fails after that, fails with the file in its place: see
     * {@link #committed}.
     *
     * @param replace what had the name, if that was a file; else whatever has it by now stays, and that is an error
     */
    public void commit(Path target, boolean replace) throws IOException {
        commit(target, replace, true);
    }

    /** {@link #commit(Path, boolean)}, but the disk need not have it before {@link #forceAll} of it and {@link #forceFolder}. */
    public void commitUnforced(Path target, boolean replace) throws IOException {
        commit(target, replace, false);
    }

    private void commit(Path target, boolean replace, boolean force) throws IOException {
        if (Files.exists(target) && !Files.isDirectory(target) && !Files.isRegularFile(target)) {
            throw new IOException("cannot write " + target + ": a pipe or a device has that name");
        }
        try {
            if (force) {
                Phases.Span span = phases.begin(Phases.Phase.FSYNC);
                channel.force(true);
                span.end(target, channel.size());
            }
            channel.close();
            if (replace || !linked(target)) {
                try {
                    Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
                } catch (AtomicMoveNotSupportedException e) {
                    throw new IOException("cannot write " + target + ": this file system cannot rename in one step", e);
                }
            }
            if (temporary != null) {
                TEMPORARY.remove(temporary);
                temporary = null;
            }
            if (force) {
                forceFolder(target.toAbsolutePath().getParent());
            }
        } catch (FileAlreadyExistsException e) {
            throw e;
        } catch (FileSystemException e) {
            throw explain(e, target);
        }
    }

    /**
     * Gives the file its name as a link, which no existing file is replaced by; a rename would. False if this file system has no
     * links: then nothing is left but to look, and to rename.
     *
     * @throws FileAlreadyExistsException if something has the name
     */
    private boolean linked(Path target) throws IOException {
        try {
            Files.createLink(target, temporary);
        } catch (FileAlreadyExistsException e) {
            throw new FileAlreadyExistsException(target.toString(), null, "was made meanwhile; it is replaced only when asked to");
        } catch (UnsupportedOperationException | FileSystemException e) {
            if (Files.exists(target, LinkOption.NOFOLLOW_LINKS)) {
                throw new FileAlreadyExistsException(target.toString(), null, "was made meanwhile; it is replaced only when asked to");
            }
            return false;
        }
        Path second = temporary;
        TEMPORARY.remove(second);
        temporary = null;
        Files.delete(second);
        return true;
    }

    /** Whether the file has its name, even if something failed after that. */
    public boolean committed() {
        return temporary == null;
    }

    /** Forces files to disk, many at a time: file systems write down together what is asked for together. */
    public static void forceAll(List<Path> files) throws IOException {
        try (ExecutorService threads = Executors.newFixedThreadPool(FORCED_AT_ONCE, Thread.ofPlatform().daemon().name("tensorpress-force").factory())) {
            List<Future<?>> all = new ArrayList<>();
            for (Path file : files) {
                all.add(threads.submit(() -> {
                    force(file);
                    return null;
                }));
            }
            for (Future<?> one : all) {
                one.get();
            }
        } catch (InterruptedException e) {
            throw Buffers.interrupted();
        } catch (ExecutionException e) {
            if (e.getCause() instanceof IOException io) {
                throw io;
            }
            throw new IllegalStateException(e.getCause());
        }
    }

    /** Forces the names in a folder to disk. */
    public static void forceFolder(Path folder) throws IOException {
        try {
            force(folder);
        } catch (AccessDeniedException e) {
            // A folder that may be written but not listed, or a system that does not open folders: the rename stands.
        }
    }

    private static void force(Path path) throws IOException {
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
            channel.force(true);
        }
    }

    /** An exception that says in words what kept {@code target} from being written. */
    public static IOException explain(Exception e, Path target) {
        String m = e.getMessage() == null ? e.toString() : e.getMessage();
        String why;
        if (m.contains("No space left")) {
            why = "the disk is full";
        } else if (m.contains("quota")) {
            why = "the disk quota is used up";
        } else if (e instanceof NoSuchFileException) {
            why = "its folder does not exist";
        } else if (e instanceof AccessDeniedException) {
            why = "no permission to write in its folder";
        } else if (e instanceof ReadOnlyFileSystemException || m.contains("Read-only file system")) {
            why = "the file system is read-only";
        } else if (m.contains("Not a directory")) {
            why = "its folder is not a folder";
        } else if (m.contains("Is a directory") || e instanceof java.nio.file.DirectoryNotEmptyException) {
            why = "a folder has that name";
        } else if (m.startsWith("cannot write ")) {
            return e instanceof IOException io ? io : new IOException(m, e);
        } else {
            why = m;
        }
        return new IOException("cannot write " + target + ": " + why, e);
    }

    /** Removes the file unless it was committed. */
    @Override
    public void close() throws IOException {
        try {
            channel.close();
        } finally {
            if (temporary != null) {
                Files.deleteIfExists(temporary);
                TEMPORARY.remove(temporary);
            }
        }
    }
}
