package dev.tensorpress.encoding;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Gemm;
import dev.tensorpress.kernel.Hashing;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.kernel.Transform;
import dev.tensorpress.kernel.Tucker;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;

/** What a compressed weight is. Encodings nest, so that methods compose. */
public sealed interface Encoding {
    /** Shape of the weight that it stands for. */
    Shape shape();

    /** The form that this encoding fills. */
    Form form();

    /** That of its form. */
    default Form.Kind kind() {
        return form().kind();
    }

    /** What the elements of a pruned weight are; of others the encoding itself. */
    default Encoding values() {
        return switch (kind()) {
            case SPARSE -> ((Sparse) this).values();
            case DENSE, QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> this;
        };
    }

    /** The factors whose product the weight is, or is corrected by; null if there are none. */
    default LowRank factors() {
        return switch (kind()) {
            case LOW_RANK -> (LowRank) this;
            case SUM -> ((Sum) this).correction();
            case DENSE, QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SPARSE, CHAIN -> null;
        };
    }

    /** The encodings that a weight is made of: factors, or a base and factors, or a chain's; empty if it is one. */
    default List<Encoding> parts() {
        return switch (kind()) {
            case LOW_RANK -> List.of(factors().left(), factors().right());
            case CHAIN -> ((Chain) this).parts();
            case SUM -> List.of(((Sum) this).base(), factors().left(), factors().right());
            case DENSE, QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SPARSE -> List.of();
        };
    }

    /** The same in memory of its own. */
    Encoding copy(Arena arena);

    /** Floats widened to f32, which is exact, and aligned; a copy in the arena unless they are so already. */
    private static MemorySegment wide(Tensor tensor, Arena arena) {
        if (tensor.dtype() == DType.F32 && tensor.data().address() % 4 == 0) {
            return tensor.data();
        }
        long n = tensor.shape().elements();
        MemorySegment wide = arena.allocate(DType.F32.bytes(n), 64);
        Quantize.convert(tensor.dtype(), tensor.data(), n, DType.F32, wide);
        return wide;
    }

    private static Tensor copy(Tensor tensor, Arena arena) {
        return new Tensor(tensor.dtype(), tensor.shape(), arena.allocate(tensor.data().byteSize(), 64).copyFrom(tensor.data()));
    }

    /**
     * The values that a runtime will compute with.
     *
     * @param out f32, as many elements as {@link #shape} has, row-major
     */
    void decode(MemorySegment out, Executor executor);

    /**
     * Elements each on its own.
     *
     * @param of what they were decoded from; empty if they were not
     */
    record Dense(Tensor tensor, Optional<Encoding> of) implements Encoding {
        /** Of elements that were not decoded. */
        public Dense(Tensor tensor) {
            this(tensor, Optional.empty());
        }

        /**
         * Of elements decoded to the type of a weight.
         *
         * @param out at least as many bytes as the elements take, aligned to 4
         * @param floats the same in f32; {@code out} itself if that is the type
         */
        public static Dense decoded(Encoding encoding, DType type, MemorySegment out, MemorySegment floats, Executor executor) {
            encoding.decode(floats, executor);
            if (type != DType.F32) {
                Quantize.convert(DType.F32, floats, encoding.shape().elements(), type, out, executor);
            }
            return new Dense(new Tensor(type, encoding.shape(), out), Optional.of(encoding));
        }

        @Override
        public Shape shape() {
            return tensor.shape();
        }

        @Override
        public Form form() {
            return new Form.Dense(tensor.dtype(), of.map(Encoding::form));
        }

        @Override
        public Dense copy(Arena arena) {
            return new Dense(Encoding.copy(tensor, arena), of.map(encoding -> encoding.copy(arena)));
        }

        /** @throws IllegalArgumentException if the tensor is not f32, f16 or bf16 */
        @Override
        public void decode(MemorySegment out, Executor executor) {
            Quantize.convert(tensor.dtype(), tensor.data(), tensor.shape().elements(), DType.F32, out, executor);
        }
    }

