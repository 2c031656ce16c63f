package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.Spectra;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * What weights become by a plan, with other elements than those of the model: for training that has to see what will be written. What methods found out when
 * they were prepared, such as which elements a global threshold leaves, stays as it was. One thread at a time.
 */
public final class Simulation implements AutoCloseable {
    private final Recipe recipe;
    private final Encoder encoder;
    private final Executor executor;
    /** In memory of the arena. */
    private final Map<String, Encoding.Quantized> held = new LinkedHashMap<>();
    private final Arena arena;
    /** Elements of what is no f32. */
    private MemorySegment narrowed = MemorySegment.NULL;
    private final Map<String, Plan.Entry> entries = new LinkedHashMap<>();

    Simulation(Plan plan, Compressor.Options options, Spectra spectra) {
        recipe = plan.recipe();
        for (Plan.Entry e : plan.entries()) {
            if (e.compressed()) {
                entries.put(e.weight().name(), e);
            }
        }
        encoder = new Encoder(plan, options.distributions(false).progress(null), spectra, new Phases(), null, Map.of());
        executor = Executor.on(options.device(), options.threads());
        arena = executor.arena();
    }

    /** That of the plan. */
    public Recipe recipe() {
        return recipe;
    }

    /** Names of the weights that the plan compresses. */
    public Set<String> weights() {
        return Set.copyOf(entries.keySet());
    }

    /** Whether a weight that the plan compresses becomes integer codes with a scale for each group: whether {@link #codes} has any. */
    public boolean integers(String name) {
        return entries.get(name).form().made().quantized() != null;
    }

    /** Whether scales of a weight that the plan compresses are powers of two. */
    public boolean powersOfTwo(String name) {
        return entries.get(name).powersOfTwo();
    }

    /**
     * What a weight is when it has been written and read.
     *
     * @param elements f32, in the shape of the weight
     * @param out f32, as many
     * @throws dev.tensorpress.method.NonFiniteWeightException if they hold NaN or infinity
     * @throws IllegalArgumentException if the plan does not compress such a weight
     */
    public void decode(String name, MemorySegment elements, MemorySegment out) {
        Encoding.Quantized codes = held.get(name);
        if (codes == null) {
            encoding(name, elements).decode(out, executor);
            return;
        }
        codes.round(elements, executor);
        codes.decode(out, executor);
    }

    /**
     * Has a weight keep scales and zero points: those of these codes, to which its elements are rounded from now on. What is written has to be {@link #codes} then,
     * since methods would choose others.
     *
     * @throws IllegalArgumentException if the plan does not make such codes of it
     */
    public void hold(String name, Encoding.Quantized codes) {
        Plan.Entry entry = entries.get(name);
        if (entry == null || !codes.form().equals(entry.form().made().quantized())) {
            throw new IllegalArgumentException("the plan does not make such codes of a weight '" + name + "'");
        }
        held.put(name, codes.copy(arena));
    }

    /** Names of the weights that keep scales and zero points. */
    public Set<String> held() {
        return Set.copyOf(held.keySet());
    }

    /**
     * The codes that a weight gets, in memory of the arena; empty if it becomes something else than codes with a scale for each group.
     *
     * @param elements f32, in the shape of the weight
     * @throws dev.tensorpress.method.NonFiniteWeightException if they hold NaN or infinity
     * @throws IllegalArgumentException if the plan does not compress such a weight
     */
    public Optional<Encoding.Quantized> codes(String name, MemorySegment elements, Arena arena) {
        Encoding.Quantized same = held.get(name);
        if (same != null) {
            same.round(elements, executor);
            return Optional.of(same.copy(arena));
        }
        Encoding values = encoding(name, elements).values();
        Encoding made = values.form().dense() ? ((Encoding.Dense) values).of().orElse(values) : values;
        return made.form().quantized() == null ? Optional.empty() : Optional.of(((Encoding.Quantized) made).copy(arena));
    }

    /**
     * Other codes of the same form, with the same zero points: what {@link Compressor#compress(Plan, Path, Map)} can be given.
     *
     * @param units what each element is in units of its scale: whole numbers
     * @param scales positive and finite, in the order of those that the codes have; rounded to their type
     */
    public Encoding.Quantized codes(Encoding.Quantized like, float[] units, float[] scales, Arena arena) {
        return Encoding.Quantized.of(like.form(), like.shape(), units, scales, like.zeros(), arena, executor);
    }

    /** What codes stand for, f32 in the shape of the weight. */
    public void decode(Encoding.Quantized codes, MemorySegment out) {
        codes.decode(out, executor);
    }

    /** Until the next one is made. */
    private Encoding encoding(String name, MemorySegment elements) {
        Plan.Entry entry = entries.get(name);
        if (entry == null) {
            throw new IllegalArgumentException("the plan does not compress a weight '" + name + "'");
        }
        Weight weight = entry.weight();
        DType type = weight.tensor().dtype();
        long n = weight.tensor().shape().elements();
        MemorySegment own = elements;
        if (type != DType.F32) {
            // As they are written, which is what forms are of.
            if (narrowed.byteSize() < type.bytes(n)) {
                narrowed = arena.allocate(type.bytes(n), 64);
            }
            own = narrowed.asSlice(0, type.bytes(n));
            Quantize.convert(DType.F32, elements, n, type, own, executor);
        }
        try {
            return encoder.encode(weight, entry.form(), new Tensor(type, weight.tensor().shape(), own), 0);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public void close() {
        encoder.close();
        arena.close();
        executor.close();
    }
}
