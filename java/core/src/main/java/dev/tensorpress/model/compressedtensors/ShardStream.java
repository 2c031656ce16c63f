package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.ReadAhead.Range;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.compressedtensors.CompressedLowering.Array;
import dev.tensorpress.model.compressedtensors.CompressedLowering.Output;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The data of one file of the output: which bytes are read for it, in which order, and what becomes of them. Weights are encoded
 * some rows at a time where that can be, in parts of a size that depends on the weight alone. While the first tensor of a weight is
 * written, the others wait in memory; those that are too large for that are encoded again when it is their turn.
 */
final class ShardStream {
    /** Rows that fill whole words of zero points. */
    private static final long ROWS = 8;

    private final SafetensorsModel model;
    private final Target.Encoder encoder;
    private final long partBytes;
    private final List<Step> steps = new ArrayList<>();
    private final List<Range> ranges = new ArrayList<>();

    /**
     * Writes one tensor.
     *
     * @param parts what is encoded for it, or copied; empty if its bytes are at hand
     * @param kept other tensors of the weight, whose bytes are kept meanwhile
     */
    private record Step(Output output, List<Rows> parts, List<Output> kept) {}

    /**
     * Rows of the weight, or bytes of one that is copied.
     *
     * @param ranges how many of the ranges hold them
     */
    private record Rows(long first, Shape shape, long bytes, int ranges) {}

    /**
     * @param outputs of the file, in order
     * @param keep bytes that may wait in memory
     * @param partBytes that are encoded at once, unless 8 rows have more
     */
    ShardStream(SafetensorsModel model, List<Output> outputs, Target.Encoder encoder, long keep, long partBytes) {
        this.model = model;
        this.encoder = encoder;
        this.partBytes = partBytes;
        Set<Output> left = new HashSet<>(outputs);
        Set<Output> kept = new HashSet<>();
        long room = keep;
        for (Output o : outputs) {
            left.remove(o);
            if (kept.remove(o)) {
                room += o.bytes();
                steps.add(new Step(o, List.of(), List.of()));
                continue;
            }
            List<Output> more = new ArrayList<>();
            if (o.array() != Array.SHAPE && o.array() != Array.SAME) {
                for (Output other : o.of().outputs) {
                    if (other.array() != Array.SHAPE && left.contains(other) && !kept.contains(other) && other.bytes() <= room) {
                        more.add(other);
                        room -= other.bytes();
                    }
                }
                kept.addAll(more);
            }
            steps.add(new Step(o, read(o), more));
        }
    }

    /** What has to be read, in order. */
    List<Range> ranges() {
        return ranges;
    }

    /** Bytes of the largest part. */
    static long part(Weight weight, boolean byRows, long partBytes) {
        long bytes = weight.tensor().bytes();
        if (!byRows) {
            return bytes;
        }
        long rows = weight.tensor().shape().dim(0);
        return Math.min(rows, rowsAtOnce(weight, partBytes)) * (bytes / rows);
    }

    /** Of a stack they are matrices, whose rows may fill whole words by themselves. */
    private static long rowsAtOnce(Weight weight, long partBytes) {
        Shape shape = weight.tensor().shape();
        long least = shape.rank() == 3 && shape.dim(1) % ROWS == 0 ? 1 : ROWS;
        return Math.max(1, partBytes / (weight.tensor().bytes() / shape.dim(0) * least)) * least;
    }

