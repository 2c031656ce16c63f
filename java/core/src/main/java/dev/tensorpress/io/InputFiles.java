package dev.tensorpress.io;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemLoopException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The files that a model is read from, as they were when they were opened: a result made of a mix of old and new is none.
 *
 * <p>A model from a stranger must not be able to pull other files of this machine into its output. So a link in its folder is
 * followed only if it stays within the folder, or within {@code blobs} of a model hub's cache, whose folders are {@code
 * snapshots/REVISION}; to anywhere else only if the user allows it. Nothing but regular files is read: others can block for
 * good.
 */
public final class InputFiles {
    /** Where files have the type of regular ones, and are none. */
    private static final List<Path> NO_FILES = List.of(Path.of("/proc"), Path.of("/sys"));
    private static final String SNAPSHOTS = "snapshots";
    private static final String BLOBS = "blobs";
    private static final String UTF_8 = "UTF-8";
    /** As many as Linux follows. */
    private static final int MOST_LINKS = 40;

    private final Path folder;
    private final boolean allowLinks;
    private final Map<Path, Stamp> stamps = new LinkedHashMap<>();

    /** By what a change shows. */
    public record Stamp(long size, FileTime modified) {
        static Stamp of(Path file) throws IOException {
            BasicFileAttributes a = Files.readAttributes(file, BasicFileAttributes.class);
            return new Stamp(a.size(), a.lastModifiedTime());
        }

        @Override
        public String toString() {
            return size + " bytes, modified at " + modified;
        }
    }

    /** For files that are named by the user, and by nothing else. */
    public InputFiles() {
        this(null, true);
    }

    /**
     * Of one file that the user named. It is looked at before it is opened, which blocks for a pipe.
     *
     * @throws NoSuchFileException if there is none
     * @throws MalformedModelException if it is no regular file
     */
    public static InputFiles named(Path file) throws IOException {
        if (!Files.exists(file)) {
            throw new NoSuchFileException(file.toString());
        }
        InputFiles inputs = new InputFiles();
        inputs.add(file);
        return inputs;
    }

    /**
     * @param folder of the model
     * @param allowLinks whether links in it may lead anywhere
     */
    public InputFiles(Path folder, boolean allowLinks) {
        this.folder = folder;
        this.allowLinks = allowLinks;
    }

    /**
     * Notes a file that the user named, which is opened next; once is enough.
     *
     * @throws MalformedModelException if it is no regular file
     */
    public void add(Path file) throws IOException {
        if (stamps.containsKey(file)) {
            return;
        }
        if (!isFile(file)) {
            throw irregular(file, "a file");
        }
        if (!Files.isReadable(file)) {
            throw new AccessDeniedException(file.toString()); // now, and not when it is its turn to be copied
        }
        stamps.put(file, Stamp.of(file));
    }

    /** What is wrong with a path that exists, and where something was expected that only regular files are. */
    public static MalformedModelException irregular(Path file, String expected) {
        return new MalformedModelException(file, -1, "expected " + expected + ", this is not a regular file"
                + (isStream(file) ? ", but a pipe or a device, and would have to be read more than once; write it to a file first" : ""));
    }

    private static boolean isStream(Path file) {
        return Files.exists(file) && !Files.isRegularFile(file) && !Files.isDirectory(file);
    }

    /** Notes all that others have noted, as they have it. */
    public void addAll(InputFiles others) {
        others.stamps.forEach(stamps::putIfAbsent);
    }

    /**
     * {@link #add} of a file that was found in the folder, or that another file names.
     *
     * @throws UnsupportedRequestException if a link leads out of the folder, and that is not allowed
     */
    public void addFound(Path file) throws IOException {
        Path astray = allowLinks || !isFile(file) ? null : astray(folder, file);
        if (astray != null) {
            throw new UnsupportedRequestException(file + " is a link, or behind one, to " + astray + ", outside of the model's"
                    + " folder: it could lead to any file of this machine; if you trust the model, allow links", "allowLinks");
        }
        add(file);
    }

    /** Whether {@link #addFound} would take a file. */
    public boolean mayRead(Path file) throws IOException {
        return isFile(file) && Files.isReadable(file) && (allowLinks || astray(folder, file) == null);
    }