    /**
     * Integer codes with a scale, and where asymmetric a zero point, per group.
     *
     * @param form one whose codes are {@link Affine#plain}
     * @param shape of the weight, not of the codes
     * @param codes {@code form.codeBytes(shape)} bytes: lines of {@code form.lineLength(shape)} codes, the lines being
     *     rows of the weight's matrix, or its columns if the form is transposed; 4-bit codes packed low nibble first
     * @param scales one per group in {@code form.scaleType()}; [groups down, groups across] of the grid, or
     *     [columns, groups down] if transposed
     * @param zeros one byte per group in the order of the scales, U8 or I8 as the codes are, never packed; null if symmetric
     */
    record Quantized(Form.Quantized form, Shape shape, Tensor codes, Tensor scales, Tensor zeros) implements Encoding {
        public Quantized {
            if (form.symmetric() != (zeros == null)) {
                throw new IllegalArgumentException("zero points are for asymmetric codes, and only for them");
            }
            if (!form.affine().plain() || codes.dtype() != form.type() || scales.dtype() != form.scaleType()
                    || codes.bytes() != form.codeBytes(shape)
                    || scales.shape().elements() != form.grid(shape).groups()) {
                throw new IllegalArgumentException("codes or scales do not fit " + form + " of " + shape);
            }
            if (zeros != null && (zeros.dtype() != (form.type().signed() ? DType.I8 : DType.U8)
                    || zeros.shape().elements() != form.grid(shape).groups())) {
                throw new IllegalArgumentException("zero points do not fit " + form + " of " + shape);
            }
        }

        /**
         * Makes the codes those of other elements, with scales and zero points as they are: each the nearest.
         *
         * @param elements f32, row-major
         */
        public void round(MemorySegment elements, Executor executor) {
            try (Arena own = executor.arena()) {
                Quantize.quantize(form.spec(DType.F32, shape).range(Quantize.Range.GIVEN), elements, codes.data(), scalesAsF32(own),
                        zeros == null ? MemorySegment.NULL : zeros.data(), executor);
            }
        }

        /**
         * Codes that are known, as the form stores them.
         *
         * @param units what each element is in units of its scale, row-major: whole numbers, within the codes of the form once the zero point is added
         * @param scales in the order of an encoding's; rounded to the form's type
         * @param zeros as in an encoding, which they are part of; null if symmetric
         * @param arena for codes and scales
         * @throws IllegalArgumentException if a scale is not positive and finite, once it is rounded
         */
        public static Quantized of(Form.Quantized form, Shape shape, float[] units, float[] scales, Tensor zeros, Arena arena, Executor executor) {
            MemorySegment stored = arena.allocate(form.scaleType().bytes(scales.length), 64);
            MemorySegment codes = arena.allocate(form.codeBytes(shape), 64);
            try (Arena own = executor.arena()) {
                MemorySegment wide = own.allocate(DType.F32.bytes(scales.length), 64).copyFrom(MemorySegment.ofArray(scales));
                Quantize.convert(DType.F32, wide, scales.length, form.scaleType(), stored);
                Quantize.convert(form.scaleType(), stored, scales.length, DType.F32, wide);
                float[] rounded = wide.toArray(ValueLayout.JAVA_FLOAT);
                for (int i = 0; i < rounded.length; i++) {
                    if (!(rounded[i] > 0 && rounded[i] < Float.POSITIVE_INFINITY)) {
                        throw new IllegalArgumentException("scale " + i + " is " + scales[i] + ", as " + form.scaleType() + " " + rounded[i]);
                    }
                    rounded[i] = 1;
                }
                MemorySegment in = own.allocate(DType.F32.bytes(units.length), 64).copyFrom(MemorySegment.ofArray(units));
                Quantize.quantize(form.spec(DType.F32, shape).range(Quantize.Range.GIVEN), in, codes, wide.copyFrom(MemorySegment.ofArray(rounded)),
                        zeros == null ? MemorySegment.NULL : zeros.data(), executor);
            }
            return new Quantized(form, shape, new Tensor(form.type(), form.codes(shape), codes),
                    new Tensor(form.scaleType(), Shape.of(scales.length), stored), zeros);
        }

        @Override
        public void decode(MemorySegment out, Executor executor) {
            try (Arena arena = executor.arena()) {
                Quantize.dequantize(form.spec(DType.F32, shape), codes.data(), scalesAsF32(arena),
                        zeros == null ? MemorySegment.NULL : zeros.data(), out, executor);
            }
        }

