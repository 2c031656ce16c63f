package dev.tensorpress.io;

import dev.tensorpress.bindings.LinuxFiles;
import java.nio.charset.Charset;
import java.nio.file.Path;

/**
 * What the kernel keeps in memory of a file. Files larger than that memory, read or written once, would drive out all else, and
 * what is written would wait there until much of it has to go to disk at once. On Linux this is advice to the kernel, on any other
 * system nothing. No advice changes bytes, so none can fail: what a disk refuses shows when the file is forced to it.
 */
public final class PageCache implements AutoCloseable {
    private static final boolean LINUX = System.getProperty("os.name").equals("Linux");
    /** No page is smaller, and all larger ones are multiples. */
    static final int PAGE = 4096;
    private static final int ALL_ON_DISK = LinuxFiles.SYNC_FILE_RANGE_WAIT_BEFORE | LinuxFiles.SYNC_FILE_RANGE_WRITE
            | LinuxFiles.SYNC_FILE_RANGE_WAIT_AFTER;

    /** Negative if there is none. */
    private int descriptor;

    /** @param file that exists; the descriptor is a further one, so that it may be open elsewhere, for whatever purpose */
    public PageCache(Path file) {
        descriptor = open(file, 0);
    }

    /** A descriptor of a file that exists, which processes started meanwhile do not get; negative if there is none. */
    static int open(Path file, int flags) {
        if (!LINUX) {
            return -1;
        }
        String encoding = System.getProperty("sun.jnu.encoding", "UTF-8");
        return LinuxFiles.open(file.toString().getBytes(Charset.forName(encoding)), flags | LinuxFiles.O_CLOEXEC);
    }

    /** Drops a range, with the rest of the page that it starts in; not the page that it ends inside. What waits to be written stays. */
    public void drop(long start, long length) {
        long page = start / PAGE * PAGE;
        // To the kernel, no length is everything up to the end.
        if (descriptor >= 0 && length > 0) {
            LinuxFiles.posixFadvise(descriptor, page, length + start - page, LinuxFiles.POSIX_FADV_DONTNEED);
        }
    }

    /** The kernel starts to write a range to disk; this does not wait for it. */
    public void startWriting(long start, long length) {
        if (descriptor >= 0 && length > 0) {
            LinuxFiles.syncFileRange(descriptor, start, length, LinuxFiles.SYNC_FILE_RANGE_WRITE);
        }
    }

    /** Waits until a range is on disk, and drops it. It is not durable then: that needs the file's length and place as well. */
    public void finishWriting(long start, long length) {
        if (descriptor >= 0 && length > 0) {
            LinuxFiles.syncFileRange(descriptor, start, length, ALL_ON_DISK);
            drop(start, length);
        }
    }

    @Override
    public void close() {
        if (descriptor >= 0) {
            LinuxFiles.close(descriptor);
            descriptor = -1;
        }
    }
}