    private List<Rows> read(Output o) {
        Weight weight = o.of().weight;
        Shape shape = weight.tensor().shape();
        long bytes = weight.tensor().bytes();
        List<Rows> parts = new ArrayList<>();
        if (o.array() == Array.SHAPE) {
            return parts;
        }
        if (o.array() == Array.SAME) {
            for (long at = 0; at < bytes; at += Buffers.CHUNK) {
                parts.add(range(weight, 0, shape, at, Math.min(Buffers.CHUNK, bytes - at)));
            }
            return parts;
        }
        if (!encoder.byRows(weight, o.of().form())) {
            parts.add(range(weight, 0, shape, 0, bytes));
            encoder.announce(weight, 0, shape);
            return parts;
        }
        long rows = shape.dim(0);
        long step = rowsAtOnce(weight, partBytes);
        for (long first = 0; first < rows; first += step) {
            long n = Math.min(step, rows - first);
            long[] dims = shape.dims();
            dims[0] = n;
            parts.add(range(weight, first, Shape.of(dims), bytes / rows * first, bytes / rows * n));
            encoder.announce(weight, first, Shape.of(dims));
        }
        return parts;
    }

    private Rows range(Weight weight, long first, Shape shape, long at, long bytes) {
        long start = model.entry(weight).start() + at;
        int before = ranges.size();
        for (long done = 0; done < bytes; done += Buffers.CHUNK) {
            ranges.add(new Range(model.shard(weight).path(), start + done, Math.min(Buffers.CHUNK, bytes - done)));
        }
        return new Rows(first, shape, bytes, ranges.size() - before);
    }

    /**
     * Writes all tensors, one after another.
     *
     * @param from gives {@link #ranges}
     */
    void write(StreamFile to, ReadAhead from) throws IOException {
        Map<Output, Kept> kept = new HashMap<>();
        try (Scratch whole = new Scratch(); Scratch packed = new Scratch()) {
            for (Step s : steps) {
                to.tensor(s.output.name());
                if (s.output.array() == Array.SHAPE) {
                    to.write(MemorySegment.ofArray(s.output.of().matrix()));
                    continue;
                }
                if (s.parts.isEmpty()) {
                    try (Kept k = kept.remove(s.output)) {
                        if (k != null) {
                            to.write(k.whole());
                        }
                    }
                    continue;
                }
                for (Output o : s.kept) {
                    kept.put(o, new Kept(o));
                }
                for (Rows rows : s.parts) {
                    MemorySegment bytes = next(from, rows, whole);
                    if (s.output.array() == Array.SAME) {
                        to.write(bytes);
                        continue;
                    }
                    Encoding encoding = encode(s.output.of(), rows, bytes);
                    to.write(bytes(s.output, encoding, packed));
                    for (Output o : s.kept) {
                        kept.get(o).add(bytes(o, encoding, packed));
                    }
                }
            }
        } finally {
            for (Kept k : kept.values()) {
                k.close();
            }
        }
    }

    private static MemorySegment next(ReadAhead from, Rows rows, Scratch whole) throws IOException {
        if (rows.ranges == 1) {
            return from.next();
        }
        MemorySegment all = whole.take(rows.bytes);
        long at = 0;
        for (int i = 0; i < rows.ranges; i++) {
            MemorySegment bytes = from.next();
            MemorySegment.copy(bytes, 0, all, at, bytes.byteSize());
            at += bytes.byteSize();
        }
        return all;
    }

    private Encoding encode(CompressedLowering lowering, Rows rows, MemorySegment bytes) throws IOException {
        Weight weight = lowering.weight;
        Encoding e = encoder.encode(weight, lowering.form(), new Tensor(weight.tensor().dtype(), rows.shape, bytes), rows.first);
        if (!e.form().equals(lowering.form()) || !e.shape().equals(rows.shape)) {
            throw new IllegalStateException("the encoding of '" + weight.name() + "' is not what was asked for: "
                    + lowering.form().describe());
        }
        return e;
    }

    /** What of an encoding goes to a tensor. */
    private static MemorySegment bytes(Output output, Encoding encoding, Scratch packed) {
        Encoding values = encoding.values();
        switch (output.array()) {
            case VALUES -> {
                return ((Encoding.Dense) values).tensor().data();
            }
            case LEFT_FACTOR -> {
                return ((Encoding.Dense) values.factors().left()).tensor().data();
            }
            case RIGHT_FACTOR -> {
                return ((Encoding.Dense) values.factors().right()).tensor().data();
            }
            case SCALES -> {
                return ((Encoding.Quantized) values).scales().data();
            }
            default -> {
                Encoding.Quantized q = (Encoding.Quantized) values;
                return output.array() == Array.ZEROS ? zeros(q, packed) : codes(q, packed);
            }
        }
    }

