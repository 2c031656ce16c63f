package dev.tensorpress.internal;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.LibraryLoader;
import java.nio.file.Path;
import java.util.NoSuchElementException;

/**
 * The library of native kernels. It is loaded once per process, from the file that the system property
 * {@value #PROPERTY} names (or from the folder that holds it), else from the copy in the bindings jar. Where the property
 * is set nothing else is tried.
 */
public final class NativeLibrary {
    /** Names the library, or its folder. */
    public static final String PROPERTY = "tensorpress.library.path";

    static final String FILE = "libtensorpress.so";
    /** In the jar. */
    static final String FOLDER = "dev-tensorpress-natives/" + NativeFiles.PLATFORM;

    private static final String PATH;
    private static final String FAILURE;

    static {
        String path = null;
        String failure = null;
        try {
            path = find();
            checkAbi(path);
        } catch (UnsatisfiedLinkError e) {
            failure = e.getMessage();
        }
        PATH = path;
        FAILURE = failure;
    }

    private NativeLibrary() {
    }

    /**
     * Returns if the kernels can be called.
     *
     * @throws UnsatisfiedLinkError if they cannot, with the reason and what to do, each time
     */
    public static void load() {
        if (FAILURE != null) {
            throw new UnsatisfiedLinkError(FAILURE);
        }
    }

    /** Where the library was loaded from: a file, or an entry of a jar. */
    public static String path() {
        load();
        return PATH;
    }

    private static String find() {
        Path named = NativeFiles.named(PROPERTY, FILE);
        if (named != null) {
            LibraryLoader.load(named);
            return named.toString();
        }
        if (!NativeFiles.has(LibraryLoader.class, FOLDER, FILE)) {
            throw new UnsatisfiedLinkError("no native library for " + NativeFiles.PLATFORM
                    + ": Tensorpress comes with one for linux-x86_64; build the kernels with CMake and name them with -D"
                    + PROPERTY);
        }
        return NativeFiles.load(LibraryLoader.class, FOLDER, FILE);
    }

    private static void checkAbi(String path) {
        int version;
        try {
            version = Kernels.tp_abi_version();
        } catch (NoSuchElementException | ExceptionInInitializerError e) {
            throw new UnsatisfiedLinkError(path + " is not a library of Tensorpress: it has no tp_abi_version");
        }
        compareAbi(path, version, PROPERTY);
    }

    /** @throws UnsatisfiedLinkError if the library is of another build */
    static void compareAbi(String path, int version, String property) {
        if (version != Kernels.TP_ABI_VERSION()) {
            throw new UnsatisfiedLinkError(path + " has version " + version + " of the native interface, but "
                    + Kernels.TP_ABI_VERSION() + " is needed: rebuild it, or remove -D" + property);
        }
    }
}
