package dev.tensorpress.benchmarks;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.kernel.Quantize.Range;
import dev.tensorpress.kernel.Quantize.Spec;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Quantization of a matrix, scales included; and, as subclasses, what else is done with codes. */
class QuantizeWork implements Work {
    final Arena arena = Arena.ofShared();
    final Matrix in;
    final Spec spec;
    final Executor executor;
    final MemorySegment codes;
    final MemorySegment scales;
    final MemorySegment zeros;
    final Plain plain;
    private final long groups;

    QuantizeWork(Matrix in, Spec spec, Executor executor) {
        this.in = in;
        this.spec = spec;
        this.executor = executor;
        groups = Math.ceilDiv(spec.rows(), spec.groupRows()) * Math.ceilDiv(spec.cols(), spec.groupCols());
        codes = arena.allocate(spec.out().bytes((spec.transposed() ? spec.cols() : spec.rows()) * spec.outStride()), 64);
        scales = arena.allocate(4 * groups, 64);
        zeros = spec.range() == Range.MINMAX ? arena.allocate(groups, 64) : MemorySegment.NULL;
        plain = new Plain(spec, codes, scales, zeros);
    }

    final void quantize(Spec spec) {
        Quantize.quantize(spec, in.data, codes, scales, zeros, executor);
    }

    final long inBytes() {
        return in.type.bytes(spec.rows() * spec.cols());
    }

    final long quantizedBytes() {
        return codes.byteSize() + scales.byteSize() + zeros.byteSize();
    }

    @Override
    public void run() {
        quantize(spec);
    }

    @Override
    public void check() {
        plain.checkQuantized(in.data);
    }

    @Override
    public long bytes() {
        return inBytes() + quantizedBytes();
    }

    @Override
    public void close() {
        arena.close();
    }

    /** Quantization with scales that are known already. */
    static final class Given extends QuantizeWork {
        private final Spec given;

        Given(Matrix in, Spec spec, Executor executor) {
            super(in, spec, executor);
            given = spec.range(Range.GIVEN);
            quantize(spec);
            codes.fill((byte) 0);
        }

        @Override
        public void run() {
            quantize(given);
        }
    }

    /** Codes back to f32. */
    static final class Dequantize extends QuantizeWork {
        private final MemorySegment out = arena.allocate(DType.F32.bytes(spec.rows() * spec.cols()), 64);

        Dequantize(Matrix in, Spec spec, Executor executor) {
            super(in, spec, executor);
            quantize(spec);
        }

        @Override
        public void run() {
            Quantize.dequantize(spec, codes, scales, zeros, out, executor);
        }

        @Override
        public void check() {
            plain.checkDequantized(out);
        }

        @Override
        public long bytes() {
            return quantizedBytes() + out.byteSize();
        }
    }

    /** Error of codes against the matrix they came from; it only reads. */
    static final class Error extends QuantizeWork {
        private final MemorySegment lines = arena.allocate(Quantize.errorBytes(spec), 64);
        private Quantize.Error last;

        Error(Matrix in, Spec spec, Executor executor) {
            super(in, spec, executor);
            quantize(spec);
        }

        @Override
        public void run() {
            last = Quantize.error(spec, in.data, codes, scales, zeros, lines, executor);
        }

        @Override
        public void check() {
            plain.checkError(in.data, last);
        }
    }
}
