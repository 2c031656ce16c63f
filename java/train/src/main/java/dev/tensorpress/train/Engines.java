package dev.tensorpress.train;

import ai.djl.engine.Engine;
import ai.djl.engine.EngineException;
import ai.djl.ndarray.NDManager;
import dev.tensorpress.runtime.Djl;

/** PyTorch, once it is there. */
final class Engines {
    private static final String NAME = "PyTorch";
    private static final String THREADS = "ai.djl.pytorch.num_threads";

    private Engines() {}

    /** @throws IllegalStateException if it cannot be loaded */
    static NDManager manager() {
        Djl.settle();
        try {
            return NDManager.newBaseManager(null, NAME);
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

    static Engine engine() {
        return Engine.getEngine(NAME);
    }
}
