package dev.tensorpress.model;

/** Bytes of what is not written yet. */
public sealed interface Size {
    /** What it takes, or takes at most. */
    long bytes();

    /** True if it takes these bytes and no fewer. */
    default boolean isExact() {
        return this instanceof Exact;
    }

    /** Known to the byte. */
    record Exact(long bytes) implements Size {}

    /** An upper bound: how much it takes depends on what is looked at when it is written, such as where zeros are. */
    record AtMost(long bytes) implements Size {}
}
