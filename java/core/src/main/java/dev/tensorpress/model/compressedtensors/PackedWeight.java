package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.Safetensors.Entry;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * A weight in compressed-tensors: codes, scales, zero points and shape are tensors of their own. Rows can be decoded by
 * themselves, from {@link #granule} on at multiples of it.
 */
final class PackedWeight {

    /** Of the module; the weight's own name has {@code .weight} behind it. */
    final String module;
    final StoredTensor codes;
    final StoredTensor scales;
    /** Null if symmetric. */
    final StoredTensor zeros;
    /** Null if the codes are not packed. */
    final StoredTensor shape;
    final long rows;
    final long cols;
    private final Scheme scheme;
    /** Columns that share a scale. */
    private final long group;
    /** Codes from row to row. */
    private final long stride;

    /** Reads shapes, through the files: of the mappings nothing is read. The last file stays open for the next shape. */
    static final class Shapes implements AutoCloseable {
        private Path path;
        private FileChannel channel;

        private long[] read(StoredTensor shape) throws IOException {
            if (!shape.file().path().equals(path)) {
                close();
                channel = FileChannel.open(shape.file().path(), StandardOpenOption.READ);
                path = shape.file().path();
            }
            ByteBuffer b = ByteBuffer.allocate(2 * Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
            while (b.hasRemaining()) {
                if (channel.read(b, shape.entry().start() + b.position()) < 0) {
                    throw new IOException(path + " became shorter while it was read");
                }
            }
            return new long[] {b.getLong(0), b.getLong(Long.BYTES)};
        }

        @Override
        public void close() throws IOException {
            if (channel != null) {
                channel.close();
            }
        }
    }

    /**
     * Checks that the parts fit each other. Reads the shape, and nothing else.
     *
     * @param parts by the last part of their names; at least one
     * @param shapes reads it
     * @throws MalformedModelException if they do not
     */
    PackedWeight(String module, Scheme scheme, Map<String, StoredTensor> parts, Shapes shapes) throws IOException {
        this.module = module;
        this.scheme = scheme;
        codes = need(parts, scheme.codesName());
        scales = need(parts, Scheme.SCALES);
        zeros = scheme.symmetric() ? null : need(parts, Scheme.ZEROS);
        shape = scheme.packed() ? need(parts, Scheme.SHAPE) : null;
        for (Map.Entry<String, StoredTensor> e : parts.entrySet()) {
            StoredTensor p = e.getValue();
            if (p != codes && p != scales && p != zeros && p != shape) {
                throw e.getKey().equals("weight_g_idx") ? new UnsupportedRequestException(p.file().path() + ": tensor '"
                        + p.entry().name() + "' puts columns in another order, which cannot be expanded")
                        : p.bad("has no place in the scheme of '" + module + "'");
            }
        }
        codes.check(scheme.codes(0, 0).dtype(), -1, -1);
        rows = codes.entry().shape().dim(0);
        long stored = codes.entry().shape().dim(1);
        if (scheme.packed()) {
            shape.check(scheme.shape());
            long[] claimed = shapes.read(shape);
            cols = claimed[1];
            if (claimed[0] != rows || cols < 0 || scheme.words(cols) != stored) {
                throw shape.bad("says " + Arrays.toString(claimed) + " of codes in " + rows + " x " + stored + " words");
            }
            stride = stored * scheme.fields();
        } else {
            cols = stored;
            stride = stored;
        }
        group = scheme.group(cols);
        if (cols % group != 0) {
            throw codes.bad("has " + cols + " columns, which groups of " + group + " do not divide");
        }
        if (!scales.entry().dtype().compressible()) {
            throw scales.bad("is " + scales.entry().dtype() + ", expected F32, F16 or BF16");
        }
        if (scheme.strategy() == Scheme.Strategy.TENSOR) {
            checkSingle(scales);
        } else {
            scales.check(null, scheme.scales(rows, cols, dtype()).shape().dims());
        }
        if (zeros != null && scheme.strategy() == Scheme.Strategy.TENSOR) {
            zeros.check(DType.I8, zeros.entry().shape().dims());
            checkSingle(zeros);
        } else if (zeros != null) {
            zeros.check(scheme.zeros(rows, cols));
        }
        if (!blocks() && stride != cols && groups() > 1) {
            throw new UnsupportedRequestException(codes.file().path() + ": '" + module + "' has groups of " + group
                    + " columns, which cannot be expanded; multiples of 16 up to 256 can, and others that fill whole words");
        }
    }

    private static void checkSingle(StoredTensor p) {
        if (p.entry().shape().elements() != 1) {
            throw p.bad("has " + p.entry().shape().elements() + " elements, expected one for the whole tensor");
        }
    }

    private StoredTensor need(Map<String, StoredTensor> parts, String part) {
        StoredTensor p = parts.get(part);
        if (p == null) {
            throw parts.values().iterator().next().bad("belongs to '" + module + "', which has no '" + part + "'");
        }
        return p;
    }

    /** All tensors that it is made of. */
    List<Entry> entries() {
        List<Entry> all = new ArrayList<>();
        for (StoredTensor p : new StoredTensor[] {codes, scales, zeros, shape}) {
            if (p != null) {
                all.add(p.entry());
            }
        }
        return all;
    }

    /** What the weight is called where it is not compressed. */
    String name() {
        return module.isEmpty() ? "weight" : module + ".weight";
    }

    /** What the weight was before: the scales' type. */
    DType dtype() {
        return scales.entry().dtype();
    }

    Shape shape() {
        return Shape.of(rows, cols);
    }

    private long groups() {
        return cols / group;
    }

    /** True if the kernels know groups of this size within a row. */
    private boolean blocks() {
        return group == cols || group % 16 == 0 && group <= 256;
    }

    /** Rows that share words of zero points. */
    long granule() {
        return zeros != null && scheme.packed() ? scheme.fields() : 1;
    }

    /** Where rows {@code [first, first + n)} of a part lie in its file: start and length. */
    long[] range(StoredTensor p, long first, long n) {
        long bytes = p.entry().length();
        if (p != codes && scheme.strategy() == Scheme.Strategy.TENSOR) {
            return new long[] {p.entry().start(), bytes};
        }
        long lines = p.entry().shape().dim(0);
        boolean down = p == zeros && scheme.packed();
        long begin = down ? scheme.words(first) : first;
        long end = down ? scheme.words(first + n) : first + n;
        long line = lines == 0 ? 0 : bytes / lines;
        return new long[] {p.entry().start() + begin * line, (end - begin) * line};
    }

    /** Working memory for {@code n} rows: f32 values, scales and zero points. */
    long scratch(long n) {
        return align(DType.F32.bytes(n * cols)) + align(DType.F32.bytes(n * groups())) + align(n * groups());
    }

    private static long align(long bytes) {
        return (bytes + 63) / 64 * 64;
    }

    private MemorySegment values(long n, MemorySegment scratch) {
        return scratch.asSlice(0, DType.F32.bytes(n * cols));
    }

    private MemorySegment wideScales(long n, MemorySegment scratch) {
        return scratch.asSlice(align(DType.F32.bytes(n * cols)), DType.F32.bytes(n * groups()));
    }

    private MemorySegment middles(long n, MemorySegment scratch) {
        return scratch.asSlice(align(DType.F32.bytes(n * cols)) + align(DType.F32.bytes(n * groups())), n * groups());
    }

    /** Takes the scales of {@code n} rows, that is their {@link #range}, into {@code scratch}. */
    void takeScales(long n, MemorySegment bytes, MemorySegment scratch, Executor executor) {
        MemorySegment wide = wideScales(n, scratch);
        if (scheme.strategy() == Scheme.Strategy.TENSOR) {
            float one = Quantize.element(new Tensor(dtype(), Shape.of(1), bytes), 0);
            for (long i = 0; i < n; i++) {
                wide.setAtIndex(ValueLayout.JAVA_FLOAT, i, one);
            }
        } else {
            Quantize.convert(dtype(), bytes, n * groups(), DType.F32, wide, executor);
        }
    }

    /** Takes the zero points of {@code n} rows, if there are any: to one byte each, signed or not as the codes are. */
    void takeZeros(long n, MemorySegment bytes, MemorySegment scratch) {
        MemorySegment to = middles(n, scratch);
        int bits = scheme.bits();
        if (scheme.strategy() == Scheme.Strategy.TENSOR) {
            // Never packed, hence signed.
            to.fill((byte) (bytes.get(ValueLayout.JAVA_BYTE, 0) + (scheme.packed() ? 1 << bits - 1 : 0)));
            return;
        }
        if (!scheme.packed()) {
            MemorySegment.copy(bytes, 0, to, 0, to.byteSize());
            return;
        }
        long groups = groups();
        int fields = scheme.fields();
        for (long r = 0; r < n; r++) {
            long line = r / fields * groups;
            int shift = (int) (r % fields) * bits;
            for (long g = 0; g < groups; g++) {
                int word = bytes.getAtIndex(ValueLayout.JAVA_INT_UNALIGNED, line + g);
                to.set(ValueLayout.JAVA_BYTE, r * groups + g, (byte) (word >>> shift & (1 << bits) - 1));
            }
        }
    }

    /**
     * Decodes {@code n} rows: (code - zero point) * scale in f32, rounded once to {@link #dtype}.
     *
     * @param bytes the {@link #range} of their codes
     * @param scratch {@link #scratch} bytes, 64-byte aligned, with their scales and zero points
     * @param out {@code dtype().bytes(n * cols)} bytes
     */
    void decode(long n, MemorySegment bytes, MemorySegment scratch, MemorySegment out, Executor executor) {
        MemorySegment values = values(n, scratch);
        DType type = !scheme.packed() ? DType.I8 : scheme.bits() == 4 ? DType.U4 : DType.U8;
        // Groups that the kernels do not know within a row are rows of their own.
        Quantize.Spec spec = blocks() ? spec(n, cols, stride, group, type) : spec(n * groups(), group, group, group, type);
        Quantize.dequantize(spec, bytes, wideScales(n, scratch), zeros == null ? MemorySegment.NULL : middles(n, scratch), values,
                executor);
        Quantize.convert(DType.F32, values, n * cols, dtype(), out, executor);
    }

    private static Quantize.Spec spec(long rows, long cols, long stride, long group, DType type) {
        return new Quantize.Spec(rows, cols, cols, stride, 1, group, DType.F32, type, DType.F32, type.signed() ? -128 : 0,
                type.signed() ? 127 : (1 << type.bits()) - 1, Quantize.Range.GIVEN, Quantize.Rounding.DIVIDE, false, false, 1, 1);
    }
}
