package dev.tensorpress.kernel;

import java.util.concurrent.atomic.AtomicReference;

/**
 * Keeps a second thread out of an object that owns buffers while a first one is in it. Threads may take turns; the same thread may
 * enter again.
 */
final class OneThread implements AutoCloseable {
    private final AtomicReference<Thread> user = new AtomicReference<>();
    private final String what;
    private int depth;

    OneThread(String what) {
        this.what = what;
    }

    /** To be closed by the thread that entered. */
    OneThread enter() {
        Thread me = Thread.currentThread();
        if (user.get() != me && !user.compareAndSet(null, me)) {
            throw new IllegalStateException(what + " is in use by another thread: one at a time, or one object for each");
        }
        depth++;
        return this;
    }

    @Override
    public void close() {
        if (--depth == 0) {
            user.set(null);
        }
    }
}