        @Override
        public Quantized copy(Arena arena) {
            return new Quantized(form, shape, Encoding.copy(codes, arena), Encoding.copy(scales, arena),
                    zeros == null ? null : Encoding.copy(zeros, arena));
        }

        /** The scales widened to f32, which is exact, and aligned; a copy in {@code arena} unless they are so already. */
        public MemorySegment scalesAsF32(Arena arena) {
            return wide(scales, arena);
        }
    }

    /**
     * Codes into tables.
     *
     * @param shape of the weight
     * @param codes U8, or U16 of more than eight bits, not packed: [rows, columns / dimension] of the form's matrix
     * @param tables {@code form.table()} [groups, entries, dimension]; numbers ascend, but for entry 0 if it is reserved
     */
    record Codebook(Form.Codebook form, Shape shape, Tensor codes, Tensor tables) implements Encoding {
        public Codebook {
            dev.tensorpress.kernel.Codebook.Spec spec = form.spec(shape);
            if (codes.dtype() != spec.codeType() || codes.shape().elements() != spec.codes() || tables.dtype() != form.table()
                    || tables.bytes() != form.tableBytes(shape)) {
                throw new IllegalArgumentException("codes or tables do not fit " + form + " of " + shape);
            }
        }

        @Override
        public void decode(MemorySegment out, Executor executor) {
            try (Arena arena = executor.arena()) {
                dev.tensorpress.kernel.Codebook.decode(form.spec(shape), codes.data(), wide(tables, arena), out, executor);
            }
        }

        @Override
        public Codebook copy(Arena arena) {
            return new Codebook(form, shape, Encoding.copy(codes, arena), Encoding.copy(tables, arena));
        }
    }

    /**
     * Codes of coefficients.
     *
     * @param shape of the weight
     * @param codes {@code form.type()}, one for each element, as the form's matrix lies
     * @param steps f32, positive and finite, {@code form.groups(shape)} elements
     * @param offset f32, one element, -0.5 to 0.5: a code that is not 0 stands for its sign times |code| + offset steps
     */
    record Transformed(Form.Transformed form, Shape shape, Tensor codes, Tensor steps, Tensor offset) implements Encoding {
        public Transformed {
            if (codes.dtype() != form.type() || codes.shape().elements() != shape.elements() || steps.dtype() != DType.F32
                    || steps.shape().elements() != form.groups(shape) || offset.dtype() != DType.F32 || offset.shape().elements() != 1) {
                throw new IllegalArgumentException("codes, steps or offset do not fit " + form + " of " + shape);
            }
        }

        @Override
        public void decode(MemorySegment out, Executor executor) {
            Shape matrix = form.matrix(shape);
            long n = shape.elements();
            // The zone and the limit do not matter to what codes stand for.
            Transform.Zone zone = new Transform.Zone(0.5f, offset.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 0), 1);
            Transform.Steps by = form.steps(shape, steps.data());
            try (Arena arena = executor.arena()) {
                MemorySegment wide = out; // until it is needed for what comes last
                MemorySegment other = arena.allocate(DType.I32.bytes(n), 64);
                Transform.widen(form.type(), n, codes.data(), wide, executor);
                switch (form.basis()) {
                    case DCT -> {
                        Transform.decode(zone, by, n, wide, other, executor);
                        Transform.dct(matrix.dim(0), matrix.dim(1), form.block(), form.dimensions(), true, other, out, executor);
                    }
                    case HAAR, CDF97 -> {
                        Transform.decode(zone, by, n, wide, other, executor);
                        Transform.wavelet(form.basis() == Form.Basis.HAAR ? Transform.Wavelet.HAAR : Transform.Wavelet.CDF97, matrix.dim(0), matrix.dim(1),
                                form.dimensions(), form.levels(), true, other, out, executor);
                    }
                    case CDF53 -> {
                        Transform.wavelet(Transform.Wavelet.CDF53, matrix.dim(0), matrix.dim(1), form.dimensions(), form.levels(), true, wide, other,
                                executor);
                        Transform.decode(zone, by, n, other, out, executor);
                    }
                }
            }
        }

