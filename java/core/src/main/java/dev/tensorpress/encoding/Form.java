package dev.tensorpress.encoding;

import dev.tensorpress.kernel.Hashing;
import dev.tensorpress.kernel.Quantize;
import dev.tensorpress.kernel.Transform;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;

/**
 * What an {@link Encoding} will be before its bytes exist: enough to predict its size and to ask a target whether it
 * can hold it. A method proposes a form, the target adjusts the storage part of it, the method then fills it.
 */
public sealed interface Form {

    /**
     * Bytes that a weight of this shape takes in this form, without what a file adds around it.
     *
     * @throws ArithmeticException if the number does not fit in a {@code long}
     */
    long bytes(Shape shape);

    /** A short name for tables, such as {@code f32} or {@code int8 block 64}. */
    String describe();

    /**
     * The kinds of forms, and of the encodings that fill them. Whoever does something else for each switches over it in an expression
     * without a default, which a new kind does not compile with.
     */
    enum Kind { DENSE, QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM }

    /** Which of the records in here it is. */
    Kind kind();

    /** True of {@link Dense}. */
    default boolean dense() {
        return switch (kind()) {
            case DENSE -> true;
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM -> false;
        };
    }

    /** The pruned form that it is; null of others. */
    default Sparse sparse() {
        return switch (kind()) {
            case SPARSE -> (Sparse) this;
            case DENSE, QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> null;
        };
    }

    /** What the elements of a pruned form are; of others the form itself. */
    default Form values() {
        return switch (kind()) {
            case SPARSE -> sparse().values();
            case DENSE, QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> this;
        };
    }

    /** What has to be made first of a weight that gets this form: what its elements are decoded from; the form itself if they are not. */
    default Form made() {
        return switch (kind()) {
            case DENSE -> ((Dense) this).of().orElse(this);
            case SPARSE -> sparse().of(values().made());
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> this;
        };
    }

    /** True if its elements are decoded from another form. */
    default boolean decoded() {
        return switch (kind()) {
            case DENSE -> ((Dense) this).of().isPresent();
            case SPARSE -> values().decoded();
            case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> false;
        };
    }

    /** The codes that the values, pruned or not, are; null if they are anything else. */
    default Quantized quantized() {
        return switch (kind()) {
            case QUANTIZED -> (Quantized) this;
            case SPARSE -> values().quantized();
            case DENSE, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> null;
        };
    }

