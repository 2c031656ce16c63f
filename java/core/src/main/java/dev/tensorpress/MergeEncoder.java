package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.ReadAhead.Range;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.Merge;
import dev.tensorpress.kernel.Prune;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.EOFException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Makes merged weights. The first model's rows come from the target; those of the others are read ahead, in the order in which the target has
 * announced that it wants them. What has to be known of whole weights, angles and thresholds, is found before their first rows.
 */
final class MergeEncoder implements Target.Encoder, AutoCloseable {
    /** Of the memory, this part is for buffers to read into, of which a pool gives half. */
    private static final long BUFFERS_SHARE = 4;
    /** And this one for whole weights that are looked at before they are merged. */
    private static final double HELD_SHARE = 3.0 / 8;
    private static final double PARALLEL = 0.9995;
    private static final int STEP = 1 << 20;

    private final Merger.Settings settings;
    private final List<Model> models;
    private final List<Path> paths;
    /** Models without the base. */
    private final int tasks;
    private final InputFiles inputs;
    private final Merger.Options options;
    private final Phases phases;
    private final Executor executor;
    private final Arena arena = Arena.ofShared();
    private final List<Map<String, Place>> places = new ArrayList<>();
    private final double[] weights;
    private final float[] thresholds;
    private final Deque<Part> parts = new ArrayDeque<>();
    private final Buffers buffers;
    private ReadAhead ahead;
    /** Bytes of a weight, of each model, that are at hand at once. */
    private final long slice;
    /** Copies of these. */
    private final MemorySegment scratch;
    private MemorySegment deltas;
    private final Room out = new Room();
    private final Room held = new Room();
    /** Of the weight at hand: all of it, of each model, or null. */
    private List<MemorySegment> whole;
    private double[] coefficients;
    private boolean same;
    private int alike;
    private long made;

    /** Where the elements of a weight are: in a file, or if that is null in memory. */
    private record Place(Path file, long offset, MemorySegment memory) {}

    /** Memory that grows. */
    private static final class Room implements AutoCloseable {
        private Arena arena;
        private MemorySegment memory = MemorySegment.NULL;

        MemorySegment of(long bytes) {
            if (memory.byteSize() < bytes) {
                close();
                arena = Arena.ofShared();
                memory = arena.allocate(bytes, 64);
            }
            return memory;
        }

        @Override
        public void close() {
            if (arena != null) {
                arena.close();
                arena = null;
            }
        }
    }

    /** What the target asks for at once. */
    private record Part(Weight weight, long first, Shape rows) {
        /** Number of the element that it begins with. */
        long start() {
            return first == 0 ? 0 : first * (weight.tensor().shape().elements() / weight.tensor().shape().dim(0));
        }
    }

    /** @param based whether the last model is a base */
    MergeEncoder(Merger.Settings settings, List<Model> models, List<Path> paths, boolean based, InputFiles inputs, Merger.Options options, Phases phases) {
        this.settings = settings;
        this.models = models;
        this.paths = paths;
        this.tasks = models.size() - (based ? 1 : 0);
        this.inputs = inputs;
        this.options = options;
        this.phases = phases;
        this.executor = Executor.cpu(options.threads());
        this.buffers = new Buffers(options.memory() / BUFFERS_SHARE, phases);
        this.slice = Buffers.CHUNK / Integer.highestOneBit(models.size() * 2 - 1);
        this.scratch = arena.allocate(slice * models.size(), 64);
        this.thresholds = new float[tasks];
        this.weights = new double[tasks];
        for (int j = 0; j < tasks; j++) {
            weights[j] = settings.weights().isEmpty() ? 1 : settings.weights().get(j);
        }
        for (Model model : models) {
            Map<String, Place> of = new HashMap<>();
            for (Model.Array a : model.arrays()) {
                of.put(a.name(), new Place(a.file(), a.offset(), null));
            }
            Map<String, Place> own = new HashMap<>();
            for (Weight w : model.weights()) {
                // What is in no file as it is in memory was decoded when the model was opened.
                Place place = of.get(w.name());
                own.put(w.name(), place == null ? new Place(null, 0, w.tensor().data()) : place);
            }
            places.add(own);
        }
    }

    /** Weights that all models, and the base, have alike. */
    int alike() {
        return alike;
    }

    /** Whether a weight is the same in all models, byte by byte. */
    boolean alike(Weight weight) throws IOException {
        for (int j = 1; j < models.size(); j++) {
            if (!same(places.get(0).get(weight.name()), places.get(j).get(weight.name()), weight.tensor().bytes())) {
                return false;
            }
        }
        return true;
    }

