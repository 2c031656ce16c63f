package dev.tensorpress.internal;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.LibraryLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.NoSuchElementException;

/**
 * The library of CUDA kernels, which is optional: a distribution that was built without the CUDA toolkit has none. It is loaded when
 * first asked for, from the file that the system property {@value #PROPERTY} names (or from the folder that holds it), else from
 * beside the library that {@link NativeLibrary#PROPERTY} names, else from the bindings jar. Where one of these is set nothing after it is tried.
 */
public final class CudaLibrary {
    /** Names the library, or its folder. */
    public static final String PROPERTY = "tensorpress.cuda.library.path";

    private static final String FILE = "libtensorpress_cuda.so";

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

    private CudaLibrary() {
    }

    /**
     * Where the library was loaded from: a file, or an entry of a jar.
     *
     * @throws UnsatisfiedLinkError if it cannot be called, with the reason and what to do, each time
     */
    public static String path() {
        if (FAILURE != null) {
            throw new UnsatisfiedLinkError(FAILURE);
        }
        return PATH;
    }

    private static String find() {
        Path named = NativeFiles.named(PROPERTY, FILE);
        Path library = NativeFiles.named(NativeLibrary.PROPERTY, NativeLibrary.FILE);
        if (named == null && library != null && Files.isRegularFile(library.resolveSibling(FILE))) {
            named = library.resolveSibling(FILE);
        }
        if (named != null) {
            LibraryLoader.load(named);
            return named.toString();
        }
        if (library != null || !NativeFiles.has(LibraryLoader.class, NativeLibrary.FOLDER, FILE)) {
            throw new UnsatisfiedLinkError("there is no " + FILE + (library == null ? "" : " beside " + library) + ": build Tensorpress with"
                    + " the CUDA toolkit, or name the library with -D" + PROPERTY);
        }
        return NativeFiles.load(LibraryLoader.class, NativeLibrary.FOLDER, FILE);
    }

    private static void checkAbi(String path) {
        int version;
        try {
            version = Kernels.tp_cuda_abi_version();
        } catch (NoSuchElementException | ExceptionInInitializerError e) {
            throw new UnsatisfiedLinkError(path + " is no library of CUDA kernels: it has no tp_cuda_abi_version");
        }
        NativeLibrary.compareAbi(path, version, PROPERTY);
    }
}