    /**
     * The input that an output would take the place of: the same file, by whichever name, or one in a folder of the output's name, where a
     * link is as much in it as the file that it leads to. Null if there is none.
     *
     * @param out a file or a folder, which need not exist
     */
    public static Path replacedBy(Path out, Iterable<Path> inputs) throws IOException {
        Path named = out.toAbsolutePath().normalize();
        Path real = target(out);
        for (Path input : inputs) {
            if (input.toAbsolutePath().normalize().startsWith(named) || target(input).startsWith(real)
                    || Files.exists(out) && Files.exists(input) && Files.isSameFile(out, input)) {
                return input;
            }
        }
        return null;
    }

    /** Where a path leads, behind all links, whether there is something or not. */
    public static Path target(Path path) throws IOException {
        Path p = path.toAbsolutePath();
        for (int links = 0; links < MOST_LINKS; links++) {
            if (Files.exists(p)) {
                return isStream(p) ? p.normalize() : p.toRealPath(); // pipes between processes have names that lead nowhere
            }
            if (!Files.isSymbolicLink(p)) {
                Path folder = p.normalize().getParent();
                return folder == null ? p.normalize() : target(folder).resolve(p.normalize().getFileName());
            }
            p = p.resolveSibling(Files.readSymbolicLink(p));
        }
        throw new FileSystemLoopException(path.toString());
    }

    /** True if a file exists and is a regular one that holds data. */
    public static boolean isFile(Path file) throws IOException {
        if (!Files.isRegularFile(file)) {
            return false;
        }
        Path real = file.toRealPath();
        for (Path p : NO_FILES) {
            if (real.startsWith(p)) {
                return false;
            }
        }
        return true;
    }

    /**
     * Where a file in a folder really is, if a link on the way leads out of the folder to anywhere but its cache's blobs; else
     * null. Hard links show nothing of where else a file has a name.
     */
    public static Path astray(Path folder, Path file) throws IOException {
        Path real = file.toRealPath();
        Path root = folder.toRealPath();
        if (real.startsWith(root)) {
            return null;
        }
        for (Path p = root.getParent(); p != null && p.getFileName() != null; p = p.getParent()) {
            // Not a real path itself: blobs that are a link could be anything.
            if (p.getFileName().toString().equals(SNAPSHOTS) && real.startsWith(p.resolveSibling(BLOBS))) {
                return null;
            }
        }
        return real;
    }

    /**
     * The file of a name that another file has, as the system encodes names.
     *
     * @throws UnsupportedRequestException if this JVM cannot encode it
     */
    public static Path resolve(Path folder, String name) {
        try {
            return folder.resolve(name);
        } catch (InvalidPathException e) {
            throw unnameable(folder, name);
        }
    }

    /**
     * The name of a file as text that gives the file again.
     *
     * @param file in the folder
     * @throws UnsupportedRequestException if this JVM cannot decode it
     */
    public static String name(Path folder, Path file) {
        String name = folder.relativize(file).toString().replace(file.getFileSystem().getSeparator(), "/");
        if (!resolve(folder, name).equals(file)) {
            throw unnameable(folder, name);
        }
        return name;
    }

    private static UnsupportedRequestException unnameable(Path folder, String name) {
        return new UnsupportedRequestException("the name of the file '" + name.replace('\0', '?') + "' in " + folder
                + " is none in " + System.getProperty("sun.jnu.encoding") + ", by which this JVM names files; " + advice());
    }

    /** What can be done where the JVM cannot take the name of a file. */
    public static String advice() {
        return System.getProperty("sun.jnu.encoding", UTF_8).equals(UTF_8) ? "rename it, so that its name is UTF-8"
                : "in a UTF-8 locale, such as LC_ALL=C.UTF-8, it reads names in UTF-8";
    }

    /** What was noted of a file, or null. */
    public Stamp stamp(Path file) {
        return stamps.get(file);
    }

    /**
     * Returns if no file has changed since it was noted.
     *
     * @throws IOException if one has, or is gone
     */
    public void check() throws IOException {
        for (Map.Entry<Path, Stamp> e : stamps.entrySet()) {
            Stamp now = Stamp.of(e.getKey());
            if (!now.equals(e.getValue())) {
                throw new IOException(e.getKey() + " changed while it was read: it had " + e.getValue() + ", now " + now);
            }
        }
    }
}