    private static boolean same(Place a, Place b, long bytes) throws IOException {
        try (Arena arena = Arena.ofConfined(); FileChannel x = open(a); FileChannel y = open(b)) {
            MemorySegment one = arena.allocate(Math.min(STEP, bytes));
            MemorySegment other = arena.allocate(Math.min(STEP, bytes));
            for (long at = 0; at < bytes; at += STEP) {
                long n = Math.min(STEP, bytes - at);
                if (read(a, x, at, one.asSlice(0, n)).mismatch(read(b, y, at, other.asSlice(0, n))) >= 0) {
                    return false;
                }
            }
            return true;
        }
    }

    private static FileChannel open(Place place) throws IOException {
        return place.file == null ? null : FileChannel.open(place.file);
    }

    private static MemorySegment read(Place place, FileChannel from, long at, MemorySegment to) throws IOException {
        if (from == null) {
            return place.memory.asSlice(at, to.byteSize());
        }
        for (long done = 0; done < to.byteSize();) {
            int n = from.read(to.asSlice(done).asByteBuffer(), place.offset + at + done);
            if (n < 0) {
                throw new EOFException(place.file + " became shorter while it was read");
            }
            done += n;
        }
        return to;
    }

    @Override
    public boolean byRows(Weight weight, Form form) {
        return weight.tensor().shape().rank() > 0;
    }

    @Override
    public void announce(Weight weight, long first, Shape rows) {
        parts.add(new Part(weight, first, rows));
    }

    /** How often whole weights are read before they are merged, as far as that is known; 0 if nobody has to look at them. */
    private int passes() {
        return switch (settings.method()) {
            case SLERP -> 1;
            case TIES -> settings.density() < 1 ? Prune.Largest.PASSES - 1 : 0;
            case MEAN, TASK_ARITHMETIC, DARE_LINEAR, DARE_TIES -> 0;
        };
    }

    /** Whether all models' elements of a weight that is looked at first are at hand at once. */
    private boolean resident(Weight weight) {
        return passes() > 0 && weight.tensor().bytes() <= Math.max(slice, (long) (HELD_SHARE * options.memory()) / models.size());
    }

    /** All that is read, in the order of {@link #take}. */
    private List<Range> ranges() {
        List<Range> all = new ArrayList<>();
        for (Part part : parts) {
            Weight weight = part.weight;
            long elements = weight.tensor().shape().elements();
            if (part.first == 0 && passes() > 0) {
                for (int pass = resident(weight) ? 1 : passes(); pass > 0; pass--) {
                    ranges(weight, 0, elements, 0, all);
                }
            }
            if (!resident(weight)) {
                ranges(weight, part.start(), part.rows.elements(), 1, all);
            }
        }
        return all;
    }

    private void ranges(Weight weight, long start, long elements, int from, List<Range> to) {
        DType type = weight.tensor().dtype();
        long step = slice / type.bytes(1);
        for (long at = 0; at < elements; at += step) {
            for (int j = from; j < models.size(); j++) {
                Place p = places.get(j).get(weight.name());
                if (p.file != null) {
                    to.add(new Range(p.file, p.offset + type.bytes(start + at), type.bytes(Math.min(step, elements - at))));
                }
            }
        }
    }

    /** Elements of models {@code from} and later, and before them what {@code in} has, until the next call. */
    private List<MemorySegment> take(Weight weight, long start, long elements, int from, MemorySegment... in) throws IOException {
        DType type = weight.tensor().dtype();
        List<MemorySegment> all = new ArrayList<>(Arrays.asList(in));
        for (int j = from; j < models.size(); j++) {
            Place p = places.get(j).get(weight.name());
            if (p.file == null) {
                all.add(p.memory.asSlice(type.bytes(start), type.bytes(elements)));
                continue;
            }
            MemorySegment bytes = ahead.next();
            // The buffer of the last one stays until the next is asked for.
            all.add(j < models.size() - 1 ? scratch.asSlice(j * slice, bytes.byteSize()).copyFrom(bytes) : bytes);
        }
        return all;
    }

    /** All elements of all models, until the next weight. */
    private List<MemorySegment> hold(Weight weight) throws IOException {
        DType type = weight.tensor().dtype();
        long bytes = weight.tensor().bytes();
        MemorySegment room = held.of(models.size() * bytes);
        List<MemorySegment> all = new ArrayList<>();
        for (int j = 0; j < models.size(); j++) {
            Place p = places.get(j).get(weight.name());
            all.add(p.file == null ? p.memory.asSlice(0, bytes) : room.asSlice(j * bytes, bytes));
        }
        long step = type.bytes(slice / type.bytes(1));
        for (long at = 0; at < bytes; at += step) {
            for (int j = 0; j < models.size(); j++) {
                if (places.get(j).get(weight.name()).file != null) {
                    MemorySegment some = ahead.next();
                    all.get(j).asSlice(at, some.byteSize()).copyFrom(some);
                }
            }
        }
        return all;
    }