    /** The codes into tables that the values, pruned or not, are; null if they are anything else. */
    default Codebook codebook() {
        return switch (kind()) {
            case CODEBOOK -> (Codebook) this;
            case SPARSE -> values().codebook();
            case DENSE, QUANTIZED, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> null;
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

    /** The convolutions that a kernel becomes; null of others. */
    default Chain chain() {
        return switch (kind()) {
            case CHAIN -> (Chain) this;
            case DENSE, QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, SUM -> null;
        };
    }

    /** Whether a factor of a weight may have it. */
    default boolean factor() {
        return switch (kind()) {
            case DENSE, QUANTIZED -> true;
            case CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM -> false;
        };
    }

    /** The form that is corrected; null if none is. */
    default Form base() {
        return switch (kind()) {
            case SUM -> ((Sum) this).base();
            case DENSE, QUANTIZED, CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN -> null;
        };
    }

    /** What the consumer of a quantized weight does with its other operand. */
    enum Activations {
        /** Computes with it as it is. */
        FLOAT,
        /** Quantizes it to int8 when it runs, a scale per block, if the runtime has such a kernel. */
        BLOCKWISE,
        /** Quantizes it to eight bits when it runs, one scale per tensor or per token, and multiplies in integers. */
        DYNAMIC,
        /** The same with a scale that is known before, by calibration: {@link Quantized#fixed}. */
        STATIC;

        /** Lower case, as in recipes. */
        public String id() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /**
     * What is known before a model runs of the codes around a product with a weight.
     *
     * @param input of what is multiplied with the weight
     * @param result of what the product makes, scaled and shifted output by output if that follows; empty if it makes floats
     * @param activated of what an activation function makes of that; empty if there is none
     * @param means of the input, channel by channel, by which biases make up for what rounding of the weight does to the mean of results;
     *     none if the result is of floats
     */
    record Fixed(ValueCodes input, Optional<ValueCodes> result, Optional<ValueCodes> activated, List<Float> means) {
        public Fixed {
            means = List.copyOf(means);
        }
    }

    /**
     * Elements each on its own: those of the weight, or what a method makes of them in their place.
     *
     * @param of what they are decoded from, where a target has no place for that; empty if they are not
     */
    record Dense(DType dtype, Optional<Form> of) implements Form {
        public Dense {
            boolean possible = of.isEmpty() || switch (of.get().kind()) {
                case QUANTIZED, CODEBOOK, TRANSFORMED, HASHED -> true;
                case DENSE, SPARSE, LOW_RANK, CHAIN, SUM -> false;
            };
            if (!possible) {
                throw new IllegalArgumentException("elements are not decoded from " + of.get());
            }
        }

        /** Of elements that are not decoded. */
        public Dense(DType dtype) {
            this(dtype, Optional.empty());
        }

        @Override
        public Kind kind() {
            return Kind.DENSE;
        }

        @Override
        public long bytes(Shape shape) {
            return dtype.bytes(shape.elements());
        }

        @Override
        public String describe() {
            return dtype.name().toLowerCase(Locale.ROOT) + (of.isPresent() ? " decoded from " + of.get().describe() : "");
        }
    }

    /**
     * Codes with shared scales.
     *
     * <p>Two dimensions are what the kernels see: a channel axis must be the first or the last one, and so must a block
     * axis, except that blocks may also run along the last axis but one when they divide it.
     *
     * @param affine what the codes are, and their scales
     * @param axis the channel axis if {@code block} is 0 (one scale per index; -1 for one scale per tensor), else the
     *     axis along which blocks run, as in ONNX; not negative otherwise
     * @param block 0, or 16 to 256
     * @param activations what the consumer does with its other operand
     * @param transposed storage: a [K, N] matrix blocked along K is held as [N, K]
     * @param padded storage: lines of blocks are filled up to whole blocks
     * @param fixed codes of what the consumer reads and makes, of {@link Activations#STATIC} alone
     */
    record Quantized(Affine affine, int axis, int block, Activations activations, boolean transposed, boolean padded, Optional<Fixed> fixed)
            implements Form {
        public Quantized {
            if (fixed.isPresent() != (activations == Activations.STATIC)) {
                throw new IllegalArgumentException("activations " + activations.id() + " with codes " + fixed);
            }
            boolean interleaved = affine.layout() == Affine.Layout.INTERLEAVED;
            if (axis < -1 || block < 0 || block > 0 && axis < 0) {
                throw new IllegalArgumentException("no groups along axis " + axis + " in blocks of " + block);
            }
            if (block == 0 && (padded || interleaved || affine.scale().groups() > 1)) {
                throw new IllegalArgumentException("what is padded, interleaved, or has outer scales along a line, is so in blocks");
            }
            if (interleaved) {
                affine.blockBytes(block);
            }
        }

        @Override
        public Kind kind() {
            return Kind.QUANTIZED;
        }

        /** Of activations that are not static. */
        public Quantized(Affine affine, int axis, int block, Activations activations, boolean transposed, boolean padded) {
            this(affine, axis, block, activations, transposed, padded, Optional.empty());
        }

        /** With integer codes, apart from flat scales and, if not symmetric, zero points. */
        public Quantized(int bits, int axis, int block, boolean symmetric, Activations activations, DType type,
                DType scaleType, boolean transposed, boolean padded) {
            this(Affine.integers(bits, symmetric, type, scaleType), axis, block, activations, transposed, padded);
        }

        /** Bits of the codes in use. */
        public int bits() {
            return affine.bits();
        }

        /** True if the middle of the codes stands for 0. */
        public boolean symmetric() {
            return affine.offset() == Affine.Offset.NONE;
        }

        /** Of the codes. */
        public DType type() {
            return affine.type();
        }

        /** Of the scale that each group has. */
        public DType scaleType() {
            return affine.scale().type();
        }

        /** The weight seen as a matrix, with the groups that share a scale. */
        public Grid grid(Shape shape) {
            return Grid.of(shape, axis, block);
        }

        /**
         * How a weight without gaps is quantized to this form: range by largest magnitude or by minimum and maximum, no clip search.
         *
         * @throws IllegalArgumentException if no kernel makes such codes: they are not {@link Affine#plain}
         */
        public Quantize.Spec spec(DType in, Shape shape) {
            if (!affine.plain()) {
                throw new IllegalArgumentException("no kernel makes " + describe());
            }
            Grid g = grid(shape);
            return new Quantize.Spec(g.rows(), g.cols(), g.cols(), lineLength(shape), g.groupRows(), g.groupCols(), in, type(), scaleType(),
                    qmin(), qmax(), symmetric() ? Quantize.Range.ABSMAX : Quantize.Range.MINMAX, affine.rounding().kernel, transposed,
                    padded, 1, 1);
        }

        /** Length of a line of codes, padding included. */
        public long lineLength(Shape shape) {
            Grid g = grid(shape);
            long n = transposed ? g.rows() : g.cols();
            long whole = affine.layout() == Affine.Layout.INTERLEAVED ? outerBlock() : padded ? block : 1;
            return Math.multiplyExact(Math.ceilDiv(n, whole), whole);
        }

        /** Elements that share an outer scale, or a scale if there is but one level. */
        private int outerBlock() {
            return Math.multiplyExact(block, affine.scale().groups());
        }

        /** The codes as [lines, length of a line]. */
        public Shape codes(Shape shape) {
            Grid g = grid(shape);
            return Shape.of(transposed ? g.cols() : g.rows(), lineLength(shape));
        }

        /** Bytes of the codes alone. */
        public long codeBytes(Shape shape) {
            return Affine.packed(codes(shape).elements(), affine.codeBits());
        }

        @Override
        public long bytes(Shape shape) {
            long outers = affine.scale().groups() == 0 ? 1 : Grid.of(shape, axis, outerBlock()).groups();
            return affine.layout() == Affine.Layout.INTERLEAVED ? Math.multiplyExact(outers, affine.blockBytes(block))
                    : Math.addExact(codeBytes(shape), affine.besideBytes(grid(shape).groups(), outers));
        }

        @Override
        public String describe() {
            int groups = affine.scale().groups();
            String grain = block > 0 ? "block " + block + (groups > 1 ? " in " + outerBlock() : "") : axis < 0 ? "per tensor" : "per channel";
            String offset = switch (affine.offset()) {
                case NONE -> "";
                case ZERO_POINT -> " asymmetric";
                case MINIMUM -> " from a minimum";
            };
            return affine.describe() + " " + grain + offset + (activations == Activations.FLOAT ? "" : " " + activations.id());
        }

        /** This form with its storage part replaced, as a target does. */
        public Quantized stored(DType type, DType scaleType, boolean transposed, boolean padded) {
            return new Quantized(Affine.integers(bits(), symmetric(), type, scaleType), axis, block, activations, transposed, padded, fixed);
        }

        /** This form, its consumers reading and making such codes. */
        public Quantized fixed(Fixed codes) {
            return new Quantized(affine, axis, block, Activations.STATIC, transposed, padded, Optional.of(codes));
        }

        /** Lowest code in use, of integers. */
        public int qmin() {
            return middle() - (1 << (bits() - 1));
        }

        /** Highest code in use, of integers. */
        public int qmax() {
            return middle() + (1 << (bits() - 1)) - 1;
        }

        /** The zero point of symmetric codes: 0 if signed, 8 or 128 if not. */
        public int middle() {
            return affine.middle();
        }
    }

    /**
     * Codes into tables of values.
     *
     * <p>The weight is seen as a matrix [rows, cols]: its first axis, and all others; with one axis or none it is a single row.
     *
     * @param bits of a code, 1 to 12; above 8 of vectors alone
     * @param dimension elements next to each other in a row that a code stands for: 1, 2, 4 or 8
     * @param axis -1 for one table per tensor; 0 or 1 where rows, or columns, have tables
     * @param block rows, or columns, that share a table; 0 if there is but one
     * @param zero whether entry 0 of each table is 0, and stands for elements that are 0 and no others; of dimension 1 alone
     * @param table type of the entries: f32 or f16
     * @param packed storage: codes of at most four bits lie in fours, the first in the lower half of a byte; others have a byte or two
     */
    record Codebook(int bits, int dimension, int axis, int block, boolean zero, DType table, boolean packed) implements Form {
        public Codebook {
            boolean groups = axis == -1 && block == 0 || (axis == 0 || axis == 1 && block % dimension == 0) && block > 0;
            if (bits < 1 || bits > (dimension == 1 ? dev.tensorpress.kernel.Codebook.MOST_SCALAR_BITS : dev.tensorpress.kernel.Codebook.MOST_BITS)
                    || !groups || packed && bits > 4 || zero && dimension > 1) {
                throw new IllegalArgumentException("no codebook of " + bits + " bits, dimension " + dimension + ", axis " + axis + ", block " + block);
            }
        }

        @Override
        public Kind kind() {
            return Kind.CODEBOOK;
        }

        /** The matrix, and how it is cut. */
        public dev.tensorpress.kernel.Codebook.Spec spec(Shape shape) {
            long n = shape.elements();
            long rows = shape.rank() < 2 ? 1 : shape.dim(0);
            long cols = rows == 0 ? 0 : n / rows;
            return new dev.tensorpress.kernel.Codebook.Spec(rows, cols, axis == 0 ? block : Math.max(1, rows),
                    axis == 1 ? block : Math.max(dimension, cols), dimension, bits, zero);
        }

        /** The codes as [rows, columns / dimension]. */
        public Shape codes(Shape shape) {
            return Shape.of(spec(shape).rows(), spec(shape).cols() / dimension);
        }

        /** The tables as [number of them, entries, dimension]. */
        public Shape tables(Shape shape) {
            return Shape.of(spec(shape).groups(), spec(shape).entries(), dimension);
        }

        /** Of a code as it is stored. */
        public DType codeType() {
            return packed ? DType.U4 : bits > 8 ? DType.U16 : DType.U8;
        }

        /** Of all tables. */
        public long tableBytes(Shape shape) {
            return table.bytes(tables(shape).elements());
        }

        @Override
        public long bytes(Shape shape) {
            return Math.addExact(codeType().bytes(codes(shape).elements()), tableBytes(shape));
        }

        @Override
        public String describe() {
            String lines = axis == 0 ? "row" : "column";
            return "codebook " + bits + " bits" + (dimension > 1 ? " of " + dimension : "")
                    + (axis < 0 ? " per tensor" : block == 1 ? " per " + lines : " per " + block + " " + lines + "s");
        }

        /** This form with its storage part replaced, as a target does. */
        public Codebook stored(DType type, boolean fours) {
            return new Codebook(bits, dimension, axis, block, zero, type, fours);
        }
    }

    /** What coefficients a weight can be kept as. */
    enum Basis {
        /** Cosines of blocks, orthonormal. */
        DCT,
        /** Haar's wavelet, orthonormal. */
        HAAR,
        /** The wavelet CDF 5/3 of integers: codes of elements become those of coefficients, and back, without loss. */
        CDF53,
        /** The wavelet CDF 9/7, nearly orthonormal. */
        CDF97;

        /** Lower case, as in recipes. */
        public String id() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /**
     * Codes of coefficients, one for each element, with steps. They take fewer bits than they have only once they are coded.
     *
     * <p>The weight is seen as a matrix [rows, cols]: its first axis, and all others; with one axis or none it is a single row.
     *
     * @param block elements along an axis of {@link Basis#DCT}, 2 to 64; 0 of wavelets
     * @param dimensions 1 where rows are transformed, 2 where columns are too
     * @param levels of wavelets, 1 to 16; 0 of {@link Basis#DCT}
     * @param rows of the matrix that share a step; 0 if all do
     * @param type of the codes: I8 or I16
     */
    record Transformed(Basis basis, int block, int dimensions, int levels, int rows, DType type) implements Form {
        public Transformed {
            boolean cosines = basis == Basis.DCT;
            boolean sizes = cosines ? block >= 2 && block <= Transform.LARGEST_BLOCK && levels == 0 : block == 0 && levels >= 1 && levels <= 16;
            if (!sizes || dimensions < 1 || dimensions > 2 || rows < 0 || type != DType.I8 && type != DType.I16) {
                throw new IllegalArgumentException("no " + type + " of " + basis + " of block " + block + ", " + dimensions + " dimensions, "
                        + levels + " levels, " + rows + " rows to a step");
            }
        }

        @Override
        public Kind kind() {
            return Kind.TRANSFORMED;
        }

        /** The weight as a matrix. */
        public Shape matrix(Shape shape) {
            return Transformed.matrixOf(shape);
        }

        static Shape matrixOf(Shape shape) {
            long rows = shape.rank() < 2 ? 1 : shape.dim(0);
            return Shape.of(rows, rows == 0 ? 0 : shape.elements() / rows);
        }

        /** How many steps there are. */
        public long groups(Shape shape) {
            return rows == 0 ? 1 : Math.max(1, Math.ceilDiv(matrix(shape).dim(0), rows));
        }

        /** These steps, of as many coefficients as share one; of {@link Basis#CDF53} of as many elements. */
        public Transform.Steps steps(Shape shape, MemorySegment values) {
            Shape matrix = matrix(shape);
            return new Transform.Steps(values, Math.max(1, rows == 0 || rows > matrix.dim(0) ? matrix.elements() : rows * matrix.dim(1)));
        }

        @Override
        public long bytes(Shape shape) {
            return Math.addExact(type.bytes(shape.elements()), DType.F32.bytes(groups(shape) + 1));
        }

        @Override
        public String describe() {
            return basis.id() + (basis == Basis.DCT ? " " + block + (dimensions == 2 ? "x" + block : "")
                    : " " + levels + (levels == 1 ? " level" : " levels") + (dimensions == 2 ? " both ways" : "")) + " in int" + type.bits()
                    + (rows == 0 ? "" : rows == 1 ? " per row" : " per " + rows + " rows");
        }
    }

    /**
     * Values that elements share by a hash of their position. The weight is seen as a matrix as that of {@link Transformed}.
     *
     * @param buckets how many values there are
     * @param seed of the hash
     * @param type of the values: f32 or f16
     */
    record Hashed(long buckets, int seed, DType type) implements Form {
        public Hashed {
            if (buckets < 1 || buckets > Integer.MAX_VALUE || type != DType.F32 && type != DType.F16) {
                throw new IllegalArgumentException("there cannot be " + buckets + " values of " + type);
            }
        }

        @Override
        public Kind kind() {
            return Kind.HASHED;
        }

        /** What the kernels take. */
        public Hashing.Spec spec(Shape shape) {
            Shape matrix = Transformed.matrixOf(shape);
            return new Hashing.Spec(matrix.dim(0), matrix.dim(1), buckets, seed);
        }

        @Override
        public long bytes(Shape shape) {
            return type.bytes(buckets);
        }

        @Override
        public String describe() {
            return "hashed to " + buckets + " " + type.name().toLowerCase(Locale.ROOT) + (buckets == 1 ? " value" : " values");
        }
    }

    /** How the zeros of a sparse form are kept. */
    enum Storage {
        /** As elements like the others: every runtime reads it, and no byte is saved. */
        MASKED,
        /** Left out: each other element is stored with its position as an int64, as ONNX's sparse tensors do. */
        COORDINATES
    }

    /**
     * A form of which elements are exactly zero.
     *
     * @param values what the elements are: dense, or with codes that decode to 0 where the weight was pruned
     * @param pattern what was removed, for tables: {@code 50 %} or {@code 2:4}
     * @param nnz elements that are not zero: exact for dense values, for others an upper bound, since more may round
     *     to zero
     * @param storage how the zeros are kept; only dense values can have coordinates, and codes into tables keep zeros as
     *     elements like the others
     */
    record Sparse(Form values, String pattern, long nnz, Storage storage) implements Form {
        private static final long COORDINATE_BYTES = 8;
        /** Columns up to which distances within a row always fit in 16 bits. */
        private static final long NARROW = 1 << 16;
        /** Fewer columns than this waste bits of masks and offsets. */
        private static final long SHORT = 64;

        public Sparse {
            boolean possible = switch (values.kind()) {
                case DENSE -> true;
                case QUANTIZED -> storage != Storage.COORDINATES;
                case CODEBOOK -> storage == Storage.MASKED && values.codebook().zero();
                case TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM -> false;
            };
            if (!possible) {
                throw new IllegalArgumentException("no " + storage + " storage of zeros in " + values);
            }
        }

        @Override
        public Kind kind() {
            return Kind.SPARSE;
        }

        @Override
        public long bytes(Shape shape) {
            if (storage == Storage.MASKED) {
                return values.bytes(shape);
            }
            return Math.multiplyExact(nnz, COORDINATE_BYTES + ((Dense) values).dtype().bytes(1));
        }

        /**
         * Elements as [rows, columns] where zeros are left out: the last axis as columns, or all but the first if that is
         * too short for rows to be worth storing one by one.
         */
        public static Shape matrix(Shape shape) {
            long cols = shape.rank() == 0 ? 1 : shape.dim(-1);
            if (cols < SHORT && shape.rank() > 1 && shape.dim(0) > 0) {
                cols = shape.elements() / shape.dim(0);
            }
            return Shape.of(cols == 0 ? 0 : shape.elements() / cols, cols);
        }

        /**
         * Bytes that elements take at most in the smallest of the layouts of {@code tensorpress/sparse.h}.
         *
         * @param nnz elements that are not zero
         */
        public static long packed(Shape shape, DType type, long nnz) {
            long size = type.bytes(1);
            Shape matrix = matrix(shape);
            long rows = matrix.dim(0);
            long cols = matrix.dim(1);
            long mask = rows * Math.ceilDiv(cols, 8L);
            long indices = Math.addExact(Math.multiplyExact(nnz, cols <= NARROW ? 2 : 4), Math.multiplyExact(rows + 1, 8));
            return Math.min(Math.multiplyExact(shape.elements(), size), Math.addExact(Math.multiplyExact(nnz, size), Math.min(mask, indices)));
        }

        @Override
        public String describe() {
            String how = storage == Storage.MASKED ? "" : " " + storage.name().toLowerCase(Locale.ROOT);
            return values.describe() + " sparse " + pattern + how;
        }

        /** This form with other values, as a target or a second method makes it. */
        public Sparse of(Form other) {
            return new Sparse(other, pattern, nnz, storage);
        }

        /** This form with its zeros kept in another way, as a target decides. */
        public Sparse stored(Storage other) {
            return new Sparse(values, pattern, nnz, other);
        }
    }

    /**
     * A product of two factors. The weight is seen as a matrix [rows, cols]: its first axis, and all others. The product is
     * [rows, cols], or [cols, rows] if transposed; {@code left} is [its rows, rank], {@code right} [rank, its columns].
     *
     * @param transposed so that {@code left} always holds the axis that a product sums over: weights [out, in] are
     */
    record LowRank(Form left, Form right, long rank, boolean transposed) implements Form {
        public LowRank {
            if (rank < 1 || !left.factor() || !right.factor()) {
                throw new IllegalArgumentException("no factors of rank " + rank + ", " + left + " and " + right);
            }
        }

        @Override
        public Kind kind() {
            return Kind.LOW_RANK;
        }

        /** Shape of the left factor of a weight. */
        public Shape left(Shape weight) {
            return Shape.of(transposed ? cols(weight) : rows(weight), rank);
        }

        /** Shape of the right factor of a weight. */
        public Shape right(Shape weight) {
            return Shape.of(rank, transposed ? rows(weight) : cols(weight));
        }

        private static long rows(Shape weight) {
            return weight.dim(0);
        }

        private static long cols(Shape weight) {
            return rows(weight) == 0 ? 0 : weight.elements() / rows(weight);
        }

        @Override
        public long bytes(Shape shape) {
            return Math.addExact(left.bytes(left(shape)), right.bytes(right(shape)));
        }

        @Override
        public String describe() {
            String factors = left.describe().equals(right.describe()) ? left.describe()
                    : left.describe() + " and " + right.describe();
            return "rank " + rank + " " + factors;
        }
    }

    /**
     * The kernel [outputs, inputs, window] of a convolution as several convolutions, one after the other: from inputs to {@code before}
     * channels, place by place; over the window to {@code after} channels; and from these to outputs, place by place. The first and the last
     * are left out where they would keep the number of channels, unless the window is depthwise.
     *
     * @param parts in that order; each is dense or quantized
     * @param depthwise whether each channel has a window to itself: {@code before} and {@code after} are one number then, the terms of a
     *     canonical polyadic decomposition; else it is a Tucker decomposition
     */
    record Chain(List<Form> parts, long before, long after, boolean depthwise) implements Form {
        public Chain {
            parts = List.copyOf(parts);
            boolean factors = true;
            for (Form part : parts) {
                factors &= part.factor();
            }
            if (!factors || before < 1 || after < 1 || depthwise && before != after) {
                throw new IllegalArgumentException("no chain of " + before + " and " + after + " channels of " + parts);
            }
        }

        /** With each part such as this one. */
        public static Chain of(Form part, long before, long after, boolean depthwise, Shape weight) {
            Chain chain = new Chain(List.of(), before, after, depthwise);
            return chain.of(Collections.nCopies(chain.shapes(weight).size(), part));
        }

        /** This chain with other parts. */
        public Chain of(List<? extends Form> others) {
            return new Chain(List.copyOf(others), before, after, depthwise);
        }

        @Override
        public Kind kind() {
            return Kind.CHAIN;
        }

        /** Whether a convolution stands before the window, place by place. */
        public boolean narrows(Shape weight) {
            return depthwise || before != weight.dim(1);
        }

        /** Whether a convolution stands behind the window, place by place. */
        public boolean widens(Shape weight) {
            return depthwise || after != weight.dim(0);
        }

        /** Shapes of the parts' kernels. */
        public List<Shape> shapes(Shape weight) {
            List<Shape> shapes = new ArrayList<>();
            long[] dims = weight.dims();
            long[] place = new long[dims.length];
            Arrays.fill(place, 1);
            if (narrows(weight)) {
                place[0] = before;
                place[1] = dims[1];
                shapes.add(Shape.of(place.clone()));
            }
            long[] window = dims.clone();
            window[0] = after;
            window[1] = depthwise ? 1 : before;
            shapes.add(Shape.of(window));
            if (widens(weight)) {
                place[0] = dims[0];
                place[1] = after;
                shapes.add(Shape.of(place.clone()));
            }
            return List.copyOf(shapes);
        }

        @Override
        public long bytes(Shape shape) {
            List<Shape> shapes = shapes(shape);
            if (shapes.size() != parts.size()) {
                throw new IllegalArgumentException(parts.size() + " parts, where " + shape + " has " + shapes.size());
            }
            long bytes = 0;
            for (int i = 0; i < shapes.size(); i++) {
                bytes = Math.addExact(bytes, parts.get(i).bytes(shapes.get(i)));
            }
            return bytes;
        }

        @Override
        public String describe() {
            Set<String> kinds = new LinkedHashSet<>();
            parts.forEach(part -> kinds.add(part.describe()));
            return (depthwise ? "cp " + before : "tucker " + after + "x" + before) + " " + String.join(" and ", kinds);
        }
    }

    /** A weight as a coarse form of it, and what is to be added to that. */
    record Sum(Form base, LowRank correction) implements Form {
        public Sum {
            boolean coarse = switch (base.kind()) {
                case QUANTIZED -> true;
                case DENSE, CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM -> false;
            };
            if (!coarse) {
                throw new IllegalArgumentException("nothing to correct in " + base);
            }
        }

        @Override
        public Kind kind() {
            return Kind.SUM;
        }

        @Override
        public long bytes(Shape shape) {
            return Math.addExact(base.bytes(shape), correction.bytes(shape));
        }

        @Override
        public String describe() {
            return base.describe() + " + " + correction.describe();
        }
    }

    /** A tensor as rows and columns, cut into groups of {@code groupRows x groupCols}; all sizes in elements. */
    record Grid(long rows, long cols, long groupRows, long groupCols) {
        static Grid of(Shape shape, int axis, int block) {
            int rank = shape.rank();
            if (axis < 0) {
                long cols = rank == 0 ? 1 : shape.dim(-1);
                long rows = cols == 0 ? 0 : shape.elements() / cols;
                return new Grid(rows, cols, Math.max(rows, 1), Math.max(cols, 1));
            }
            if (axis == rank - 1 && !(block == 0 && rank == 1)) {
                long cols = shape.dim(-1);
                long rows = cols == 0 ? 0 : shape.elements() / cols;
                return block > 0 ? new Grid(rows, cols, 1, block) : new Grid(rows, cols, Math.max(rows, 1), 1);
            }
            if (block > 0 && axis == rank - 2 && (rank == 2 || shape.dim(axis) % block == 0)) {
                long cols = shape.dim(-1);
                long rows = cols == 0 ? 0 : shape.elements() / cols;
                return new Grid(rows, cols, block, 1);
            }
            if (block == 0 && axis == 0 && rank > 0) {
                long rows = shape.dim(0);
                long cols = rows == 0 ? 0 : shape.elements() / rows;
                return new Grid(rows, cols, 1, Math.max(cols, 1));
            }
            throw new IllegalArgumentException("no matrix view of " + shape + " along axis " + axis
                    + (block > 0 ? " in blocks of " + block : ""));
        }

        /** Groups from top to bottom. */
        public long groupsDown() {
            return Math.ceilDiv(rows, groupRows);
        }

        /** Groups from left to right. */
        public long groupsAcross() {
            return Math.ceilDiv(cols, groupCols);
        }

        /** Number of groups, hence of scales. */
        public long groups() {
            return Math.multiplyExact(groupsDown(), groupsAcross());
        }
    }
}