        @Override
        public Transformed copy(Arena arena) {
            return new Transformed(form, shape, Encoding.copy(codes, arena), Encoding.copy(steps, arena), Encoding.copy(offset, arena));
        }
    }

    /**
     * Values that elements share.
     *
     * @param shape of the weight
     * @param shared {@code form.type()}, as many values as the form has
     */
    record Hashed(Form.Hashed form, Shape shape, Tensor shared) implements Encoding {
        public Hashed {
            if (shared.dtype() != form.type() || shared.shape().elements() != form.buckets()) {
                throw new IllegalArgumentException("values do not fit " + form + " of " + shape);
            }
        }

        @Override
        public void decode(MemorySegment out, Executor executor) {
            try (Arena arena = executor.arena()) {
                Hashing.decode(form.spec(shape), wide(shared, arena), out, executor);
            }
        }

        @Override
        public Hashed copy(Arena arena) {
            return new Hashed(form, shape, Encoding.copy(shared, arena));
        }
    }

    /**
     * A pruned weight, its zeros in place. {@code form.storage()} says how a file is to keep them.
     *
     * @param values dense with zeros, or codes that decode to 0 there
     */
    record Sparse(Form.Sparse form, Encoding values) implements Encoding {
        public Sparse {
            if (!form.values().equals(values.form())) {
                throw new IllegalArgumentException(values.form() + " is not what " + form + " holds");
            }
        }

        @Override
        public Shape shape() {
            return values.shape();
        }

        @Override
        public Sparse copy(Arena arena) {
            return new Sparse(form, values.copy(arena));
        }

        @Override
        public void decode(MemorySegment out, Executor executor) {
            values.decode(out, executor);
        }
    }

    /**
     * Two factors, each encoded as any matrix; {@link Form.LowRank} says how they lie.
     *
     * @param certificate how good the decomposition is that the factors came from, before they were rounded; null if that
     *     is not known
     */
    record LowRank(Form.LowRank form, Shape shape, Encoding left, Encoding right, Svd.Certificate certificate)
            implements Encoding {
        public LowRank {
            if (!left.form().equals(form.left()) || !right.form().equals(form.right())
                    || !left.shape().equals(form.left(shape)) || !right.shape().equals(form.right(shape))) {
                throw new IllegalArgumentException("factors do not fit " + form + " of " + shape);
            }
        }

        public LowRank(Form.LowRank form, Shape shape, Encoding left, Encoding right) {
            this(form, shape, left, right, null);
        }

        @Override
        public LowRank copy(Arena arena) {
            return new LowRank(form, shape, left.copy(arena), right.copy(arena), certificate);
        }

        @Override
        public void decode(MemorySegment out, Executor executor) {
            multiply(out, false, executor);
        }

        /** The product in f32, in the place of {@code out} or added to it. */
        void multiply(MemorySegment out, boolean add, Executor executor) {
            long rows = left.shape().dim(0);
            long cols = right.shape().dim(1);
            long rank = form.rank();
            boolean turned = form.transposed();
            Gemm.Spec spec = turned ? Gemm.Spec.of(DType.F32, Gemm.Form.ABT, cols, rows, rank)
                    : Gemm.Spec.of(DType.F32, Gemm.Form.AB, rows, cols, rank);
            try (Arena arena = executor.arena(); Gemm product = new Gemm(add ? spec.accumulating() : spec, executor)) {
                MemorySegment l = arena.allocate(DType.F32.bytes(rows * rank), 64);
                MemorySegment r = arena.allocate(DType.F32.bytes(rank * cols), 64);
                left.decode(l, executor);
                right.decode(r, executor);
                if (turned) {
                    // The transposed product is that of the transposed factors in turn: R^T L^T.
                    product.pack(l).multiply(transpose(arena, r, rank, cols), out);
                } else {
                    product.pack(r).multiply(l, out);
                }
            }
        }

        private static MemorySegment transpose(Arena arena, MemorySegment in, long rows, long cols) {
            MemorySegment out = arena.allocate(in.byteSize(), 64);
            for (long i = 0; i < rows; i++) {
                for (long j = 0; j < cols; j++) {
                    out.setAtIndex(ValueLayout.JAVA_FLOAT, j * rows + i, in.getAtIndex(ValueLayout.JAVA_FLOAT, i * cols + j));
                }
            }
            return out;
        }
    }

    /**
     * Kernels of convolutions that follow each other, each encoded as any kernel; {@link Form.Chain} says how.
     *
     * @param result how good the decomposition is that they came from, before they were rounded; null if that is not known
     */
    record Chain(Form.Chain form, Shape shape, List<Encoding> parts, Tucker.Result result) implements Encoding {
        public Chain {
            parts = List.copyOf(parts);
            if (!parts.stream().map(Encoding::form).toList().equals(form.parts())
                    || !parts.stream().map(Encoding::shape).toList().equals(form.shapes(shape))) {
                throw new IllegalArgumentException("parts do not fit " + form + " of " + shape);
            }
        }

        @Override
        public Chain copy(Arena arena) {
            return new Chain(form, shape, parts.stream().map(part -> part.copy(arena)).toList(), result);
        }

        @Override
        public void decode(MemorySegment out, Executor executor) {
            long outputs = shape.dim(0);
            long inputs = shape.dim(1);
            long places = shape.elements() / outputs / inputs;
            try (Arena arena = executor.arena()) {
                Iterator<Encoding> left = parts.iterator();
                MemorySegment before = form.narrows(shape) ? next(left, arena, executor) : null;
                MemorySegment window = next(left, arena, executor);
                MemorySegment behind = form.widens(shape) ? next(left, arena, executor) : null;
                MemorySegment wide = behind == null ? out : arena.allocate(DType.F32.bytes(form.after() * inputs * places), 64);
                if (form.depthwise()) {
                    multiply(before, window, inputs, places, wide, executor);
                } else if (before == null) {
                    MemorySegment.copy(window, 0, wide, 0, window.byteSize());
                } else {
                    Tucker.Size narrow = new Tucker.Size(form.after(), form.before(), places);
                    MemorySegment turned = arena.allocate(window.byteSize(), 64);
                    Tucker.channelsLast(narrow, window, false, turned, executor);
                    MemorySegment last = arena.allocate(wide.byteSize(), 64);
                    product(turned, before, last, form.after() * places, inputs, form.before(), executor);
                    Tucker.channelsLast(new Tucker.Size(form.after(), inputs, places), last, true, wide, executor);
                }
                if (behind != null) {
                    product(behind, wide, out, outputs, inputs * places, form.after(), executor);
                }
            }
        }

        private static MemorySegment next(Iterator<Encoding> parts, Arena arena, Executor executor) {
            Encoding part = parts.next();
            MemorySegment decoded = arena.allocate(DType.F32.bytes(part.shape().elements()), 64);
            part.decode(decoded, executor);
            return decoded;
        }

        private static void product(MemorySegment a, MemorySegment b, MemorySegment c, long m, long n, long k, Executor executor) {
            try (Gemm product = new Gemm(Gemm.Spec.of(DType.F32, Gemm.Form.AB, m, n, k), executor)) {
                product.pack(b).multiply(a, c);
            }
        }

        /** Each channel's inputs by its window. */
        private void multiply(MemorySegment before, MemorySegment window, long inputs, long places, MemorySegment out, Executor executor) {
            executor.run(form.after(), 1, Executor.worth(inputs * places), (begin, end, worker) -> {
                for (long t = begin; t < end; t++) {
                    float[] x = before.asSlice(4 * t * inputs, 4 * inputs).toArray(ValueLayout.JAVA_FLOAT);
                    float[] s = window.asSlice(4 * t * places, 4 * places).toArray(ValueLayout.JAVA_FLOAT);
                    float[] y = new float[Math.toIntExact(inputs * places)];
                    for (int i = 0; i < y.length; i++) {
                        y[i] = x[i / s.length] * s[i % s.length];
                    }
                    MemorySegment.copy(y, 0, out, ValueLayout.JAVA_FLOAT, 4 * t * inputs * places, y.length);
                }
            });
        }
    }

    /** A coarse encoding and its correction, which are added. */
    record Sum(Form.Sum form, Encoding base, LowRank correction) implements Encoding {
        public Sum {
            if (!base.form().equals(form.base()) || !correction.form().equals(form.correction())
                    || !base.shape().equals(correction.shape())) {
                throw new IllegalArgumentException(base.form() + " and " + correction.form() + " are not " + form);
            }
        }

        @Override
        public Shape shape() {
            return base.shape();
        }

        @Override
        public Sum copy(Arena arena) {
            return new Sum(form, base.copy(arena), correction.copy(arena));
        }

        @Override
        public void decode(MemorySegment out, Executor executor) {
            base.decode(out, executor);
            correction.multiply(out, true, executor);
        }
    }
}
