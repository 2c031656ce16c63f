package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.Rope.Array;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.zip.CRC32C;

/** Streams pieces of a file into a channel. Of the encodings only the current one is in memory. */
final class Output {
    private static final int BUFFER = 1 << 16;
    /** Shorter pieces of the old file are gathered in the buffer, longer ones are copied by the system. */
    private static final int SHORT = 1 << 14;
    private static final long STEP = 8 << 20;
    /** Sums of a convolution are in i32 like its bias. */
    private static final int LARGEST_BIAS = 1 << 30;

    /** Where bytes go: to one of these two, the other is null. */
    private final FileChannel to;
    private final StreamFile stream;
    /** Of the channel: what a stream takes it tells itself. */
    private final Path file;
    private final Phases phases;
    private final Target.Encoder encoder;
    private final ByteBuffer buffer = ByteBuffer.allocateDirect(BUFFER);
    /** Of what a stream takes; what the system copies to a channel would have to be read for it. */
    private final CRC32C checksum = new CRC32C();
    private Job current;
    /** Of the weight that {@link #current} is or is part of, and of it. */
    private Encoding whole;
    private Encoding encoding;

    /** @param file that the channel is of in the end */
    Output(FileChannel to, Path file, Phases phases, Target.Encoder encoder) {
        this(to, null, file, phases, encoder);
    }

    /** With a checksum. */
    Output(StreamFile to, Target.Encoder encoder) {
        this(null, to, null, null, encoder);
    }

    private Output(FileChannel to, StreamFile stream, Path file, Phases phases, Target.Encoder encoder) {
        this.to = to;
        this.stream = stream;
        this.file = file;
        this.phases = phases;
        this.encoder = encoder;
    }

    long checksum() {
        return checksum.getValue();
    }

    void rope(Rope rope, OnnxModel model) throws IOException {
        for (Rope.Section p : rope.sections()) {
            if (p instanceof Rope.Slice s) {
                if (s.length() <= SHORT) {
                    segment(model.wire().slice(s.offset(), s.length()));
                } else {
                    copy(model.channel(), s.offset(), s.length());
                }
            } else if (p instanceof Rope.Bytes b) {
                segment(MemorySegment.ofArray(b.bytes()));
            } else if (p instanceof Rope.Memory m) {
                segment(m.data());
            } else {
                payload((Rope.Payload) p);
            }
        }
        flush();
    }

    /** Bytes of another file. */
    void copy(FileChannel from, long offset, long length) throws IOException {
        flush();
        Phases.Span span = phases.begin(Phases.Phase.WRITE);
        for (long done = 0; done < length;) {
            long n = from.transferTo(offset + done, length - done, to);
            if (n <= 0) {
                throw new IOException("the input became shorter while it was read");
            }
            done += n;
        }
        span.end(file, length);
    }

    /** Zeros up to a position. */
    void pad(long from, long until) throws IOException {
        for (long at = from; at < until; at++) {
            put((byte) 0);
        }
    }

    /** Tells the encoder what it is asked for of weights that are {@link OnnxTarget#replaced}. */
    static void announce(List<?> sections, Target.Encoder encoder) {
        for (Object section : sections) {
            if (section instanceof Rope.Payload p && p.array() == Array.ELEMENTS) {
                for (Rows rows : rows(p, encoder)) {
                    encoder.announce(p.job().info.weight, rows.first, rows.shape);
                }
            }
        }
    }

    /** Rows of a weight. */
    private record Rows(long first, Shape shape) {}

    /** What is encoded at once: all, unless these are the elements of a large weight, and nothing but elements. By its shape alone. */
    private static List<Rows> rows(Rope.Payload p, Target.Encoder encoder) {
        Weight weight = p.job().info.weight;
        Shape shape = weight.tensor().shape();
        if (!p.job().asked.dense() || p.length() <= Buffers.CHUNK || !encoder.byRows(weight, p.job().asked)) {
            return List.of(new Rows(0, shape));
        }
        List<Rows> all = new ArrayList<>();
        long step = Math.max(1, Buffers.CHUNK / (p.length() / shape.dim(0)));
        for (long first = 0; first < shape.dim(0); first += step) {
            long[] dims = shape.dims();
            dims[0] = Math.min(step, shape.dim(0) - first);
            all.add(new Rows(first, Shape.of(dims)));
        }
        return all;
    }

    /** Encodes a weight some rows at a time, of which none is kept. */
    private void byRows(Rope.Payload p, List<Rows> all) throws IOException {
        Weight weight = p.job().info.weight;
        Tensor whole = weight.tensor();
        long row = whole.bytes() / whole.shape().dim(0);
        for (Rows rows : all) {
            long bytes = whole.dtype().bytes(rows.shape.elements());
            Encoding e = encoder.encode(weight, p.job().asked, new Tensor(whole.dtype(), rows.shape, whole.data().asSlice(rows.first * row, bytes)), rows.first);
            Tensor made = ((Encoding.Dense) e).tensor();
            if (!e.form().equals(p.job().asked) || made.bytes() != bytes) {
                throw wrong(p);
            }
            segment(made.data());
        }
    }

