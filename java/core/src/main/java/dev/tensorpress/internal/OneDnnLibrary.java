package dev.tensorpress.internal;

import dev.tensorpress.bindings.LibraryLoader;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * oneDNN, which is optional. It is loaded when first asked for, from the folder that the system property
 * {@value #PROPERTY} names, else from the jar {@code org.bytedeco:dnnl:linux-x86_64} on the class path. Where the property
 * is set nothing else is tried.
 */
public final class OneDnnLibrary {
    /** Names the folder that holds the library. Unpacking the 90 MB of the jar costs half a second; this does not. */
    public static final String PROPERTY = "tensorpress.onednn.path";

    private static final String FOLDER = "org/bytedeco/dnnl/" + NativeFiles.PLATFORM;
    private static final String FILE = "libdnnl.so.3";
    /** Threads of OpenMP, which the library needs. Loaded first, it is found by its name. */
    private static final String OPENMP = "libgomp.so.1";

    private static final String FAILURE;

    static {
        String failure = null;
        try {
            find();
        } catch (UnsatisfiedLinkError e) {
            failure = e.getMessage();
        }
        FAILURE = failure;
    }

    private OneDnnLibrary() {
    }

    /**
     * Returns if oneDNN can be called.
     *
     * @throws UnsatisfiedLinkError if it cannot, with the reason and what to do, each time
     */
    public static void load() {
        if (FAILURE != null) {
            throw new UnsatisfiedLinkError(FAILURE);
        }
    }

    private static void find() {
        String named = System.getProperty(PROPERTY);
        if (named != null) {
            Path folder = Path.of(named);
            if (!Files.isRegularFile(folder.resolve(FILE))) {
                throw new UnsatisfiedLinkError("no " + FILE + " in " + folder + ", which -D" + PROPERTY + " names");
            }
            if (Files.isRegularFile(folder.resolve(OPENMP))) {
                LibraryLoader.load(folder.resolve(OPENMP));
            }
            LibraryLoader.load(folder.resolve(FILE));
            return;
        }
        if (!NativeFiles.has(LibraryLoader.class, FOLDER, FILE)) {
            throw new UnsatisfiedLinkError("oneDNN is not on the class path: add org.bytedeco:dnnl with classifier linux-x86_64,"
                    + " or name its folder with -D" + PROPERTY);
        }
        NativeFiles.load(LibraryLoader.class, FOLDER, OPENMP, FILE);
    }
}
