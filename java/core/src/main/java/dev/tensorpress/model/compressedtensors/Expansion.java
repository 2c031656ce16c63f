package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.ReadAhead.Range;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.compressedtensors.CompressedModel.Factors;
import dev.tensorpress.model.compressedtensors.CompressedModel.Restored;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.function.ObjLongConsumer;

/**
 * Writes the data of an expanded model: what is read for which tensor, and what becomes of it. Weights are decoded some rows at a
 * time; how they are cut does not show in the result.
 */
final class Expansion implements AutoCloseable {
    /** Elements that are decoded together, unless a few rows have more. */
    static final long AT_ONCE = 1 << 20;
    /** Parts of the memory for buffers, and for what is decoded. */
    static final int SHARE_OF_BUFFERS = 4;
    private static final int SHARE_OF_WORK = 2;

    private final Arena arena = Arena.ofShared();
    private final Executor executor;
    private final Phases phases;
    private final ObjLongConsumer<String> progress;
    private final long elements;
    private final MemorySegment whole;
    private final MemorySegment scratch;
    private final MemorySegment out;
    private long done;

    /**
     * @param elements that are decoded together, as {@link #AT_ONCE}
     * @throws UnsupportedRequestException if a weight takes more memory than there may be
     */
    Expansion(List<Restored> all, Destination to, Executor executor, ObjLongConsumer<String> progress, long elements) {
        this.executor = executor;
        this.phases = to.phases();
        this.progress = progress;
        this.elements = elements;
        long read = 0;
        long work = 0;
        long made = 0;
        for (Restored r : all) {
            long rows = atOnce(r);
            long[] needs = needs(r, rows);
            if (needs[0] + needs[1] + needs[2] > to.memory() / SHARE_OF_WORK) {
                throw new UnsupportedRequestException("weight " + r.name() + " takes " + (needs[0] + needs[1] + needs[2])
                        + " bytes of memory to expand, " + rows + " of its rows at once; half of the memory allowed, "
                        + to.memory() / SHARE_OF_WORK + ", may be used for that", "memory");
            }
            read = Math.max(read, needs[0]);
            work = Math.max(work, needs[1]);
            made = Math.max(made, needs[2]);
        }
        whole = arena.allocate(read, 64);
        scratch = arena.allocate(work, 64);
        out = arena.allocate(made, 64);
    }

    /** Bytes to read into, beside buffers; to work in; and of the result. */
    private static long[] needs(Restored r, long rows) {
        if (r.packed() != null) {
            PackedWeight w = r.packed();
            long read = 0;
            for (StoredTensor p : parts(w)) {
                read = Math.max(read, w.range(p, 0, rows)[1]);
            }
            long made = w.dtype().bytes(rows * w.cols);
            return new long[] {read > Buffers.CHUNK ? read : 0, w.scratch(rows), r.transposed() ? 2 * made : made};
        }
        if (r.factors() != null) {
            Factors f = r.factors();
            // Both as they are, and what a product makes of them.
            long read = align(f.left().entry().length()) + align(f.right().entry().length());
            long wide = DType.F32.bytes(f.left().entry().shape().elements() + f.right().entry().shape().elements());
            return new long[] {read, align(f.right().entry().length()) + DType.F32.bytes(rows * r.cols()) + 3 * wide,
                r.dtype().bytes(rows * r.cols())};
        }
        return new long[3];
    }

    private static long align(long bytes) {
        return (bytes + 63) / 64 * 64;
    }

    private long atOnce(Restored r) {
        if (r.packed() == null && r.factors() == null || r.shape().elements() == 0) {
            return 0;
        }
        if (r.transposed()) {
            return r.packed().rows; // of which the rows of the tensor are columns
        }
        // Codes of a stack have the rows of all its matrices.
        long rows = r.packed() == null ? r.rows() : r.packed().rows;
        long cols = r.packed() == null ? r.cols() : r.packed().cols;
        long granule = r.packed() == null ? 1 : r.packed().granule();
        return Math.min(rows, Math.max(1, elements / cols / granule) * granule);
    }

    /** In the order of reading: what rows are multiplied with comes before them. */
    private static List<StoredTensor> parts(PackedWeight w) {
        return w.zeros == null ? List.of(w.scales, w.codes) : List.of(w.scales, w.zeros, w.codes);
    }

    /** What has to be read for a tensor, in order. */
    void ranges(Restored r, List<Range> to) {
        if (r.kept() != null) {
            add(r.kept(), to);
        } else if (r.factors() != null) {
            add(r.factors().left(), to);
            add(r.factors().right(), to);
        } else {
            long step = atOnce(r);
            for (long first = 0; first < r.packed().rows && step > 0; first += step) {
                for (StoredTensor p : parts(r.packed())) {
                    long[] range = r.packed().range(p, first, Math.min(step, r.packed().rows - first));
                    add(p, range[0], range[1], to);
                }
            }
        }
    }

    private static void add(StoredTensor p, List<Range> to) {
        add(p, p.entry().start(), p.entry().length(), to);
    }

