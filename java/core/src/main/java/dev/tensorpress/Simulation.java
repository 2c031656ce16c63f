package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.Spectra;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/**
 * What weights become by a plan, with other elements than those of the model: for training that has to see what will be written. What methods found out when
 * they were prepared, such as which elements a global threshold leaves, stays as it was. One thread at a time.
 */
public final class Simulation implements AutoCloseable {
    private final Recipe recipe;
    private final Encoder encoder;
    private final Executor executor;
    private final Map<String, Plan.Entry> entries = new LinkedHashMap<>();

    Simulation(Plan plan, Compressor.Options options, Spectra spectra) {
        recipe = plan.recipe();
        for (Plan.Entry e : plan.entries()) {
            if (e.compressed()) {
                entries.put(e.weight().name(), e);
            }
        }
        encoder = new Encoder(plan, options.distributions(false).progress(null), spectra, new Phases(), null);
        executor = Executor.on(options.device(), options.threads());
    }

    /** That of the plan. */
    public Recipe recipe() {
        return recipe;
    }

    /** Names of the weights that the plan compresses. */
    public Set<String> weights() {
        return Set.copyOf(entries.keySet());
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
        Plan.Entry entry = entries.get(name);
        if (entry == null) {
            throw new IllegalArgumentException("the plan does not compress a weight '" + name + "'");
        }
        Weight weight = entry.weight();
        try {
            Encoding made = encoder.encode(weight, entry.form(), new Tensor(DType.F32, weight.tensor().shape(), elements), 0);
            made.decode(out, executor);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public void close() {
        encoder.close();
        executor.close();
    }
}
