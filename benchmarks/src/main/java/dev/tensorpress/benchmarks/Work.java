package dev.tensorpress.benchmarks;

/** Something to time, with its buffers allocated and its result checked. Close it when done. */
interface Work extends AutoCloseable {
    /** Does it once. */
    void run();

    /** Compares the result of the last run with plain loops; throws {@link IllegalStateException} if it is wrong. */
    void check();

    /** Bytes that a run cannot avoid moving: every input byte read once, every output byte written once. */
    long bytes();

    @Override
    void close();
}
