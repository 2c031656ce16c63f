package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A matrix with its zeros left out: three arrays whose meaning {@code tensorpress/sparse.h} documents. It is a view:
 * whoever opened the arena behind the arrays owns them. Every instance is well formed, so that kernels can trust it:
 * {@link Sparse#pack} made it, or {@link #of} checked it. Its arrays are read-only.
 */
public final class SparseMatrix {
    private final Layout layout;
    private final DType type;
    private final long rows;
    private final long cols;
    private final int block;
    private final long units;
    private final MemorySegment offsets;
    private final MemorySegment indices;
    private final MemorySegment values;

    SparseMatrix(Layout layout, DType type, long rows, long cols, int block, long units, MemorySegment offsets,
            MemorySegment indices, MemorySegment values) {
        this.layout = layout;
        this.type = type;
        this.rows = rows;
        this.cols = cols;
        this.block = block;
        this.units = units;
        // Kernels trust what was checked, or made here: nobody may change it through these views.
        this.offsets = offsets.asReadOnly();
        this.indices = indices.asReadOnly();
        this.values = values.asReadOnly();
    }

    /**
     * A matrix from arrays that came from elsewhere, which must stay as they are from here on.
     *
     * @param block side of a block for {@link Layout#BSR}, else 0
     * @param units stored elements, or blocks; for {@link Layout#NM24} places, two for each four columns begun
     * @param offsets {@code NULL} for {@link Layout#NM24}, which has none; may be {@code NULL} for {@link Layout#BITMASK}:
     *     then they are counted, in {@code arena}
     * @throws SparseFormatException if sizes, offsets or indices do not fit
     * @throws IllegalArgumentException if there is no such matrix, or an array is not aligned to its elements
     */
    public static SparseMatrix of(Layout layout, DType type, long rows, long cols, int block, long units,
            MemorySegment offsets, MemorySegment indices, MemorySegment values, Arena arena, Executor executor) {
        Sparse.Sizes sizes = Sparse.sizes(layout, type, rows, cols, block, units);
        if (layout == Layout.NM24 && units != rows * (2 * ((cols + 3) / 4))) {
            throw new SparseFormatException(-1, units + " units in a matrix with places for "
                    + rows * (2 * ((cols + 3) / 4)));
        }
        MemorySegment own = offsets;
        need("indices", indices, sizes.indices(), executor);
        need("values", values, sizes.values(), executor);
        if (layout == Layout.BITMASK && offsets.equals(MemorySegment.NULL)) {
            own = arena.allocate(sizes.offsets(), 8);
            Native.output("what the arena gives", own, 0, executor);
            long counted = Sparse.countMask(type, rows, cols, indices, own, executor);
            if (counted != units) {
                throw new SparseFormatException(-1, "the masks have " + counted + " bits set, but there are " + units
                        + " values");
            }
        } else if (layout != Layout.NM24) {
            need("offsets", offsets, sizes.offsets(), executor);
            Native.aligned("offsets", offsets, 8);
        } else if (!offsets.equals(MemorySegment.NULL)) {
            throw new IllegalArgumentException("matrices in layout " + layout.id() + " have no offsets");
        }
        Native.aligned("indices", indices, layout.indexBytes());
        Native.aligned("values", values, type.bits() / 8);
        SparseMatrix m = new SparseMatrix(layout, type, rows, cols, block, units, own, indices, values);
        Sparse.check(m, executor);
        return m;
    }

    private static void need(String name, MemorySegment segment, long bytes, Executor executor) {
        Native.input(name, segment, 0, executor);
        if (segment.byteSize() != bytes) {
            throw new SparseFormatException(-1, name + " have " + segment.byteSize() + " bytes, expected " + bytes);
        }
    }

    /** That its arrays are open to the threads of the executor: their arena may be confined, or closed by now. */
    void check(Executor executor) {
        Native.input("the offsets", offsets, 0, executor);
        Native.input("the indices", indices, 0, executor);
        Native.input("the values", values, 0, executor);
    }

    /** That what a kernel writes leaves its arrays as they were checked: else it would read and write anywhere. */
    void apart(String name, MemorySegment segment) {
        Native.apart(name, segment, "the offsets", offsets);
        Native.apart(name, segment, "the indices", indices);
        Native.apart(name, segment, "the values", values);
    }

    /** How it is stored. */
    public Layout layout() {
        return layout;
    }

    /** Type of the elements. */
    public DType type() {
        return type;
    }

    public long rows() {
        return rows;
    }

    public long cols() {
        return cols;
    }

    /** Side of a block if the layout is {@link Layout#BSR}, else 0. */
    public int block() {
        return block;
    }

    /** Rows, or rows of blocks. */
    public long lines() {
        return Sparse.lines(layout, rows, block);
    }

    /** Stored elements, or blocks; places for elements if the layout is {@link Layout#NM24}. */
    public long units() {
        return units;
    }

    /** int64, units before each line and in all; {@code NULL} if the layout is {@link Layout#NM24}. */
    public MemorySegment offsets() {
        return offsets;
    }

    public MemorySegment indices() {
        return indices;
    }

    public MemorySegment values() {
        return values;
    }

    /** Bytes of the three arrays. */
    public long bytes() {
        return (layout == Layout.NM24 ? 0 : offsets.byteSize()) + indices.byteSize() + values.byteSize();
    }

    /** Bytes of the arrays that belong to its lines: {@link #lines} leaves units of others beside them. */
    long touched() {
        if (layout == Layout.NM24 || units == 0) {
            return bytes();
        }
        long own = offsets.getAtIndex(JAVA_LONG, lines()) - offsets.getAtIndex(JAVA_LONG, 0);
        boolean mask = layout == Layout.BITMASK;
        return offsets.byteSize() + (mask ? indices.byteSize() : own * layout.indexBytes()) + own * (values.byteSize() / units);
    }

    /** Lines {@code [begin, end)} for restoring: offsets count from the first line of all, so units stay where they are. */
    SparseMatrix lines(long begin, long end) {
        long side = Math.max(1, block);
        long part = Math.min(rows, end * side) - Math.min(rows, begin * side);
        return switch (layout) {
            case CSR16, CSR32, BSR -> new SparseMatrix(layout, type, part, cols, block, units,
                    offsets.asSlice(begin * 8, (end - begin + 1) * 8), indices, values);
            case BITMASK -> {
                long mask = (cols + 7) / 8;
                yield new SparseMatrix(layout, type, part, cols, block, units,
                        offsets.asSlice(begin * 8, (end - begin + 1) * 8), indices.asSlice(begin * mask, part * mask),
                        values);
            }
            case NM24 -> {
                long groups = (cols + 3) / 4;
                long nibbles = (groups + 1) / 2;
                long bytes = type.bytes(2 * groups);
                yield new SparseMatrix(layout, type, part, cols, block, part * 2 * groups, offsets,
                        indices.asSlice(begin * nibbles, part * nibbles), values.asSlice(begin * bytes, part * bytes));
            }
        };
    }
}
