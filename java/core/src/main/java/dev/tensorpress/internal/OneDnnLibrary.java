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

    /** {@code dnnl_cpu_isa_avx512_core_fp16}. */
    private static final int BELOW_AMX = 0x1ef;

    private static final String FAILURE;

    static {
        String failure = null;
        try {
            find();
            limit();
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

    /**
     * Version 3.11 gets products of int8 wrong on AMX, if matrices lie as they do here (OneDnnTest). Whoever sets
     * {@code ONEDNN_MAX_CPU_ISA} has decided.
     */
    private static void limit() {
        if (System.getenv("ONEDNN_MAX_CPU_ISA") == null && LibraryLoader.call("dnnl_set_max_cpu_isa", BELOW_AMX) != 0) {
            throw new UnsatisfiedLinkError("oneDNN takes no limit of its instruction set");
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
