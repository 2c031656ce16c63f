package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.Merge;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Model;
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
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Weights of a model in files of tensors, of any size, that are equal or nearly so, and the model with those that are nearly equal made equal. Safetensors
 * has no way to say that two names have one tensor, so that its files stay as large; archives store equal arrays once.
 *
 * <p>Looked at are weights of f32, f16 and bf16 of 1,024 elements or more that other weights have the type and shape of; those that hold NaN or an infinity are alike to
 * none that differs by a bit. Each is read once for its norm and some of its elements, and then as far as these leave it open whether it is near
 * another one.
 */
public final class SharedWeights implements AutoCloseable {
    /** Smaller weights gain nothing. */
    static final long LEAST = 1024;
    /** Bytes that are compared at once. */
    private static final long PIECE = 4 << 20;
    /** Elements of a weight that are kept, and bytes of those of all weights, about. */
    private static final int SAMPLES = 1024;
    private static final long SAMPLE_BYTES = 64 << 20;

    private final Model model;
    private final Target target;
    private final Map<String, Model.Array> arrays = new HashMap<>();
    private final Executor executor;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment one = arena.allocate(PIECE, 64);
    private final MemorySegment other = arena.allocate(PIECE, 64);

    /**
     * A weight that is like an earlier one.
     *
     * @param of that one
     * @param difference of both, by the norm of the larger one, in Frobenius norms
     * @param equal whether they are the same, bit for bit
     */
    public record Shared(Weight weight, Weight of, double difference, boolean equal) {}

    /** What is known of a weight that others may be like. */
    private record Known(Weight weight, double norm, float[] sample) {}

    /**
     * @param target options of the format's first target that say how files are written, such as {@code shard-size}
     * @param threads that kernels spread over; 0 for all processors
     * @throws UnsupportedRequestException if the model's weights have a graph, which {@link dev.tensorpress.structure.Cleanup} changes
     */
    public static SharedWeights open(Path path, boolean allowLinks, Map<String, String> target, int threads) throws IOException {
        Formats.Entry format = Formats.of(path);
        Model model = format.format().open(path, Map.of(), allowLinks);
        try {
            Target of = format.target(model, "", target);
            if (!of.writesFolder()) {
                throw new UnsupportedRequestException(path + " has a graph, in which names can share one tensor: steps of clean-up are for it");
            }
            return new SharedWeights(model, of, threads);
        } catch (RuntimeException | Error e) {
            model.close();
            throw e;
        }
    }

    private SharedWeights(Model model, Target target, int threads) {
        this.model = model;
        this.target = target;
        executor = Executor.cpu(threads);
        model.arrays().forEach(a -> arrays.put(a.name(), a));
    }

    /** The model that is read. */
    public Model model() {
        return model;
    }

    /**
     * Weights that are like an earlier one, of all that are within the tolerance the first; none is like one that is itself like another.
     *
     * @param tolerance of the difference by the norm of the larger one, 0 to 1; 0 for those that are the same bit for bit. What is below 1e-7 is not told from 0
     * @throws IOException if the model cannot be read
     */
    public List<Shared> find(double tolerance) throws IOException {
        if (!(tolerance >= 0 && tolerance <= 1)) {
            throw new IllegalArgumentException("tolerance must be 0 to 1, but is " + tolerance);
        }
        Map<String, List<Weight>> kinds = new LinkedHashMap<>();
        int count = 0;
        for (Weight w : model.weights()) {
            Tensor t = w.tensor();
            if (t.dtype().compressible() && t.shape().elements() >= LEAST && arrays.containsKey(w.name())) {
                kinds.computeIfAbsent(t.dtype() + " " + t.shape(), k -> new ArrayList<>()).add(w);
                count++;
            }
        }
        int samples = Math.clamp(SAMPLE_BYTES / Float.BYTES / Math.max(1, count), 16, SAMPLES);
        List<Shared> all = new ArrayList<>();
        for (List<Weight> kind : kinds.values()) {
            List<Known> firsts = new ArrayList<>();
            for (Weight w : kind.size() < 2 ? List.<Weight>of() : kind) {
                Known known = look(w, samples);
                Shared found = null;
                for (int i = 0; i < firsts.size() && found == null; i++) {
                    found = compare(firsts.get(i), known, tolerance);
                }
                if (found == null) {
                    firsts.add(known);
                } else {
                    all.add(found);
                }
            }
        }
        return all;
    }

    /** The norm, NaN if it is not finite, and elements that lie equally far from each other. */
    private Known look(Weight w, int samples) throws IOException {
        DType type = w.tensor().dtype();
        long elements = w.tensor().shape().elements();
        long apart = Math.ceilDiv(elements, samples);
        float[] sample = new float[(int) Math.ceilDiv(elements, apart)];
        double[] sums = new double[3];
        try (FileChannel file = open(w)) {
            long step = PIECE / type.bytes(1);
            for (long at = 0; at < elements; at += step) {
                long n = Math.min(step, elements - at);
                MemorySegment piece = read(w, file, type.bytes(at), one.asSlice(0, type.bytes(n)));
                add(type, n, piece, piece, sums);
                Tensor values = new Tensor(type, Shape.of(n), piece);
                for (long i = Math.ceilDiv(at, apart) * apart; i < at + n; i += apart) {
                    sample[(int) (i / apart)] = Quantize.element(values, i - at);
                }
            }
        }
        return new Known(w, Math.sqrt(sums[1]), sample);
    }

