package dev.tensorpress.model.archive;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;

/**
 * What weights were decoded from while a model was written, for a {@link Packer}: the arrays lie in a temporary file, which closing this
 * removes. One thread at a time.
 */
public final class KeptEncodings implements AutoCloseable {
    private static final int MOST_AT_ONCE = 1 << 24;

    /**
     * An encoding.
     *
     * @param weight name of the weight
     * @param first row of the weight's first axis that it begins at
     * @param at where in the file its arrays are
     */
    record Kept(String weight, long first, Shape shape, Form form, long at) {}

    private final Path file;
    private final FileChannel channel;
    private final List<Kept> all = new ArrayList<>();
    private long written;

    /** @param folder that the temporary file will be in */
    public KeptEncodings(Path folder) throws IOException {
        file = Files.createTempFile(folder, "encodings-", null);
        channel = FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE);
    }

    /**
     * Keeps an encoding, unless it is one that archives do not store. Those of a weight's rows come in order, and each once.
     *
     * @param first of the weight's rows that it is of
     */
    public void add(String weight, long first, Encoding encoding) throws IOException {
        if (!Encoded.exact(encoding.form())) {
            return;
        }
        all.add(new Kept(weight, first, encoding.shape(), encoding.form(), written));
        for (Tensor t : Encoded.arrays(encoding)) {
            for (long done = 0; done < t.bytes();) {
                MemorySegment part = t.data().asSlice(done, Math.min(MOST_AT_ONCE, t.bytes() - done));
                int n = channel.write(part.asByteBuffer(), written);
                done += n;
                written += n;
            }
        }
    }

    List<Kept> all() {
        return all;
    }

    Path file() {
        return file;
    }

    @Override
    public void close() throws IOException {
        channel.close();
        Files.deleteIfExists(file);
    }
}
