package dev.tensorpress.model;

import java.nio.file.Path;
import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;

/**
 * Where a target writes, and how. Of all this only {@code provenance} shows in the bytes.
 *
 * @param path a file, or a folder where the target writes one
 * @param overwrite what has that name may be replaced
 * @param resume what an interrupted run left there is used; for targets that write in steps
 * @param memory bytes of buffers and working memory at most, as far as single weights allow; for targets that stream
 * @param provenance facts for the manifest, if the target writes one: {@code recipe} its canonical text, {@code tool} and
 *     {@code kernels} their versions, {@code instructionSet} and {@code device} where bytes depend on them; sorted
 * @param others facts about other inputs than the model, in which a run that is resumed has to agree; they show nowhere
 * @param phases told where the time goes
 */
public record Destination(Path path, boolean overwrite, boolean resume, long memory, Map<String, String> provenance, Map<String, String> others, Phases phases) {
    public static final long DEFAULT_MEMORY = 512L << 20;

    /** @throws IllegalArgumentException if the memory is not positive */
    public Destination {
        checkMemory(memory);
        provenance = Collections.unmodifiableMap(new TreeMap<>(provenance));
        others = Collections.unmodifiableMap(new TreeMap<>(others));
    }

    /** Without other inputs. */
    public Destination(Path path, boolean overwrite, boolean resume, long memory, Map<String, String> provenance, Phases phases) {
        this(path, overwrite, resume, memory, provenance, Map.of(), phases);
    }

    /** With phases of its own. */
    public Destination(Path path, boolean overwrite, boolean resume, long memory, Map<String, String> provenance) {
        this(path, overwrite, resume, memory, provenance, new Phases());
    }

    /** {@code path}, if it does not exist, with defaults and nothing for the manifest. */
    public static Destination of(Path path) {
        return new Destination(path, false, false, DEFAULT_MEMORY, Map.of());
    }

    /** {@link #of}, but what has the name is replaced. */
    public static Destination replacing(Path path) {
        return new Destination(path, true, false, DEFAULT_MEMORY, Map.of());
    }

    /** @throws IllegalArgumentException if it is not positive */
    public static void checkMemory(long memory) {
        if (memory < 1) {
            throw new IllegalArgumentException("memory must be positive, but is " + memory);
        }
    }
}