    /** Elements of all models, read out of turn. */
    private List<MemorySegment> again(Weight weight, long start, long elements) throws IOException {
        DType type = weight.tensor().dtype();
        List<MemorySegment> all = new ArrayList<>();
        for (int j = 0; j < models.size(); j++) {
            Place p = places.get(j).get(weight.name());
            try (FileChannel from = open(p)) {
                all.add(read(p, from, type.bytes(start), scratch.asSlice(j * slice, type.bytes(elements))));
            }
        }
        return all;
    }

    private static List<MemorySegment> slice(List<MemorySegment> of, long start, long bytes) {
        return of.stream().map(m -> m.asSlice(start, bytes)).toList();
    }

    @Override
    public Encoding encode(Weight weight, Form form, Tensor rows, long first) throws IOException {
        if (ahead == null) {
            ahead = new ReadAhead(ranges(), buffers);
        }
        Part part = parts.poll();
        if (part == null || part.weight != weight || part.first != first || !part.rows.equals(rows.shape())) {
            throw new IllegalStateException("rows of '" + weight.name() + "' from " + first + " on are asked for, which were not announced");
        }
        executor.subject(weight.name());
        if (first == 0) {
            same = true;
            begin(weight);
        }
        MemorySegment to = out.of(rows.bytes());
        DType type = rows.dtype();
        long elements = rows.shape().elements();
        long step = slice / type.bytes(1);
        for (long at = 0; at < elements; at += step) {
            long n = Math.min(step, elements - at);
            MemorySegment own = rows.data().asSlice(type.bytes(at), type.bytes(n));
            List<MemorySegment> in = whole == null ? take(weight, part.start() + at, n, 1, own) : slice(whole, type.bytes(part.start() + at), type.bytes(n));
            for (int j = 1; same && j < in.size(); j++) {
                same = own.mismatch(in.get(j)) < 0;
            }
            merge(weight, part.start() + at, n, in, to.asSlice(type.bytes(at), type.bytes(n)));
        }
        made += rows.bytes();
        if (options.progress() != null) {
            options.progress().accept(weight.name(), made);
        }
        if (part.start() + elements == weight.tensor().shape().elements()) {
            alike += same ? 1 : 0;
        }
        if (parts.isEmpty()) {
            inputs.check();
        }
        return new Encoding.Dense(new Tensor(type, rows.shape(), to.asSlice(0, rows.bytes())));
    }

    /** Looks at a whole weight where the method does. */
    private void begin(Weight weight) throws IOException {
        coefficients = weights.clone();
        if (settings.method() == Merger.Method.MEAN || settings.method() == Merger.Method.SLERP) {
            double sum = 0;
            for (double w : weights) {
                sum += w;
            }
            for (int j = 0; j < tasks; j++) {
                coefficients[j] = weights[j] / sum;
            }
        }
        whole = resident(weight) ? hold(weight) : null;
        if (passes() == 0) {
            return;
        }
        if (settings.method() == Merger.Method.SLERP) {
            slerp(weight);
        } else {
            trim(weight);
        }
    }

    private interface Slice {
        void look(List<MemorySegment> in, long start, long elements);
    }

    /** @param planned whether it is among those passes that are read ahead */
    private void slices(Weight weight, boolean planned, Slice work) throws IOException {
        DType type = weight.tensor().dtype();
        long elements = weight.tensor().shape().elements();
        long step = slice / type.bytes(1);
        for (long at = 0; at < elements; at += step) {
            long n = Math.min(step, elements - at);
            List<MemorySegment> in = whole != null ? slice(whole, type.bytes(at), type.bytes(n)) : planned ? take(weight, at, n, 0) : again(weight, at, n);
            Phases.Span span = phases.begin(Phases.Phase.KERNEL);
            work.look(in, at, n);
            span.end(weight.name(), type.bytes(n));
        }
    }

    /** Weights of the two that lead along the sphere; where it is about flat they stay as they are. */
    private void slerp(Weight weight) throws IOException {
        double[] sums = new double[3];
        slices(weight, true, (in, start, n) -> {
            try {
                Merge.inner(weight.tensor().dtype(), n, in.get(0), in.get(1), sums, executor);
            } catch (KernelException e) {
                if (e.status() != KernelException.NONFINITE) {
                    throw e;
                }
                sums[0] = Double.NaN; // infinities that are alike may stay, others are found when they are merged
            }
        });
        double cosine = sums[0] / Math.sqrt(sums[1] * sums[2]);
        if (Math.abs(cosine) <= PARALLEL) {
            double angle = StrictMath.acos(cosine);
            double t = coefficients[1];
            coefficients[0] = StrictMath.sin((1 - t) * angle) / StrictMath.sin(angle);
            coefficients[1] = StrictMath.sin(t * angle) / StrictMath.sin(angle);
        }
    }

