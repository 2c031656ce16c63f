package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.method.Prepared;
import dev.tensorpress.method.Spectra;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.archive.KeptEncodings;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.util.Comparator;
import java.util.HashSet;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import jdk.jfr.FlightRecorder;

/** Makes the encodings that a plan says, and measures them. */
final class Encoder implements Target.Encoder, AutoCloseable {
    /** Weights whose distributions are kept at most: each takes kilobytes, and there may be hundreds of thousands. */
    static final int MOST_DISTRIBUTIONS = 256;

    private final Map<Weight, Plan.Entry> planned = new LinkedHashMap<>();
    private final Map<Weight, Report.Entry> entries = new LinkedHashMap<>();
    /** Whose distributions are told. */
    private final Set<Weight> distributed = new HashSet<>();
    private final Phases phases;
    private final ProgressListener progress;
    private final Executor executor;
    private final Workspace workspace;
    private final KeptEncodings kept;
    private final Map<String, Encoding.Quantized> given;
    /** The weight at hand, how many of its rows are encoded, and what is to be reported of these; null if nothing is. */
    private Weight current;
    private long done;
    private Report.Entry sum;
    private DistributionBuilder distribution;
    /** What was encoded for the sake of a companion, until it is asked for. */
    private final Map<Weight, Kept> early = new HashMap<>();
    /** One of them that was handed out last, or null. */
    private Kept handedOut;
    /** Of this weight; null unless Flight Recorder runs: loading the event's class is what start-up would notice. */
    private WeightEvent event;

    /**
     * @param kept is given what weights are decoded from; null if nobody wants it
     * @param given by name of the weight, codes that are there already
     */
    Encoder(Plan plan, Compressor.Options options, Spectra spectra, Phases phases, KeptEncodings kept, Map<String, Encoding.Quantized> given) {
        this.kept = kept;
        this.given = given;
        this.phases = phases;
        for (Plan.Entry e : plan.entries()) {
            if (e.compressed()) {
                planned.put(e.weight(), e);
            }
        }
        if (options.distributions()) {
            planned.keySet().stream().sorted(Comparator.comparing(weight -> -weight.tensor().bytes())).limit(MOST_DISTRIBUTIONS)
                    .forEach(distributed::add);
        }
        this.progress = options.progress();
        this.executor = Executor.on(options.device(), options.threads());
        this.workspace = new Workspace(executor, spectra);
    }

    /** What became of the weights that were encoded whole, in that order. */
    List<Report.Entry> entries() {
        return List.copyOf(entries.values());
    }

    @Override
    public boolean byRows(Weight weight, Form form) {
        return planned.get(weight).byRows() && !given.containsKey(weight.name());
    }

    private record Kept(Encoding encoding, Arena arena) {}

    @Override
    public Encoding encode(Weight weight, Form form, Tensor rows, long first) throws IOException {
        if (handedOut != null) {
            handedOut.arena.close();
        }
        handedOut = early.remove(weight);
        if (handedOut != null) {
            return handedOut.encoding;
        }
        Plan.Entry entry = planned.get(weight);
        Weight before = entry.follows().orElse(null);
        if (before != null && !entries.containsKey(before)) {
            Arena arena = executor.arena();
            early.put(before, new Kept(encode(planned.get(before), before.tensor(), 0).copy(arena), arena));
        }
        return encode(entry, rows, first);
    }

    private Encoding encode(Plan.Entry entry, Tensor rows, long first) throws IOException {
        Weight weight = entry.weight();
        if (weight != current) {
            current = weight;
            done = 0;
            sum = null;
            distribution = distributed.contains(weight) ? new DistributionBuilder() : null;
            event = FlightRecorder.isInitialized() ? WeightEvent.started() : null;
            executor.subject(weight.name());
        }
        boolean again = first < done || entries.containsKey(weight);
        if (!again) {
            tell(entries.size(), entry, first);
        }
        Phases.Span span = phases.begin(Phases.Phase.KERNEL);
        Weight part = weight.over(rows);
        Encoding encoding = new Encoding.Dense(rows);
        try {
            for (int i = 0; i < entry.steps().size(); i++) {
                Prepared prepared = entry.steps().get(i).prepared();
                Form made = entry.forms().get(i).made();
                Encoding.Quantized codes = made.quantized() == null ? null : given.get(weight.name());
                if (codes != null) {
                    encoding = made.sparse() == null ? codes : new Encoding.Sparse(made.sparse(), codes);
                    continue;
                }
                encoding = prepared.apply(part, encoding, made, workspace);
                if (prepared.changes().containsKey(weight)) {
                    // Whatever follows goes by what it is now, and so does what is measured.
                    part = weight.over(((Encoding.Dense) encoding).tensor());
                }
            }
            encoding = decoded(encoding, entry.form(), rows.dtype());
        } catch (NonFiniteWeightException e) {
            throw first == 0 ? e : e.from(first * (weight.tensor().shape().elements() / rowsOf(weight)));
        }
        if (kept != null && !again && entry.form().decoded()) {
            kept.add(weight.name(), first, ((Encoding.Dense) encoding.values()).of().orElseThrow());
        }
        Report.Entry measured = again ? null : Measure.error(entry, part, encoding, workspace);
        long nanos = span.end(weight.name(), rows.bytes());
        if (!again) {
            if (distribution != null) {
                distribution.add(part.tensor(), encoding, executor);
            }
            add(measured.after(nanos), weight, first, rows.shape());
        }
        return encoding;
    }

    /** Elements in the place of what has just been made, if that is all that the target has a place for. */
    private Encoding decoded(Encoding made, Form form, DType type) {
        if (!form.decoded()) {
            return made;
        }
        long n = made.shape().elements();
        MemorySegment floats = workspace.take(Workspace.Slot.DECODED, DType.F32.bytes(n));
        MemorySegment out = type == DType.F32 ? floats : workspace.take(Workspace.Slot.NARROWED, type.bytes(n));
        Encoding dense = Encoding.Dense.decoded(made.values(), type, out, floats, executor);
        return form.sparse() == null ? dense : new Encoding.Sparse(form.sparse(), dense);
    }

    private void add(Report.Entry measured, Weight weight, long first, Shape rows) {
        sum = sum == null ? measured : sum.plus(measured);
        done = first + (rows.rank() == 0 ? 1 : rows.dim(0));
        if (done < rowsOf(weight)) {
            return;
        }
        entries.put(weight, distribution == null ? sum : sum.with(distribution.result()));
        if (event != null) {
            event.record(sum);
        }
        if (entries.size() == planned.size()) {
            tell(planned.size(), null, 0);
        }
    }

    private static long rowsOf(Weight weight) {
        Shape shape = weight.tensor().shape();
        return shape.rank() == 0 ? 1 : shape.dim(0);
    }

    private void tell(int index, Plan.Entry entry, long first) {
        if (progress != null) {
            progress.progress(index, planned.size(), entry, first == 0 ? 0 : (double) first / rowsOf(entry.weight()));
        }
    }

    @Override
    public void close() {
        if (handedOut != null) {
            handedOut.arena.close();
        }
        early.values().forEach(kept -> kept.arena.close());
        workspace.close();
        executor.close();
    }
}