    private void add(DType type, long n, MemorySegment x, MemorySegment y, double[] sums) {
        try {
            Merge.inner(type, n, x, y, sums, executor);
        } catch (KernelException e) {
            if (e.status() != KernelException.NONFINITE) {
                throw e;
            }
            sums[1] = Double.NaN;
        }
    }

    /** Null unless they are near. Reading ends where they have turned out not to be. */
    private Shared compare(Known first, Known known, double tolerance) throws IOException {
        double larger = Math.max(first.norm, known.norm);
        double most = tolerance * larger;
        double square = most * most;
        boolean finite = Double.isFinite(larger);
        // What differs by its length alone, or in a part of it, need not be looked at.
        if (finite && Math.abs(first.norm - known.norm) > most) {
            return null;
        }
        double least = 0;
        for (int i = 0; i < known.sample.length; i++) {
            double difference = (double) known.sample[i] - first.sample[i];
            least += difference * difference;
            boolean same = Float.floatToRawIntBits(known.sample[i]) == Float.floatToRawIntBits(first.sample[i]);
            if (finite ? least > square : !same) {
                return null;
            }
        }
        DType type = known.weight.tensor().dtype();
        long elements = known.weight.tensor().shape().elements();
        boolean equal = true;
        double sum = 0;
        try (FileChannel x = open(first.weight); FileChannel y = open(known.weight)) {
            long step = PIECE / type.bytes(1);
            for (long at = 0; at < elements; at += step) {
                long n = Math.min(step, elements - at);
                MemorySegment a = read(first.weight, x, type.bytes(at), one.asSlice(0, type.bytes(n)));
                MemorySegment b = read(known.weight, y, type.bytes(at), other.asSlice(0, type.bytes(n)));
                if (a.mismatch(b) < 0) {
                    continue;
                }
                equal = false;
                double[] sums = new double[3];
                if (finite) {
                    add(type, n, a, b, sums);
                    sum += Math.max(0, sums[1] - 2 * sums[0] + sums[2]);
                }
                if (!finite || tolerance == 0 || sum > square) {
                    return null;
                }
            }
        }
        return new Shared(known.weight, first.weight, larger > 0 && finite ? Math.sqrt(sum) / larger : 0, equal);
    }

    private FileChannel open(Weight w) throws IOException {
        return FileChannel.open(arrays.get(w.name()).file());
    }

    /** Bytes of a weight, from one of them on. */
    private MemorySegment read(Weight w, FileChannel file, long from, MemorySegment to) throws IOException {
        Model.Array array = arrays.get(w.name());
        for (long done = 0; done < to.byteSize();) {
            int n = file.read(to.asSlice(done).asByteBuffer(), array.offset() + from + done);
            if (n < 0) {
                throw new EOFException(array.file() + " became shorter while it was read");
            }
            done += n;
        }
        return to;
    }

    /**
     * Writes the model, whole or not at all, with the elements of the first in the place of those of the others.
     *
     * @param shared of {@link #find}
     * @param out a folder
     * @return the files that hold the model
     * @throws java.nio.file.FileAlreadyExistsException if {@code out} exists and is not to be overwritten
     * @throws IOException if reading or writing fails, or the model changes meanwhile
     */
    public Set<Path> write(List<Shared> shared, Path out, boolean overwrite, long memory) throws IOException {
        Map<Weight, Lowering> lowerings = new LinkedHashMap<>();
        Map<String, Weight> firsts = new HashMap<>();
        StringBuilder described = new StringBuilder("shared");
        for (Shared s : shared) {
            if (!s.equal) {
                lowerings.put(s.weight, target.replaced(s.weight));
                firsts.put(s.weight.name(), s.of);
                described.append(' ').append(s.weight.name()).append('=').append(s.of.name());
            }
        }
        InputFiles inputs = new InputFiles();
        for (Path file : model.files()) {
            inputs.add(file);
        }
        try (Rows rows = new Rows(firsts)) {
            Set<Path> files = target.write(lowerings, rows, new Destination(out, overwrite, false, memory, Map.of("recipe", described.toString(), "tool",
                    Machine.version())));
            inputs.check();
            return files;
        }
    }

    /** Rows of the first in the place of another weight's. */
    private final class Rows implements Target.Encoder, AutoCloseable {
        private final Map<String, Weight> firsts;
        private Arena held;
        private MemorySegment memory = MemorySegment.NULL;

        Rows(Map<String, Weight> firsts) {
            this.firsts = firsts;
        }

        @Override
        public boolean byRows(Weight weight, Form form) {
            return weight.tensor().shape().rank() > 0;
        }

        @Override
        public Encoding encode(Weight weight, Form form, Tensor rows, long first) throws IOException {
            if (memory.byteSize() < rows.bytes()) {
                close();
                held = Arena.ofShared();
                memory = held.allocate(rows.bytes(), 64);
            }
            Weight of = firsts.get(weight.name());
            Shape shape = weight.tensor().shape();
            long start = first == 0 ? 0 : first * (shape.elements() / shape.dim(0));
            try (FileChannel file = open(of)) {
                MemorySegment to = read(of, file, rows.dtype().bytes(start), memory.asSlice(0, rows.bytes()));
                return new Encoding.Dense(new Tensor(rows.dtype(), rows.shape(), to));
            }
        }

        @Override
        public void close() {
            if (held != null) {
                held.close();
                held = null;
            }
        }
    }

    @Override
    public void close() {
        executor.close();
        arena.close();
        model.close();
    }
}
