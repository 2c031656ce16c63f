package dev.tensorpress;

/** Told how a compression goes on, by the thread that runs it. */
@FunctionalInterface
public interface ProgressListener {
    /**
     * A weight, or the next part of one, is about to be encoded.
     *
     * @param index from 0 to {@code count - 1}; called once more with {@code index == count} and a null entry when all
     *     weights are written and the files are being made durable
     * @param part of this weight that is encoded already: from 0 to below 1
     */
    void progress(int index, int count, Plan.Entry entry, double part);
}