    private static IllegalStateException wrong(Rope.Payload p) {
        return new IllegalStateException("the encoding of '" + p.job().info.weight.name() + "' is not what was asked for: " + p.job().asked.describe());
    }

    void payload(Rope.Payload p) throws IOException {
        if (p.array() == Array.ELEMENTS) {
            List<Rows> rows = rows(p, encoder);
            if (rows.size() > 1) {
                byRows(p, rows);
                return;
            }
        }
        if (current != p.job()) {
            Weight weight = p.job().info.weight;
            if (current == null || current.info.weight != weight) {
                whole = null;
                encoding = null;
                Form asked = p.job().asked;
                Encoding e = encoder.encode(weight, asked);
                if (!e.form().equals(asked) || !e.shape().equals(weight.tensor().shape())) {
                    throw wrong(p);
                }
                whole = e;
            }
            current = p.job();
            encoding = current.part == Job.WHOLE ? whole.values() : whole.parts().get(current.part);
        }
        part(p);
    }

    private void part(Rope.Payload p) throws IOException {
        if (encoding.form().dense()) {
            dense(p, ((Encoding.Dense) encoding).tensor());
            return;
        }
        if (current.asked.codebook() != null) {
            Encoding.Codebook c = (Encoding.Codebook) encoding;
            if (p.array() == Array.TABLES) {
                exactly(p, c.tables());
            } else if (c.form().packed()) {
                fours(c.codes());
            } else {
                exactly(p, c.codes());
            }
            return;
        }
        Encoding.Quantized q = (Encoding.Quantized) encoding;
        if (p.array() == Array.CODES && current.tail != null) {
            for (int j = 0; j < current.tail.scale().length; j++) {
                segment(MemorySegment.ofArray(codes(q, j)));
            }
        } else if (p.array() == Array.CODES) {
            exactly(p, q.codes());
        } else if (p.array() == Array.OUTPUT_SCALES || p.array() == Array.BIASES) {
            outputs(p, q);
        } else if (p.array() == Array.SCALES) {
            exactly(p, q.scales());
        } else if (p.array() == Array.ZEROS) {
            exactly(p, q.zeros());
        } else {
            packedZeros(p.array(), q.zeros().data());
        }
    }

    /**
     * By what codes of a convolution's output are multiplied: turned round if what stands behind the convolution does so, and less than 1
     * if its bias would else be too large for its type.
     */
    private double factor(Encoding.Quantized q, int output) {
        double scale = current.tail.scale()[output];
        return Math.signum(scale) * Math.min(1, own(q, output) * Math.abs(scale) / leastScale(output));
    }