    /** Rows of codes, each filled up to whole words. */
    private static MemorySegment codes(Encoding.Quantized q, Scratch packed) {
        Form.Quantized form = q.form();
        MemorySegment codes = q.codes().data();
        Scheme scheme = Scheme.of(form);
        long[] matrix = CompressedLowering.matrix(form, q.shape());
        long rows = matrix[0];
        long cols = matrix[1];
        long words = scheme.words(cols);
        if (!scheme.packed() || words * Integer.SIZE == cols * form.bits()) {
            return codes;
        }
        MemorySegment out = packed.take(rows * words * Integer.BYTES);
        out.fill((byte) 0);
        boolean nibbles = form.bits() == 4;
        for (long r = 0; r < rows; r++) {
            long to = r * words * Integer.BYTES;
            if (!nibbles || cols % 2 == 0) {
                long bytes = nibbles ? cols / 2 : cols;
                MemorySegment.copy(codes, r * bytes, out, to, bytes);
                continue;
            }
            for (long c = 0; c < cols; c++) {
                long i = r * cols + c;
                int code = codes.get(ValueLayout.JAVA_BYTE, i / 2) >>> (i % 2 * 4) & 15;
                long at = to + c / 2;
                out.set(ValueLayout.JAVA_BYTE, at, (byte) (out.get(ValueLayout.JAVA_BYTE, at) | code << c % 2 * 4));
            }
        }
        return out;
    }

    /** Zero points, each word with those of some rows. */
    private static MemorySegment zeros(Encoding.Quantized q, Scratch packed) {
        Scheme scheme = Scheme.of(q.form());
        int bits = scheme.bits();
        int fields = scheme.fields();
        long[] matrix = CompressedLowering.matrix(q.form(), q.shape());
        long rows = matrix[0];
        long groups = matrix[1] / scheme.group(matrix[1]);
        MemorySegment zeros = q.zeros().data();
        MemorySegment out = packed.take(scheme.words(rows) * groups * Integer.BYTES);
        for (long r = 0; r < rows; r += fields) {
            for (long g = 0; g < groups; g++) {
                int word = 0;
                for (long f = 0; f < fields && r + f < rows; f++) {
                    word |= (zeros.get(ValueLayout.JAVA_BYTE, (r + f) * groups + g) & (1 << bits) - 1) << (int) f * bits;
                }
                out.setAtIndex(ValueLayout.JAVA_INT, r / fields * groups + g, word);
            }
        }
        return out;
    }

    /** Memory that grows, and is used again. */
    private static final class Scratch implements AutoCloseable {
        private Arena arena;
        private MemorySegment memory = MemorySegment.NULL;

        MemorySegment take(long bytes) {
            if (memory.byteSize() < bytes) {
                close();
                // Shared, because worker threads touch it.
                arena = Arena.ofShared();
                memory = arena.allocate(bytes, Long.BYTES);
            }
            return memory.asSlice(0, bytes);
        }

        @Override
        public void close() {
            if (arena != null) {
                arena.close();
                arena = null;
                memory = MemorySegment.NULL;
            }
        }
    }

    /** The bytes of a tensor that waits. */
    private static final class Kept implements AutoCloseable {
        private final Arena arena = Arena.ofConfined();
        private final MemorySegment memory;
        private long filled;

        Kept(Output output) {
            memory = arena.allocate(Math.max(1, output.bytes()));
        }

        void add(MemorySegment bytes) {
            MemorySegment.copy(bytes, 0, memory, filled, bytes.byteSize());
            filled += bytes.byteSize();
        }

        MemorySegment whole() {
            return memory.asSlice(0, filled);
        }

        @Override
        public void close() {
            arena.close();
        }
    }
}
