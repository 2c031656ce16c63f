package dev.tensorpress.io;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Random;

/**
 * How fast a disk is with one file of {@value #BYTES} bytes.
 *
 * @param write bytes per second until they are on disk
 * @param read bytes per second, of bytes that are not in memory any more; where the system keeps them there all the same, as some
 *     file systems do, of memory
 */
public record DiskSpeed(double write, double read) {
    private static final int BYTES = 64 << 20;
    private static final int STEP = 4 << 20;

    /**
     * Measures the disk of a folder with a temporary file, which is removed, also if this thread is interrupted.
     *
     * @throws IOException if the file cannot be written
     */
    public static DiskSpeed measure(Path folder) throws IOException {
        byte[] noise = new byte[STEP]; // some disks write zeros faster
        new Random(1).nextBytes(noise);
        ByteBuffer block = ByteBuffer.allocateDirect(STEP).put(noise);
        try (DurableFile file = new DurableFile(folder, "speed")) {
            long start = System.nanoTime();
            for (int at = 0; at < BYTES; at += STEP) {
                block.rewind();
                while (block.hasRemaining()) {
                    file.channel().write(block);
                }
            }
            file.channel().force(true);
            double write = rate(start);
            try (PageCache cache = new PageCache(file.temporary())) {
                cache.drop(0, BYTES);
            }
            try (FileChannel channel = FileChannel.open(file.temporary(), StandardOpenOption.READ)) {
                start = System.nanoTime();
                while (channel.position() < BYTES) {
                    block.clear();
                    if (channel.read(block) < 0) {
                        throw new IOException(file.temporary() + " became shorter while it was read");
                    }
                }
                return new DiskSpeed(write, rate(start));
            }
        } catch (IOException e) {
            throw DurableFile.explain(e, folder.resolve("speed"));
        }
    }

    private static double rate(long start) {
        return BYTES / ((System.nanoTime() - start) * 1e-9);
    }
}
