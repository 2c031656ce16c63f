package dev.tensorpress.bindings;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
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

    /**
     * Calls a function of a loaded library that takes and returns an int.
     *
     * @throws UnsatisfiedLinkError if there is none of this name
     */
    public static int call(String function, int argument) {
        MemorySegment address = SymbolLookup.loaderLookup().find(function)
                .orElseThrow(() -> new UnsatisfiedLinkError("no function " + function));
        MethodHandle handle = Linker.nativeLinker().downcallHandle(address,
                FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT));
        try {
            return (int) handle.invokeExact(argument);
        } catch (Throwable e) {
            throw new IllegalStateException(function, e); // a function in C throws nothing
        }
    }
}