    /**
     * The least magnitude that stays of what each model differs from the base. The first piece of a weight that has to be read again tells about what it is, so that
     * it is found one time earlier, unless it is far from that.
     */
    private void trim(Weight weight) throws IOException {
        DType type = weight.tensor().dtype();
        long elements = weight.tensor().shape().elements();
        if (deltas == null) {
            deltas = arena.allocate(DType.F32.bytes(slice / Short.BYTES), 64);
        }
        Prune.Largest[] largest = new Prune.Largest[tasks];
        boolean[] found = new boolean[tasks];
        for (int j = 0; j < tasks; j++) {
            largest[j] = new Prune.Largest(kept(elements));
        }
        for (int pass = 0, missing = tasks; missing > 0; pass++) {
            boolean first = pass == 0;
            slices(weight, pass < passes(), (in, start, n) -> {
                for (int j = 0; j < tasks; j++) {
                    if (found[j]) {
                        continue;
                    }
                    MemorySegment difference = deltas.asSlice(0, DType.F32.bytes(n));
                    try {
                        Merge.delta(type, n, in.get(j), in.get(tasks), difference, executor);
                    } catch (KernelException e) {
                        throw failed(e, weight, start, n, in);
                    }
                    if (first && start == 0 && whole == null) {
                        largest[j].expect(magnitude(difference, n));
                    }
                    largest[j].add(difference, n, executor);
                }
            });
            for (int j = 0; j < tasks; j++) {
                if (!found[j] && largest[j].pass()) {
                    found[j] = true;
                    missing--;
                }
            }
        }
        for (int j = 0; j < tasks; j++) {
            thresholds[j] = largest[j].magnitude();
        }
    }

    /** How many of so many elements stay. */
    private long kept(long elements) {
        return Math.clamp(Math.round(settings.density() * elements), 1, elements);
    }

    /** The least magnitude that stays of some differences. */
    private float magnitude(MemorySegment differences, long elements) {
        Prune.Largest largest = new Prune.Largest(kept(elements));
        do {
            largest.add(differences, elements, executor);
        } while (!largest.pass());
        return largest.magnitude();
    }

    private void merge(Weight weight, long start, long elements, List<MemorySegment> in, MemorySegment to) {
        DType type = weight.tensor().dtype();
        Phases.Span span = phases.begin(Phases.Phase.KERNEL);
        try {
            if (settings.method().based()) {
                Merge.Drop drop = settings.method().random() ? Merge.Drop.RANDOM : passes() > 0 ? Merge.Drop.SMALL : Merge.Drop.NONE;
                Merge.tasks(new Merge.Tasks(drop, settings.method().elects(), settings.scale(), settings.density(), settings.seed(), stream(weight)),
                        type, elements, in, coefficients, thresholds, start, to, executor);
            } else {
                Merge.combine(type, elements, in, coefficients, to, executor);
            }
        } catch (KernelException e) {
            throw failed(e, weight, start, elements, in);
        }
        span.end(weight.name(), type.bytes(elements));
    }

    /** Of the noise of the first model: the FNV-1a hash, 64 bits, of the weight's name in UTF-8. */
    private static long stream(Weight weight) {
        long hash = 0xcbf29ce484222325L;
        for (byte b : weight.name().getBytes(StandardCharsets.UTF_8)) {
            hash = (hash ^ b & 0xff) * 0x100000001b3L;
        }
        return hash;
    }

    /** Which element of which model a kernel did not take. */
    private RuntimeException failed(KernelException e, Weight weight, long start, long elements, List<MemorySegment> in) {
        if (e.status() != KernelException.NONFINITE) {
            return e.in("weight " + weight.name());
        }
        List<Tensor> tensors = new ArrayList<>();
        for (MemorySegment segment : in) {
            tensors.add(new Tensor(weight.tensor().dtype(), Shape.of(elements), segment));
        }
        for (long i = 0; i < elements; i++) {
            float first = Quantize.element(tensors.getFirst(), i);
            for (int j = 0; j < tensors.size(); j++) {
                float x = Quantize.element(tensors.get(j), i);
                if (Float.isNaN(x) || Float.isInfinite(x) && x != first || j > 0 && Float.isInfinite(first) && x != first) {
                    boolean other = !Float.isNaN(x) && !Float.isInfinite(x);
                    return NonFiniteWeightException.of(paths.get(other ? 0 : j), weight.name(), start + i, other ? first : x);
                }
            }
        }
        return new UnsupportedRequestException("weight " + weight.name() + " would hold what is no finite number in its type between elements " + start
                + " and " + (start + elements) + ", where all models do; smaller weights, or a smaller scale, help");
    }

    @Override
    public void close() {
        if (ahead != null) {
            ahead.close();
        }
        buffers.close();
        executor.close();
        arena.close();
        out.close();
        held.close();
    }
}
