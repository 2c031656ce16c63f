package dev.tensorpress.benchmarks;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.tensorpress.kernel.OneDnn;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;

/** Threads of oneDNN, which are OpenMP's. The number belongs to the thread that calls. */
final class OpenMp {
    private static final MethodHandle SET_THREADS = setThreads();

    private OpenMp() {}

    private static MethodHandle setThreads() {
        OneDnn.version(); // loads it, and OpenMP with it
        return Linker.nativeLinker().downcallHandle(
                SymbolLookup.loaderLookup().findOrThrow("omp_set_num_threads"), FunctionDescriptor.ofVoid(JAVA_INT));
    }

    static void setThreads(int threads) {
        try {
            SET_THREADS.invokeExact(threads);
        } catch (RuntimeException | Error e) {
            throw e;
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }
}
