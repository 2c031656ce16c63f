package dev.tensorpress.bindings;

import java.nio.file.Path;

/** Loads a library on behalf of this class loader, which is where the generated code looks its symbols up. */
public final class LibraryLoader {
    private LibraryLoader() {
    }

    /**
     * @throws UnsatisfiedLinkError if the file is no loadable library
     */
    public static void load(Path file) {
        System.load(file.toAbsolutePath().toString());
    }
}