    private float own(Encoding.Quantized q, int output) {
        return q.scales().data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * (current.form.axis() < 0 ? 0 : output));
    }

    /** With which the bias of an output is within half of the numbers that there are, which leaves the other half to sums. */
    private double leastScale(int output) {
        return Math.abs(current.tail.shift()[output]) / (current.form.fixed().orElseThrow().input().scale() * (double) LARGEST_BIAS);
    }

    private float scale(Encoding.Quantized q, int output) {
        return (float) Math.max(own(q, output) * Math.abs(current.tail.scale()[output]), leastScale(output));
    }

    /** Codes of a convolution, a byte each. The lowest one has none of the other sign, and becomes the highest. */
    private byte[] codes(Encoding.Quantized q, int output) {
        MemorySegment all = q.codes().data();
        long row = all.byteSize() / current.tail.scale().length;
        byte[] codes = all.asSlice(output * row, row).toArray(ValueLayout.JAVA_BYTE);
        double factor = factor(q, output);
        int middle = current.form.middle();
        for (int i = 0; factor != 1 && i < codes.length; i++) {
            int code = middle == 0 ? codes[i] : (codes[i] & 0xff) - middle;
            codes[i] = (byte) Math.min(middle + Math.rint(code * factor), current.form.qmax());
        }
        return codes;
    }

    /** Scales of the outputs of a convolution, or biases in steps of them times that of the input. */
    private void outputs(Rope.Payload p, Encoding.Quantized q) throws IOException {
        Form.Fixed fixed = current.form.fixed().orElseThrow();
        float[] means = new float[fixed.means().size()];
        for (int i = 0; i < means.length; i++) {
            means[i] = fixed.means().get(i);
        }
        ByteBuffer all = ByteBuffer.allocate(Math.toIntExact(p.length())).order(ByteOrder.LITTLE_ENDIAN);
        for (int j = 0; j < current.tail.scale().length; j++) {
            float scale = scale(q, j);
            if (p.array() == Array.BIASES) {
                double bias = current.tail.shift()[j] + meanLost(q, j, means);
                all.putInt(Math.toIntExact(Math.round(bias / ((double) fixed.input().scale() * scale))));
            } else {
                all.putFloat(scale);
            }
        }
        segment(MemorySegment.ofArray(all.array()));
    }

    /** What a convolution's output lacks on average since its weight is rounded; padding is left out of account. */
    private double meanLost(Encoding.Quantized q, int output, float[] means) {
        Shape shape = current.shape;
        int inputs = Math.toIntExact(shape.dim(1));
        int row = Math.toIntExact(shape.elements() / shape.dim(0));
        int groups = means.length / inputs;
        int first = groups < 2 ? 0 : inputs * (int) (output / (shape.dim(0) / groups));
        float[] exact = current.info.weight.tensor().data().asSlice(4L * output * row, 4L * row).toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
        byte[] codes = codes(q, output);
        int middle = current.form.middle();
        float scale = scale(q, output);
        double whole = current.tail.scale()[output];
        int positions = row / inputs;
        double sum = 0;
        for (int i = 0; i < row; i++) {
            int code = middle == 0 ? codes[i] : (codes[i] & 0xff) - middle;
            sum += (exact[i] * whole - code * scale) * means[first + i / positions];
        }
        return sum;
    }

    private void dense(Rope.Payload p, Tensor t) throws IOException {
        if (p.array() == Array.ELEMENTS) {
            exactly(p, t);
            return;
        }
        long[] room = {p.length()};
        Coordinates.write(t.data(), t.dtype().bits() / 8, p.array() == Array.INDICES, bytes -> {
            room[0] -= bytes.remaining();
            if (room[0] < 0) {
                throw wrongCount(p);
            }
            segment(MemorySegment.ofBuffer(bytes));
        });
        if (room[0] > 0) {
            throw wrongCount(p);
        }
    }

    private IllegalStateException wrongCount(Rope.Payload p) {
        return new IllegalStateException("the encoding of '" + p.job().info.weight.name() + "' does not have the "
                + ((Form.Sparse) p.job().asked).nnz() + " elements that are not zero which its form says");
    }

    private void exactly(Rope.Payload p, Tensor t) throws IOException {
        if (t.bytes() != p.length()) {
            throw new IllegalStateException("the encoding of '" + current.info.weight.name() + "' has " + t.bytes()
                    + " bytes where " + p.length() + " belong");
        }
        segment(t.data());
    }

    /** An even number of codes of four bits, the first in the lower half of a byte. */
    private void fours(Tensor codes) throws IOException {
        MemorySegment data = codes.data();
        for (long i = 0; i < data.byteSize(); i += 2) {
            put((byte) (data.get(ValueLayout.JAVA_BYTE, i) | data.get(ValueLayout.JAVA_BYTE, i + 1) << 4));
        }
    }

    /** Zero points in fours; a byte that two rows would share is not shared if rows are kept apart. */
    private void packedZeros(Array part, MemorySegment given) throws IOException {
        Form.Quantized f = current.form;
        Form.Grid grid = f.grid(current.shape);
        long groups = grid.groups();
        long row = part == Array.ZEROS_PACKED ? groups : f.transposed() ? grid.groupsDown() : grid.groupsAcross();
        for (long from = 0; from < groups; from += row) {
            for (long i = 0; i < row; i += 2) {
                int low = given.get(ValueLayout.JAVA_BYTE, from + i) & 15;
                int high = i + 1 < row ? given.get(ValueLayout.JAVA_BYTE, from + i + 1) & 15 : 0;
                put((byte) (low | high << 4));
            }
        }
    }

    private void put(byte b) throws IOException {
        if (!buffer.hasRemaining()) {
            flush();
        }
        buffer.put(b);
    }

    void segment(MemorySegment s) throws IOException {
        long n = s.byteSize();
        if (n <= SHORT) {
            if (buffer.remaining() < n) {
                flush();
            }
            MemorySegment.copy(s, 0, MemorySegment.ofBuffer(buffer), 0, n);
            buffer.position(buffer.position() + (int) n);
            return;
        }
        flush();
        for (long at = 0; at < n; at += STEP) {
            write(s.asSlice(at, Math.min(STEP, n - at)).asByteBuffer());
        }
    }

    void flush() throws IOException {
        buffer.flip();
        write(buffer);
        buffer.clear();
    }

    private void write(ByteBuffer b) throws IOException {
        if (stream != null) {
            checksum.update(b.duplicate());
            stream.write(MemorySegment.ofBuffer(b));
            return;
        }
        if (!b.hasRemaining()) {
            return;
        }
        long bytes = b.remaining();
        Phases.Span span = phases.begin(Phases.Phase.WRITE);
        while (b.hasRemaining()) {
            to.write(b);
        }
        span.end(file, bytes);
    }
}
