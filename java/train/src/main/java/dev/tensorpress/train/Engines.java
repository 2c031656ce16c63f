package dev.tensorpress.train;

import ai.djl.engine.Engine;
import ai.djl.engine.EngineException;
import ai.djl.ndarray.NDManager;
import dev.tensorpress.runtime.Djl;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.SymbolLookup;

/** PyTorch, once it is there. */
final class Engines {
    private static final String NAME = "PyTorch";
    private static final String THREADS = "ai.djl.pytorch.num_threads";

    private Engines() {}

    /** @throws IllegalStateException if it cannot be loaded */
    static NDManager manager() {
        Djl.settle();
        try {
            NDManager manager = NDManager.newBaseManager(null, NAME);
            initLogging();
            return manager;
        } catch (EngineException | IllegalArgumentException | IllegalStateException | LinkageError e) {
            throw new IllegalStateException("PyTorch cannot be loaded: training needs ai.djl.pytorch:pytorch-jni and pytorch-native-cpu beside "
                    + "ai.djl.pytorch:pytorch-engine, of versions that belong together (" + e.getMessage() + ")", e);
        }
    }

    static void threads(int threads) {
        if (threads > 0) {
            System.setProperty(THREADS, Integer.toString(threads));
        }
    }

    /** 0 for as many as there are processors. */
    static int threads() {
        return Integer.getInteger(THREADS, 0);
    }

    /** As Python does it: without that nobody looks at {@code TORCH_CPP_LOG_LEVEL}, by which warnings can be turned off. */
    private static void initLogging() {
        SymbolLookup.loaderLookup().find("_ZN3c1011initLoggingEv").ifPresent(symbol -> {
            try {
                Linker.nativeLinker().downcallHandle(symbol, FunctionDescriptor.ofVoid()).invokeExact();
            } catch (Throwable e) {
                throw new IllegalStateException(e); // it throws nothing
            }
        });
    }

    static Engine engine() {
        return Engine.getEngine(NAME);
    }
}
