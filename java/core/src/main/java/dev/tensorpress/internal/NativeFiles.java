package dev.tensorpress.internal;

import dev.tensorpress.bindings.LibraryLoader;
import java.io.IOException;
import java.io.InputStream;
import java.net.URISyntaxException;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Loads shared libraries that lie on the class or module path. */
final class NativeFiles {
    /** This machine, such as {@code linux-x86_64}. */
    static final String PLATFORM = platform();

    private NativeFiles() {
    }

    private static String platform() {
        String os = System.getProperty("os.name").toLowerCase(Locale.ROOT);
        String arch = System.getProperty("os.arch");
        return (os.startsWith("mac") ? "macos" : os.startsWith("windows") ? "windows" : os)
                + "-" + (arch.equals("amd64") ? "x86_64" : arch);
    }

    /**
     * The file that a system property names, itself or by its folder; null if it is not set.
     *
     * @throws UnsatisfiedLinkError if there is no such file
     */
    static Path named(String property, String file) {
        String named = System.getProperty(property);
        if (named == null) {
            return null;
        }
        Path path = Path.of(named);
        if (Files.isDirectory(path)) {
            path = path.resolve(file);
        }
        if (!Files.isRegularFile(path)) {
            throw new UnsatisfiedLinkError("no native library at " + path + ", which -D" + property + " names");
        }
        return path;
    }

    /** True if {@code folder} on the path of the anchor's class loader holds the file. */
    static boolean has(Class<?> anchor, String folder, String file) {
        return anchor.getClassLoader().getResource(folder + "/" + file) != null;
    }

    /**
     * Loads the files in order; a file finds the earlier ones by name. Files in a jar are copied to a folder that only
     * this user can read and that is gone when this method returns: a loaded library needs its file no longer, and no
     * copy can be replaced or go stale.
     *
     * @return where the last file came from
     * @throws UnsatisfiedLinkError if one of them cannot be loaded
     */
    static String load(Class<?> anchor, String folder, String... files) {
        ClassLoader loader = anchor.getClassLoader();
        List<Path> copies = new ArrayList<>();
        Path temporary = null;
        URL url = null;
        try {
            for (String file : files) {
                url = loader.getResource(folder + "/" + file);
                if (url == null) {
                    throw new UnsatisfiedLinkError(folder + "/" + file + " is not on the class path");
                }
                if (url.getProtocol().equals("file")) {
                    LibraryLoader.load(Path.of(url.toURI()));
                    continue;
                }
                if (temporary == null) {
                    temporary = Files.createTempDirectory("tensorpress-");
                }
                Path copy = temporary.resolve(file);
                copies.add(copy);
                try (InputStream in = loader.getResourceAsStream(folder + "/" + file)) {
                    Files.copy(in, copy);
                }
                LibraryLoader.load(copy);
            }
            return url.getProtocol().equals("file") ? Path.of(url.toURI()).toString() : url.toString();
        } catch (IOException | URISyntaxException e) {
            throw new UnsatisfiedLinkError("cannot unpack " + url + " into " + System.getProperty("java.io.tmpdir")
                    + " (java.io.tmpdir): " + e);
        } finally {
            delete(copies, temporary);
        }
    }

    private static void delete(List<Path> copies, Path folder) {
        try {
            for (Path copy : copies) {
                Files.deleteIfExists(copy);
            }
            if (folder != null) {
                Files.deleteIfExists(folder);
            }
        } catch (IOException e) {
            System.getLogger("dev.tensorpress").log(System.Logger.Level.WARNING, "cannot remove " + folder, e);
        }
    }
}