    private static void add(StoredTensor p, long start, long length, List<Range> to) {
        for (long at = 0; at < length; at += Buffers.CHUNK) {
            to.add(new Range(p.file().path(), start + at, Math.min(Buffers.CHUNK, length - at)));
        }
    }

    /** Counts a tensor that is there already. */
    void skip(Restored r) {
        done += r.bytes();
    }

    /** Writes one tensor, from what {@link #ranges} asked for. */
    void write(Restored r, StreamFile to, ReadAhead from) throws IOException {
        to.tensor(r.name());
        executor.subject(r.name());
        if (r.kept() != null) {
            for (long at = 0; at < r.bytes(); at += Buffers.CHUNK) {
                write(r, to, from.next());
            }
        } else if (r.factors() != null) {
            multiply(r, to, from);
        } else {
            PackedWeight w = r.packed();
            long step = atOnce(r);
            for (long first = 0; first < w.rows && step > 0; first += step) {
                long n = Math.min(step, w.rows - first);
                w.takeScales(n, next(w.range(w.scales, first, n)[1], from), scratch, executor);
                if (w.zeros != null) {
                    w.takeZeros(n, next(w.range(w.zeros, first, n)[1], from), scratch);
                }
                MemorySegment rows = out.asSlice(0, w.dtype().bytes(n * w.cols));
                MemorySegment codes = next(w.range(w.codes, first, n)[1], from);
                Phases.Span span = phases.begin(Phases.Phase.KERNEL);
                w.decode(n, codes, scratch, rows, executor);
                MemorySegment values = r.transposed() ? transposed(w, rows) : rows;
                span.end(r.name(), rows.byteSize());
                write(r, to, values);
            }
        }
    }

    /** All of a weight the other way round, in memory behind it. */
    private MemorySegment transposed(PackedWeight w, MemorySegment values) {
        MemorySegment to = out.asSlice(values.byteSize(), values.byteSize());
        long size = w.dtype().bytes(1);
        for (long r = 0; r < w.rows; r++) {
            for (long c = 0; c < w.cols; c++) {
                if (size == Short.BYTES) {
                    to.setAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, c * w.rows + r,
                            values.getAtIndex(ValueLayout.JAVA_SHORT_UNALIGNED, r * w.cols + c));
                } else {
                    to.setAtIndex(ValueLayout.JAVA_INT_UNALIGNED, c * w.rows + r,
                            values.getAtIndex(ValueLayout.JAVA_INT_UNALIGNED, r * w.cols + c));
                }
            }
        }
        return to;
    }

    private void write(Restored r, StreamFile to, MemorySegment bytes) throws IOException {
        to.write(bytes);
        done += bytes.byteSize();
        progress.accept(r.name(), done);
    }

    private MemorySegment next(long length, ReadAhead from) throws IOException {
        return length <= Buffers.CHUNK && length > 0 ? from.next() : collect(length, from, whole);
    }

    private static MemorySegment collect(long length, ReadAhead from, MemorySegment to) throws IOException {
        for (long at = 0; at < length; at += Buffers.CHUNK) {
            MemorySegment bytes = from.next();
            MemorySegment.copy(bytes, 0, to, at, bytes.byteSize());
        }
        return to.asSlice(0, length);
    }

    /** Rows of the product of two factors: of the left one if they are not transposed, else columns of the right one. */
    private void multiply(Restored r, StreamFile to, ReadAhead from) throws IOException {
        Factors f = r.factors();
        DType type = r.dtype();
        long rank = f.left().entry().shape().dim(1);
        long cols = r.cols();
        MemorySegment left = collect(f.left().entry().length(), from, whole);
        MemorySegment right = collect(f.right().entry().length(), from, whole.asSlice(align(left.byteSize())));
        long step = atOnce(r);
        for (long first = 0; first < r.rows() && step > 0; first += step) {
            long n = Math.min(step, r.rows() - first);
            MemorySegment l = left;
            MemorySegment part = right;
            if (f.transposed()) {
                part = scratch.asSlice(0, type.bytes(rank * n));
                for (long k = 0; k < rank; k++) {
                    MemorySegment.copy(right, type.bytes(k * r.rows() + first), part, type.bytes(k * n), type.bytes(n));
                }
            } else {
                l = left.asSlice(type.bytes(first * rank), type.bytes(n * rank));
            }
            Form.Dense dense = new Form.Dense(type);
            Form.LowRank form = new Form.LowRank(dense, dense, rank, f.transposed());
            Shape shape = Shape.of(n, cols);
            MemorySegment values = scratch.asSlice(align(right.byteSize()), DType.F32.bytes(n * cols));
            Phases.Span span = phases.begin(Phases.Phase.KERNEL);
            new Encoding.LowRank(form, shape, new Encoding.Dense(new Tensor(type, form.left(shape), l)),
                    new Encoding.Dense(new Tensor(type, form.right(shape), part))).decode(values, executor);
            MemorySegment rows = out.asSlice(0, type.bytes(n * cols));
            Quantize.convert(DType.F32, values, n * cols, type, rows, executor);
            span.end(r.name(), rows.byteSize());
            write(r, to, rows);
        }
    }

    @Override
    public void close() {
        arena.close();
    }
}
