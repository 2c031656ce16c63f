package dev.tensorpress.model;

import java.nio.file.Path;
import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;

/**
 * Where a target writes, and how. Of all this only {@code shardSize} and {@code provenance} show in the bytes.
 *
 * @param path a file, or a folder where the target writes one
 * @param overwrite what has that name may be replaced
 * @param resume what an interrupted run left there is used; for targets that write in steps
 * @param memory bytes of buffers and working memory at most, as far as single weights allow; for targets that stream
 * @param shardSize bytes of tensors that a file holds at most, unless one weight takes more; for targets that write several
 * @param provenance facts for the manifest, if the target writes one: {@code recipe} its canonical text, {@code tool} and
 *     {@code kernels} their versions, {@code instructionSet} where bytes depend on it; sorted
 * @param phases told where the time goes
 */
public record Destination(Path path, boolean overwrite, boolean resume, long memory, long shardSize,
        Map<String, String> provenance, Phases phases) {
    public static final long DEFAULT_MEMORY = 512L << 20;
    public static final long DEFAULT_SHARD_SIZE = 5_000_000_000L;

    /** @throws IllegalArgumentException if a size is not positive */
    public Destination {
        checkSizes(memory, shardSize);
        provenance = Collections.unmodifiableMap(new TreeMap<>(provenance));
    }

    /** With phases of its own. */
    public Destination(Path path, boolean overwrite, boolean resume, long memory, long shardSize, Map<String, String> provenance) {
        this(path, overwrite, resume, memory, shardSize, provenance, new Phases());
    }

    /** {@code path}, if it does not exist, with defaults and nothing for the manifest. */
    public static Destination of(Path path) {
        return new Destination(path, false, false, DEFAULT_MEMORY, DEFAULT_SHARD_SIZE, Map.of());
    }

    /** {@link #of}, but what has the name is replaced. */
    public static Destination replacing(Path path) {
        return new Destination(path, true, false, DEFAULT_MEMORY, DEFAULT_SHARD_SIZE, Map.of());
    }

    /** @throws IllegalArgumentException if one is not positive */
    public static void checkSizes(long memory, long shardSize) {
        if (memory < 1 || shardSize < 1) {
            throw new IllegalArgumentException("memory and shard size must be positive, but are " + memory + " and " + shardSize);
        }
    }
}
