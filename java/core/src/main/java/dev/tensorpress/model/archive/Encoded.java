package dev.tensorpress.model.archive;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/**
 * Elements in the place of which the arrays of an encoding are stored that decodes to them, one after the other.
 *
 * @param position of the first element among the bytes of all members
 * @param type of the elements: F32, F16 or BF16
 * @param shape of the weight, or of those rows of it that the encoding is of
 * @param form of the encoding: one that decodes to the same bits on every machine
 */
record Encoded(long position, DType type, Shape shape, Form form) {
    /** Bytes of {@link #memory} at most, whatever an archive says. */
    static final long MOST_MEMORY = 512L << 20;
    private static final int ALIGNMENT = 64;

    /** An array of the encoding. */
    record Part(DType type, long elements) {
        long bytes() {
            return type.bytes(elements);
        }
    }

    /** @throws IllegalArgumentException if there is no such encoding, or decoding it takes too much */
    Encoded {
        if (!possible(type, shape, form)) {
            throw new IllegalArgumentException("no " + type + " of " + shape + " from " + form.describe() + ", or it takes more than " + MOST_MEMORY
                    + " bytes to decode");
        }
    }

    /** Whether there can be one. */
    static boolean possible(DType type, Shape shape, Form form) {
        return type.compressible() && shape.elements() > 0 && exact(form) && memory(type, shape, form) <= MOST_MEMORY;
    }

    /** Whether encodings of a form are stored: they decode to the same bits on every machine, as sums of products do not. */
    static boolean exact(Form form) {
        return switch (form.kind()) {
            case QUANTIZED -> form.quantized().affine().plain();
            case CODEBOOK, TRANSFORMED, HASHED -> true;
            case DENSE, SPARSE, LOW_RANK, CHAIN, SUM -> false;
        };
    }

    /** The arrays of an encoding in their order; of codes, which are aligned, the first. */
    static List<Tensor> arrays(Encoding encoding) {
        return switch (encoding.kind()) {
            case QUANTIZED -> {
                Encoding.Quantized q = (Encoding.Quantized) encoding;
                yield Arrays.asList(q.codes(), q.scales(), q.zeros()).stream().filter(Objects::nonNull).toList();
            }
            case CODEBOOK -> List.of(((Encoding.Codebook) encoding).codes(), ((Encoding.Codebook) encoding).tables());
            case TRANSFORMED -> {
                Encoding.Transformed t = (Encoding.Transformed) encoding;
                yield List.of(t.codes(), t.steps(), t.offset());
            }
            case HASHED -> List.of(((Encoding.Hashed) encoding).shared());
            case DENSE, SPARSE, LOW_RANK, CHAIN, SUM -> throw new IllegalArgumentException("not stored: " + encoding.form().describe());
        };
    }

    /** What {@link #arrays(Encoding)} of this form are. */
    private static List<Part> parts(Form form, Shape shape) {
        return switch (form.kind()) {
            case QUANTIZED -> {
                Form.Quantized q = form.quantized();
                long groups = q.grid(shape).groups();
                List<Part> all = new ArrayList<>(List.of(new Part(q.type(), q.codes(shape).elements()), new Part(q.scaleType(), groups)));
                if (!q.symmetric()) {
                    all.add(new Part(q.type().signed() ? DType.I8 : DType.U8, groups));
                }
                yield all;
            }
            case CODEBOOK -> {
                Form.Codebook c = form.codebook();
                yield List.of(new Part(c.spec(shape).codeType(), c.spec(shape).codes()), new Part(c.table(), c.tables(shape).elements()));
            }
            case TRANSFORMED -> {
                Form.Transformed t = (Form.Transformed) form;
                yield List.of(new Part(t.type(), shape.elements()), new Part(DType.F32, t.groups(shape)), new Part(DType.F32, 1));
            }
            case HASHED -> List.of(new Part(((Form.Hashed) form).type(), ((Form.Hashed) form).buckets()));
            case DENSE, SPARSE, LOW_RANK, CHAIN, SUM -> throw new IllegalArgumentException("not stored: " + form.describe());
        };
    }

    /** Of arrays that lie one after the other. */
    Encoding encoding(MemorySegment stored) {
        List<Tensor> arrays = new ArrayList<>();
        long at = 0;
        for (Part p : parts()) {
            arrays.add(new Tensor(p.type, Shape.of(p.elements), stored.asSlice(at, p.bytes())));
            at += p.bytes();
        }
        return switch (form.kind()) {
            case QUANTIZED -> new Encoding.Quantized(form.quantized(), shape, arrays.get(0), arrays.get(1), arrays.size() > 2 ? arrays.get(2) : null);
            case CODEBOOK -> new Encoding.Codebook(form.codebook(), shape, arrays.get(0), arrays.get(1));
            case TRANSFORMED -> new Encoding.Transformed((Form.Transformed) form, shape, arrays.get(0), arrays.get(1), arrays.get(2));
            case HASHED -> new Encoding.Hashed((Form.Hashed) form, shape, arrays.get(0));
            case DENSE, SPARSE, LOW_RANK, CHAIN, SUM -> throw new IllegalStateException("not stored: " + form.describe());
        };
    }

    private static long storedBytes(Form form, Shape shape) {
        long sum = 0;
        for (Part p : parts(form, shape)) {
            sum = Math.addExact(sum, p.bytes());
        }
        return sum;
    }

    /**
     * What is stored, the elements in f32 and in their type, and what transforms work in: twice as many numbers. A row of these besides,
     * and what arrays of 16 bits are widened to, do not count: the latter is twice what is stored at most.
     */
    private static long memory(DType type, Shape shape, Form form) {
        long floats = DType.F32.bytes(shape.elements());
        long work = form.kind() == Form.Kind.TRANSFORMED ? Math.multiplyExact(floats, 2) : 0;
        long narrow = type == DType.F32 ? 0 : type.bytes(shape.elements());
        return Math.addExact(Math.addExact(storedBytes(form, shape), floats), Math.addExact(work, narrow));
    }

    /** The arrays, in their order. */
    List<Part> parts() {
        return parts(form, shape);
    }

    /** Of the elements. */
    long bytes() {
        return type.bytes(shape.elements());
    }

    /** Of the arrays. */
    long storedBytes() {
        return storedBytes(form, shape);
    }

    /** Bytes that count of those that decoding takes, the arrays included. */
    long memory() {
        return memory(type, shape, form);
    }

    /** Memory for {@link #storedBytes}. */
    MemorySegment allocate(Arena arena) {
        return arena.allocate(storedBytes(), ALIGNMENT);
    }

    /**
     * The elements.
     *
     * @param stored all arrays, in memory of {@link #allocate}, with any contents
     * @param arena that the elements will be in, of the executor
     * @throws IllegalArgumentException if the arrays are none of this form
     */
    MemorySegment decode(MemorySegment stored, Arena arena, Executor executor) {
        MemorySegment floats = arena.allocate(DType.F32.bytes(shape.elements()), ALIGNMENT);
        MemorySegment out = type == DType.F32 ? floats : arena.allocate(bytes(), ALIGNMENT);
        try {
            Encoding.Dense.decoded(encoding(stored), type, out, floats, executor);
            return out;
        } catch (KernelException e) {
            throw new IllegalArgumentException(e.getMessage(), e);
        }
    }
}
