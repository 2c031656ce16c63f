package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_copying;
import dev.tensorpress.bindings.tp_jacobi;
import dev.tensorpress.bindings.tp_multiplication;
import dev.tensorpress.bindings.tp_qb;
import dev.tensorpress.kernel.Executor.Task;
import dev.tensorpress.kernel.Executor.Worker;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/**
 * The building blocks of {@code tensorpress/svd.h} over several threads: products, norms, orthogonal factors, random
 * matrices. Numerics are documented in that header. Everything is f64 unless a {@link View} says otherwise.
 *
 * <p>Results are the same for any number of threads. Memory for intermediate results is kept and used again, so that one object
 * should serve many decompositions; one thread at a time may use it: another one gets an {@link IllegalStateException}. Close it
 * when done. Segments are off-heap, open to the threads of the executor, and hold their matrix; f64 at a multiple of 8 bytes.
 * Failures of a kernel are {@link KernelException}s.
 */
public final class LinearAlgebra implements AutoCloseable {
    /** Reflections in a block: twice the columns of the widest tile of a product. */
    static final int PANEL = 48;
    /** Multiplications worth a thread of their own, some 100 microseconds: one that sleeps may take half of that to wake. */
    private static final double WORTH = 1 << 21;
    /** And worth a call of a device, */
    private static final double LARGE = 1 << 24;
    /** if there are so many for each byte that is copied there or back. */
    private static final double COPIED = 2;
    /** Columns beyond which a product needs no more scratch. */
    private static final long WIDE = 1 << 16;
    /** Columns of Cholesky's factor that one thread makes, */
    private static final int FACTORED = 128;
    /** if there are more than these: 1536 in 1/5 of the time, but 384 in 1.3 times as much. */
    private static final int FACTORED_AT_ONCE = 512;
    /** Bytes of scratch that any product, any pair of blocks, and a part of a tridiagonal matrix need. */
    static final long SCRATCH;

    static {
        dev.tensorpress.internal.NativeLibrary.load();
        SCRATCH = scratchBytes();
    }

    private static long scratchBytes() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment product = tp_multiplication.allocate(arena);
            MemorySegment jacobi = tp_jacobi.allocate(arena);
            View view = View.of(MemorySegment.NULL, WIDE);
            new Product(view, false, view, false, MemorySegment.NULL, WIDE, 1, WIDE, 1, false, 1, 0).fill(product);
            tp_jacobi.block(jacobi, Svd.SMALL);
            tp_jacobi.tolerance(jacobi, 1);
            return Math.max(Native.size("tp_multiply_scratch", bytes -> Kernels.tp_multiply_scratch(product, bytes)), Math.max(
                    Native.size("tp_tridiagonal_scratch", bytes -> Kernels.tp_tridiagonal_scratch(PART, bytes)),
                    Native.size("tp_jacobi_scratch", bytes -> Kernels.tp_jacobi_scratch(jacobi, bytes))));
        }
    }

    /**
     * A matrix in memory.
     *
     * @param type F32 or F64
     * @param stride elements from row to row
     */
    public record View(DType type, MemorySegment data, long stride) {
        public View {
            Native.oneOf("the type", type, DType.F32, DType.F64);
            Native.input("the matrix", data, 0, null);
        }

        /** That the segment holds a matrix [rows, cols], to be read. */
        void check(String name, long rows, long cols, Executor executor) {
            Native.input(name, data, Native.bytes(name, type, rows, cols, stride), executor);
        }

        static View of(MemorySegment data, long stride) {
            return new View(DType.F64, data, stride);
        }

        int id() {
            return Native.id(type);
        }
    }

    /** What one thread has for itself. */
    private record Lane(MemorySegment multiplication, MemorySegment copying) {}

    /** The threads, on which most of it runs. */
    final Executor executor;
    /** What was given, for what is worth the way to a device. */
    private final Executor given;
    final Arena arena;
    private final Lane[] lanes;
    private final Map<String, MemorySegment> buffers = new HashMap<>();
    private final Map<String, Arena> owners = new HashMap<>();
    /** Nanoseconds that the caller's thread, worker 0, has spent in products or waited for their other ranges. */
    private long productTime;
    private final OneThread oneThread = new OneThread("this object of linear algebra");

    /** @param executor must outlive this object */
    public LinearAlgebra(Executor executor) {
        this.executor = Native.host(executor);
        given = executor;
        arena = executor.arena();
        lanes = new Lane[executor.threads()];
        for (int i = 0; i < lanes.length; i++) {
            lanes[i] = new Lane(tp_multiplication.allocate(arena), tp_copying.allocate(arena));
        }
    }

    @Override
    public void close() {
        try (OneThread _ = oneThread.enter()) {
            owners.values().forEach(Arena::close);
            owners.clear();
            buffers.clear();
            if (arena.scope().isAlive()) {
                arena.close();
            }
        }
    }

    /** A buffer for this many f64 that lives until the next, larger one of the same name. Its contents are left over. */
    MemorySegment buffer(String name, long elements) {
        if (!arena.scope().isAlive()) {
            throw new IllegalStateException("used after it was closed");
        }
        MemorySegment held = buffers.get(name);
        if (held == null || held.byteSize() < elements * 8) {
            Arena old = owners.remove(name);
            buffers.remove(name);
            if (old != null) {
                old.close();
            }
            Arena owner = executor.arena();
            owners.put(name, owner);
            held = owner.allocate(Math.max(64, Math.multiplyExact(elements, 8)), 64);
            buffers.put(name, held);
        }
        return held;
    }

    /** Element (row, col) of an f64 matrix. */
    static MemorySegment at(MemorySegment matrix, long index) {
        return matrix.asSlice(index * 8);
    }

    private static double get(MemorySegment m, long i) {
        return m.getAtIndex(JAVA_DOUBLE, i);
    }

    static double get(DType type, MemorySegment x, long i) {
        return type == DType.F32 ? x.getAtIndex(JAVA_FLOAT, i) : x.getAtIndex(JAVA_DOUBLE, i);
    }

    static void set(DType type, MemorySegment x, long i, double value) {
        if (type == DType.F32) {
            x.setAtIndex(JAVA_FLOAT, i, (float) value);
        } else {
            x.setAtIndex(JAVA_DOUBLE, i, value);
        }
    }

    /** Of n f64, in order. */
    static double sum(MemorySegment x, long n) {
        double sum = 0;
        for (long i = 0; i < n; i++) {
            sum += get(x, i);
        }
        return sum;
    }

    /** Runs lines over the threads if there is enough to do, {@code work} being multiplications. */
    void spread(long lines, long granule, double work, Task task) {
        executor.run(lines, granule, minimum(lines, work), SCRATCH, task);
    }

    /** The same of a kernel. */
    void spread(String kernel, long lines, long granule, double work, Native.Cost cost, Native.Lines call) {
        Native.run(kernel, executor, lines, granule, minimum(lines, work), SCRATCH, cost, call);
    }

    /** The same of a kernel that a device has. */
    void spread(String kernel, long lines, long granule, double work, Native.Cost cost, Native.Lines call, Native.OnCuda onCuda) {
        Native.run(kernel, worthCopies(work, cost) ? given : executor, lines, granule, minimum(lines, work), SCRATCH, cost, call, onCuda);
    }

    /** Whether a device is so much faster that operands and result may be copied there and back. */
    private static boolean worthCopies(double work, Native.Cost cost) {
        return work >= LARGE && work >= COPIED * (cost.read() + cost.written());
    }

    private long minimum(long lines, double work) {
        double pieces = Math.min(4.0 * executor.threads(), work / WORTH);
        return pieces <= 1 ? lines : (long) Math.ceil(lines / pieces);
    }

    // ---- products ----

    /** One product: {@code tp_multiplication}. A transposed operand is stored as its transpose. */
    record Product(View a, boolean aTransposed, View b, boolean bTransposed, MemorySegment c, long cStride, long m, long n,
            long k, boolean lower, double alpha, double beta) {
        void fill(MemorySegment s) {
            tp_multiplication.m(s, m);
            tp_multiplication.n(s, n);
            tp_multiplication.k(s, k);
            tp_multiplication.a_stride(s, a.stride());
            tp_multiplication.b_stride(s, b.stride());
            tp_multiplication.c_stride(s, cStride);
            tp_multiplication.a_type(s, a.id());
            tp_multiplication.b_type(s, b.id());
            tp_multiplication.a_transposed(s, aTransposed ? 1 : 0);
            tp_multiplication.b_transposed(s, bTransposed ? 1 : 0);
            tp_multiplication.lower(s, lower ? 1 : 0);
            tp_multiplication.alpha(s, alpha);
            tp_multiplication.beta(s, beta);
        }

        /** The same for some columns of B and C. */
        Product columns(long begin, long end) {
            View part = new View(b.type(), b.data().asSlice(b.type().bytes(bTransposed ? begin * b.stride() : begin)),
                    b.stride());
            return new Product(a, aTransposed, part, bTransposed, at(c, begin), cStride, m, end - begin, k, lower, alpha, beta);
        }

        /** Its {@code tp_status}. */
        int run(MemorySegment spec, long begin, long end, MemorySegment scratch) {
            return Kernels.tp_multiply(spec, begin, end, a.data(), b.data(), c, scratch);
        }

        Native.Cost cost() {
            long result = lower ? m * (m + 1) / 2 : m * n;
            // Of a matrix times its transposed both are one operand.
            long read = a.type().bytes(m * k) + (a.data().equals(b.data()) ? 0 : b.type().bytes(k * n)) + (beta == 0 ? 0 : 8 * result);
            return new Native.Cost(read, 8 * result, 2 * result * k);
        }
    }

    long productTime() {
        return productTime;
    }

    /** For products that are made elsewhere: one that began at this time has ended. */
    void productSince(long start) {
        productTime += System.nanoTime() - start;
    }

    /** On all threads. */
    void multiply(Product p) {
        multiply(p, Native.onDevice(given));
    }

    private void multiply(Product p, boolean onDevice) {
        long start = System.nanoTime();
        multiplyOnAll(p, onDevice);
        productSince(start);
    }

    private void multiplyOnAll(Product p, boolean onDevice) {
        MemorySegment spec = lanes[0].multiplication;
        p.fill(spec);
        double work = (double) p.m * p.n * p.k;
        if (onDevice && worthCopies(work, p.cost())) {
            spread("tp_multiply", p.m, 8, work, p.cost(), (begin, end, worker) -> p.run(spec, begin, end, worker.scratch()),
                    (cuda, begin, end) -> Kernels.tp_cuda_multiply(cuda, spec, begin, end, p.a.data(), p.b.data(), p.c));
            return;
        }
        if (p.m < p.n && !p.lower && work >= WORTH) {
            // Cut along the longer side, so that no two threads pack the same part of B.
            long least = (p.n + executor.threads() - 1) / executor.threads();
            Native.run("tp_multiply", executor, p.n, 24, least, SCRATCH, p.cost(), (begin, end, worker) ->
                    multiplyOnOne(p.columns(begin, end), worker));
            return;
        }
        // Each range packs B anew, so there are no more of them than threads; but rows of a triangle differ in length.
        long minimum = work < WORTH ? p.m : p.lower ? 96 : (p.m + executor.threads() - 1) / executor.threads();
        Native.run("tp_multiply", executor, p.m, 8, minimum, SCRATCH, p.cost(), (begin, end, worker) ->
                p.run(spec, begin, end, worker.scratch()));
    }

    /** Whether a device is there, and so much to multiply that it should do it. */
    boolean onDevice(double work) {
        return Native.onDevice(given) && work >= LARGE;
    }

    /**
     * An orthonormal basis Q [rows, rank] of about what A's largest singular vectors span, and B = Q<sup>T</sup> A [rank, cols], without gaps and of
     * A's type: {@code tp_cuda_qb}, on the device.
     */
    void range(View a, long rows, long cols, long rank, int powers, long seed, MemorySegment q, MemorySegment b) {
        MemorySegment spec = Native.struct(tp_qb.layout());
        tp_qb.m(spec, rows);
        tp_qb.n(spec, cols);
        tp_qb.rank(spec, rank);
        tp_qb.stride(spec, a.stride());
        tp_qb.type(spec, a.id());
        tp_qb.out_type(spec, a.id());
        tp_qb.powers(spec, powers);
        tp_qb.seed(spec, seed);
        MemorySegment residual = buffer("residual", 4);
        Native.Cost cost = new Native.Cost(a.type().bytes(rows * cols), a.type().bytes((rows + cols) * rank),
                4 * (powers + 1) * rows * cols * rank);
        long start = System.nanoTime();
        Native.run("tp_qb", given, rows, 1, 1, cost, null, (cuda, begin, end) ->
                Kernels.tp_cuda_qb(cuda, spec, a.data(), q, b, residual));
        productSince(start);
    }

    /** On the thread that calls. */
    void multiply(Product p, Worker worker) {
        long start = System.nanoTime();
        Native.check("tp_multiply", multiplyOnOne(p, worker));
        if (worker.index() == 0) {
            productSince(start);
        }
    }

    private int multiplyOnOne(Product p, Worker worker) {
        MemorySegment spec = lanes[worker.index()].multiplication;
        p.fill(spec);
        return p.run(spec, 0, p.m, worker.scratch());
    }

    /** The same of matrices of one type. */
    void multiply(Gemm.Spec spec, MemorySegment left, MemorySegment right, MemorySegment c) {
        long start = System.nanoTime();
        try (Gemm gemm = new Gemm(spec, executor)) {
            gemm.pack(right).multiply(left, c);
        }
        productSince(start);
    }

    /** C = op(A) op(B), f64 [m, n] without gaps, sums over k; ta and tb say that A and B are transposed: A is [k, m], B [n, k]. */
    public void product(View a, boolean ta, View b, boolean tb, MemorySegment c, long m, long n, long k) {
        a.check("a", ta ? k : m, ta ? m : k, executor);
        b.check("b", tb ? n : k, tb ? k : n, executor);
        room("c", m, n, c);
        try (OneThread _ = oneThread.enter()) {
            multiply(a, ta, b, tb, c, m, n, k);
        }
    }

    /** C - A B<sup>T</sup> in the place of C, f64 [m, n] without gaps; A [m, k], B [n, k]. */
    public void subtractProduct(View a, View b, MemorySegment c, long m, long n, long k) {
        a.check("a", m, k, executor);
        b.check("b", n, k, executor);
        room("c", m, n, c);
        try (OneThread _ = oneThread.enter()) {
            multiply(new Product(a, false, b, true, c, n, m, n, k, false, -1, 1));
        }
    }

    /** G - factor x x<sup>T</sup> in the place of G, f64 [n, n] without gaps; x f64 [n]. */
    public void subtractSquare(long n, double factor, MemorySegment x, MemorySegment g) {
        Native.operand("x", x, DType.F64, 1, n, n, executor);
        room("g", n, n, g);
        try (OneThread _ = oneThread.enter()) {
            multiply(new Product(View.of(x, n), true, View.of(x, n), false, g, n, n, n, 1, false, -factor, 1));
        }
    }

    /** The transposed of A [rows, cols], [cols, rows] without gaps, in the type of A. */
    public void transpose(View a, long rows, long cols, MemorySegment out) {
        a.check("a", rows, cols, executor);
        Native.result("out", out, a.type, cols, rows, rows, executor);
        try (OneThread _ = oneThread.enter()) {
            copy(a, rows, cols, new View(a.type, out, rows), true, 1, MemorySegment.NULL, MemorySegment.NULL);
        }
    }

    /** C = A B or variants; f64 [m, n]. */
    void multiply(View a, boolean ta, View b, boolean tb, MemorySegment c, long m, long n, long k) {
        multiply(new Product(a, ta, b, tb, c, n, m, n, k, false, 1, 0));
    }

    /**
     * The symmetric rank-k update G = A A<sup>T</sup> (A [n, k]), or A<sup>T</sup> A with {@code transposed} (A [k, n]), times
     * {@code factor}: the lower triangle of G [n, n], which is f64 without gaps.
     */
    public void gram(View a, boolean transposed, long n, long k, double factor, MemorySegment g) {
        a.check("a", transposed ? k : n, transposed ? n : k, executor);
        room("g", n, n, g);
        try (OneThread _ = oneThread.enter()) {
            multiply(new Product(a, transposed, a, !transposed, g, n, n, n, k, true, factor, 0));
        }
    }

    /** That the segment has room for f64 [rows, cols] without gaps. */
    private void room(String name, long rows, long cols, MemorySegment segment) {
        Native.result(name, segment, DType.F64, rows, cols, cols, executor);
    }

    // ---- copies, norms ----

    void copy(View in, long rows, long cols, View out, boolean transposed, double factor, MemorySegment order,
            MemorySegment factors) {
        MemorySegment spec = lanes[0].copying;
        fillCopy(spec, in, rows, cols, out, transposed, factor);
        Native.Cost cost = Native.Cost.of(in.type().bytes(rows * cols), out.type().bytes(rows * cols));
        spread("tp_copy_rows", rows, 16, 2.0 * rows * cols, cost, (begin, end, worker) ->
                Kernels.tp_copy_rows(spec, begin, end, order, factors, in.data(), out.data()));
    }

    /** Only the first {@code count} rows of the result; on a device if one of the two lies there. */
    void copy(View in, long rows, long cols, View out, long count, boolean transposed, MemorySegment order,
            MemorySegment factors) {
        MemorySegment spec = lanes[0].copying;
        fillCopy(spec, in, rows, cols, out, transposed, 1);
        Native.Cost cost = Native.Cost.of(in.type().bytes(count * cols), out.type().bytes(count * cols));
        Native.run("tp_copy_rows", Native.near(given, in.data(), out.data()), count, 16, minimum(count, 2.0 * count * cols), cost, (begin, end, worker) ->
                Kernels.tp_copy_rows(spec, begin, end, order, factors, in.data(), out.data()), (cuda, begin, end) ->
                Kernels.tp_cuda_copy_rows(cuda, spec, begin, end, order, factors, in.data(), out.data()));
    }

    private static void fillCopy(MemorySegment spec, View in, long rows, long cols, View out, boolean transposed,
            double factor) {
        tp_copying.rows(spec, rows);
        tp_copying.cols(spec, cols);
        tp_copying.in_stride(spec, in.stride());
        tp_copying.out_stride(spec, out.stride());
        tp_copying.in_type(spec, in.id());
        tp_copying.out_type(spec, out.id());
        tp_copying.transposed(spec, transposed ? 1 : 0);
        tp_copying.factor(spec, factor);
    }

    void copy(View in, long rows, long cols, View out, double factor, Worker worker) {
        MemorySegment spec = lanes[worker.index()].copying;
        fillCopy(spec, in, rows, cols, out, false, factor);
        Native.check("tp_copy_rows", Kernels.tp_copy_rows(spec, 0, rows, MemorySegment.NULL, MemorySegment.NULL,
                in.data(), out.data()));
    }

    /** On the thread that calls. */
    void rowNormsOnOne(View a, long rows, long cols, MemorySegment sums, MemorySegment largest) {
        Native.check("tp_row_norms", Kernels.tp_row_norms(a.id(), rows, cols, a.stride(), 0, rows, a.data(), sums, largest));
    }

    /** Sums of squares of the rows to {@code sums}, largest magnitudes to {@code largest}. */
    void rowNorms(View a, long rows, long cols, MemorySegment sums, MemorySegment largest) {
        Native.Cost cost = Native.Cost.of(a.type().bytes(rows * cols), 16 * rows);
        spread("tp_row_norms", rows, 1, (double) rows * cols, cost, (begin, end, worker) ->
                Kernels.tp_row_norms(a.id(), rows, cols, a.stride(), begin, end, a.data(), sums, largest));
    }

    /**
     * The sum of squares of a matrix, added up row by row.
     *
     * @throws KernelException with {@link KernelException#NONFINITE} if it holds NaN or infinity
     */
    public double sumOfSquares(View a, long rows, long cols) {
        a.check("a", rows, cols, executor);
        try (OneThread _ = oneThread.enter()) {
            return sumOfRows(a, rows, cols);
        }
    }

    private double sumOfRows(View a, long rows, long cols) {
        MemorySegment sums = buffer("sums", Math.max(1, rows));
        MemorySegment largest = buffer("largest", Math.max(1, rows));
        rowNorms(a, rows, cols, sums, largest);
        return sum(sums, rows);
    }

    /** The exponent of the largest magnitude: 2^-exponent brings that to 1 .. 2. Sums of squares of the rows are left in "sums". */
    int exponent(View a, long rows, long cols) {
        MemorySegment largest = buffer("largest", rows);
        rowNorms(a, rows, cols, buffer("sums", rows), largest);
        double most = 0;
        for (long i = 0; i < rows; i++) {
            most = Math.max(most, get(largest, i));
        }
        return most == 0 ? 0 : Math.getExponent(most);
    }

    /** Elements 0 .. n - 1 of the sequence of standard normal numbers with this seed and stream: {@code tp_gaussian}. */
    public void gaussian(long seed, long stream, long n, DType type, MemorySegment out) {
        int id = new View(type, out, 0).id();
        Native.result("out", out, type, 1, n, n, executor);
        try (OneThread _ = oneThread.enter()) {
            spread("tp_gaussian", n, 256, 16.0 * n, Native.Cost.of(0, type.bytes(n)), (begin, end, worker) ->
                    Kernels.tp_gaussian(seed, stream, begin, end, id, out.asSlice(type.bytes(begin))), (cuda, begin, end) ->
                    Kernels.tp_cuda_gaussian(cuda, seed, stream, begin, end, id, out));
        }
    }

    // ---- Householder ----

    /**
     * The reflections of a factorisation, in blocks of {@link #PANEL}: V [count, n] and each block's T. Row i of V is zero from
     * column i on ({@code leading}) or before it.
     */
    record Reflections(long count, long n, MemorySegment v, MemorySegment t, boolean leading) {}

    /**
     * A [rows, n] H_0 H_1 .. = L, in place: the transposed of a QR factorisation.
     *
     * @param name of the buffers for the reflections
     */
    Reflections reflect(long rows, long n, MemorySegment a, String name) {
        long count = Math.min(rows, n);
        MemorySegment v = buffer(name + " v", Math.max(1, count * n));
        MemorySegment t = buffer(name + " t", Math.max(1, (count + PANEL) * PANEL));
        Reflections all = new Reflections(count, n, v, t, false);
        for (long first = 0; first < count; first += PANEL) {
            long width = Math.min(PANEL, count - first);
            long from = first;
            long cols = n - first;
            Native.call("tp_reflect_panel", executor, width, new Native.Cost(8 * width * cols, 16 * width * cols, 2 * width * width * cols), () ->
                    Kernels.tp_reflect_panel(rows, n, n, from, width, a, n, at(v, from * n), at(t, from * PANEL)));
            long after = first + width;
            applyBlock(all, first, false, at(a, after * n), rows - after);
        }
        return all;
    }

    /** X -= ((X V^T) T) V for the rows of X, or with T^T. */
    private void applyBlock(Reflections r, long first, boolean inverse, MemorySegment x, long rows) {
        long width = Math.min(PANEL, r.count - first);
        if (rows <= 0) {
            return;
        }
        MemorySegment p = buffer("reflected", rows * 2 * PANEL);
        MemorySegment q = at(p, rows * PANEL);
        long from = r.leading ? 0 : first;
        long cols = (r.leading ? Math.min(r.n, first + width) : r.n) - from;
        View v = View.of(at(r.v, first * r.n + from), r.n);
        View t = View.of(at(r.t, first * PANEL), width);
        Native.Cost cost = new Native.Cost(8 * (rows * cols + width * cols), 8 * rows * cols, 2 * rows * width * (2 * cols + width));
        // Three products of each range.
        spread("tp_multiply", rows, 8, 2.0 * rows * width * cols, cost, (begin, end, worker) -> {
            long m = end - begin;
            MemorySegment own = at(x, begin * r.n + from);
            MemorySegment a = at(p, begin * PANEL);
            MemorySegment b = at(q, begin * PANEL);
            multiply(new Product(View.of(own, r.n), false, v, true, a, width, m, width, cols, false, 1, 0), worker);
            multiply(new Product(View.of(a, width), false, t, inverse, b, width, m, width, width, false, 1, 0), worker);
            multiply(new Product(View.of(b, width), false, v, false, own, r.n, m, cols, width, false, -1, 1), worker);
            return 0;
        });
    }

    /** X H_0 H_1 .. for the rows of X [rows, n]; with {@code inverse} X .. H_1 H_0. */
    void apply(Reflections r, boolean inverse, MemorySegment x, long rows) {
        for (long k = 0; k < r.count; k += PANEL) {
            long last = (r.count - 1) / PANEL * PANEL;
            applyBlock(r, inverse ? last - k : k, inverse, x, rows);
        }
    }

    /** Rows [from, to) of Q^T, Q = H_0 H_1 ..: orthonormal. */
    void orthogonalRows(Reflections r, long from, long to, MemorySegment out) {
        out.asSlice(0, (to - from) * r.n * 8).fill((byte) 0);
        for (long i = from; i < to; i++) {
            out.setAtIndex(JAVA_DOUBLE, (i - from) * r.n + i, 1);
        }
        apply(r, true, out, to - from);
    }

    /**
     * Orthonormal rows with the span of the rows of X [rows, n], rows at most n, in place, f64 without gaps: CholeskyQR2
     * (Fukaya et al., 2014), or Householder reflections where a Gram matrix is not safely positive definite.
     *
     * @return whether CholeskyQR2 sufficed
     */
    public boolean orthonormalize(long rows, long n, MemorySegment x) {
        if (rows > n) {
            throw new IllegalArgumentException("no " + rows + " orthonormal vectors of length " + n);
        }
        room("x", rows, n, x);
        if (rows == 0) {
            return true;
        }
        try (OneThread _ = oneThread.enter()) {
            return orthonormal(rows, n, x);
        }
    }

    private boolean orthonormal(long rows, long n, MemorySegment x) {
        MemorySegment g = buffer("cholesky", rows * rows);
        MemorySegment y = buffer("orthonormal", rows * n);
        MemorySegment from = x;
        for (int pass = 0; pass < 2; pass++) {
            gram(View.of(from, n), false, rows, n, 1, g);
            // The second Gram matrix is nearly the unit matrix if the first factor was accurate to half the digits.
            if (!cholesky(rows, g) || pass == 0 && !safe(rows, g, 1e-6)) {
                Reflections r = reflect(rows, n, x, "orthonormalize");
                orthogonalRows(r, 0, rows, x);
                return false;
            }
            MemorySegment to = pass == 0 ? y : x;
            multiply(View.of(inverse(rows, g), rows), true, View.of(from, n), false, to, rows, n, rows);
            from = to;
        }
        return true;
    }

    /** Cholesky's factor in place; false if the matrix is not definite, or not safely in f32. */
    boolean factor(long n, MemorySegment g) {
        return cholesky(n, g) && safe(n, g, 1e-4);
    }

    /** Rows Y = L<sup>-1</sup> X in f32, n by cols. The inverse of L is formed, so L should be well conditioned. */
    void unravel(long n, long cols, MemorySegment l, MemorySegment x, MemorySegment y) {
        MemorySegment inverse = inverse(n, l);
        MemorySegment narrow = buffer("narrow inverse", n * n);
        copy(View.of(inverse, n), n, n, new View(DType.F32, narrow, n), true, 1, MemorySegment.NULL, MemorySegment.NULL);
        multiply(Gemm.Spec.of(DType.F32, Gemm.Form.AB, n, cols, n), narrow, x, y);
    }

    /** The transposed of L<sup>-1</sup>: the solutions of Y L<sup>T</sup> = I. */
    private MemorySegment inverse(long n, MemorySegment l) {
        MemorySegment inverse = buffer("inverse", n * n);
        inverse.asSlice(0, n * n * 8).fill((byte) 0);
        for (long i = 0; i < n; i++) {
            inverse.setAtIndex(JAVA_DOUBLE, i * n + i, 1);
        }
        solve(n, l, n, inverse);
        return inverse;
    }

    /**
     * Cholesky's factor in the lower triangle, in place; what is above is left over. Some columns at a time, the others being made up for by
     * products. No device takes part, whose products have other last bits.
     *
     * @param g f64 [n, n]
     * @return false if the matrix is not definite: {@code tp_cholesky}
     */
    public boolean cholesky(long n, MemorySegment g) {
        if (n <= FACTORED_AT_ONCE) {
            return cholesky(n, n, g);
        }
        double limit = 0;
        for (long i = 0; i < n; i++) {
            limit = Math.max(limit, n * 0x1p-53 * get(g, i * n + i));
        }
        for (long first = 0; first < n; first += FACTORED) {
            long size = Math.min(FACTORED, n - first);
            long rest = n - first - size;
            MemorySegment block = at(g, first * n + first);
            if (first > 0) {
                View rows = View.of(at(g, first * n), n);
                multiply(new Product(rows, false, rows, true, block, n, n - first, size, first, false, -1, 1), false);
            }
            if (!cholesky(size, n, block)) {
                return false;
            }
            for (long i = first; i < first + size; i++) {
                double root = get(g, i * n + i);
                if (!(root * root > limit)) {
                    return false;
                }
            }
            if (rest > 0) {
                MemorySegment below = at(block, size * n);
                Native.Cost cost = new Native.Cost(4 * size * (size + 1) + 8 * rest * size, 8 * rest * size, rest * size * size);
                spread("tp_triangular_solve", rest, 4, 0.5 * rest * size * size, cost, (begin, end, worker) ->
                        Kernels.tp_triangular_solve(size, n, block, 0, n, begin, end, below));
            }
        }
        return true;
    }

    private boolean cholesky(long n, long stride, MemorySegment g) {
        boolean[] definite = {true};
        long triangle = 4 * n * (n + 1);
        Native.call("tp_cholesky", executor, n, new Native.Cost(triangle, triangle, n * n * n / 3), () -> {
            int status = Kernels.tp_cholesky(n, stride, g);
            definite[0] = status != Kernels.TP_ERR_INDEFINITE();
            return definite[0] ? status : 0;
        });
        return definite[0];
    }

    /** Whether the diagonal of L shows a condition below about 1 / limit: with 1e-6, one pass leaves errors of at most 1e-2. */
    private static boolean safe(long n, MemorySegment l, double limit) {
        double least = Double.MAX_VALUE;
        double most = 0;
        for (long i = 0; i < n; i++) {
            least = Math.min(least, get(l, i * n + i));
            most = Math.max(most, get(l, i * n + i));
        }
        return least > most * limit;
    }

    /** Rows of X [rows, n]: X L^T = B in place, L lower triangular. */
    public void solve(long n, MemorySegment l, long rows, MemorySegment x) {
        Native.operand("l", l, DType.F64, n, n, n, executor);
        room("x", rows, n, x);
        try (OneThread _ = oneThread.enter()) {
            Native.Cost cost = new Native.Cost(4 * n * (n + 1) + 8 * rows * n, 8 * rows * n, rows * n * n);
            spread("tp_triangular_solve", rows, 4, 0.5 * rows * n * n, cost, (begin, end, worker) ->
                    Kernels.tp_triangular_solve(n, n, l, 0, n, begin, end, x));
        }
    }

    // ---- symmetric eigenproblem ----

    /** Rows that one thread reduces before all of them update what is left. */
    private static final int TRIDIAGONAL = 32;
    /** Rows of a tridiagonal matrix that are one thread's: {@link #SCRATCH} suffices for them. */
    private static final int PART = 256;

    /**
     * Eigenvalues and eigenvectors of a symmetric matrix by tridiagonalisation and divide and conquer.
     *
     * @param a lower triangle of [n, n]; destroyed
     * @param values n eigenvalues, descending
     * @param z [n, n]: row i is the i-th eigenvector
     */
    public void symmetricEigen(long n, MemorySegment a, MemorySegment values, MemorySegment z) {
        room("a", n, n, a);
        room("values", 1, n, values);
        room("z", n, n, z);
        if (n == 0) {
            return;
        }
        try (OneThread _ = oneThread.enter()) {
            eigen(n, a, values, z);
        }
    }

    private void eigen(long n, MemorySegment a, MemorySegment values, MemorySegment z) {
        MemorySegment d = buffer("eigen d", n);
        MemorySegment e = buffer("eigen e", n);
        MemorySegment tau = buffer("eigen tau", n);
        MemorySegment q = buffer("eigen q", n * n);
        tau.setAtIndex(JAVA_DOUBLE, 0, 0);
        q.asSlice(0, n * 8).fill((byte) 0);
        tridiagonalize(n, a, d, e, q, tau);
        conquer(n, d, e, values, z);
        MemorySegment t = buffer("eigen t", (n + PANEL) * PANEL);
        long blocks = (n + PANEL - 1) / PANEL;
        Native.Cost cost = new Native.Cost(4 * n * n, 8 * n * PANEL, n * n * PANEL);
        Native.run("tp_reflect_factor", executor, blocks, 1, 1, cost, (begin, end, worker) -> {
            int status = 0;
            for (long b = begin; b < end && status == 0; b++) {
                long first = b * PANEL;
                long width = Math.min(PANEL, n - first);
                status = Kernels.tp_reflect_factor(width, first + width, n, at(q, first * n), at(tau, first), at(t, first * PANEL));
            }
            return status;
        });
        apply(new Reflections(n, n, q, t, true), false, z, n);
    }

    /**
     * Eigenvalues alone: a fraction of the work.
     *
     * @param a lower triangle of [n, n]; destroyed
     * @param values n eigenvalues, descending
     */
    public void symmetricEigenvalues(long n, MemorySegment a, MemorySegment values) {
        room("a", n, n, a);
        room("values", 1, n, values);
        if (n == 0) {
            return;
        }
        try (OneThread _ = oneThread.enter()) {
            eigenvalues(n, a, values);
        }
    }

    private void eigenvalues(long n, MemorySegment a, MemorySegment values) {
        MemorySegment e = buffer("eigen e", n);
        MemorySegment d = buffer("eigen d", n);
        tridiagonalize(n, a, d, e, buffer("eigen q", n * n), buffer("eigen tau", n));
        // 30 n^2 and 6 n^3 operations without and with vectors: Golub and Van Loan, Matrix Computations, 8.3.
        Native.call("tp_tridiagonal_ql", executor, n, new Native.Cost(16 * n, 8 * n, 30 * n * n), () ->
                Kernels.tp_tridiagonal_ql(n, d, e, 0, 0, MemorySegment.NULL));
        for (long i = 0; i < n; i++) {
            values.setAtIndex(JAVA_DOUBLE, i, get(d, n - 1 - i));
        }
    }

    private void tridiagonalize(long n, MemorySegment a, MemorySegment d, MemorySegment e, MemorySegment q,
            MemorySegment tau) {
        MemorySegment vw = buffer("eigen vw", 2 * TRIDIAGONAL * n);
        MemorySegment wv = buffer("eigen wv", 2 * TRIDIAGONAL * n);
        MemorySegment y = buffer("eigen y", 2 * n);
        for (long last = n; last > 1; ) {
            long count = Math.min(TRIDIAGONAL, last - 1);
            long end = last;
            // Its header says that it reads half of A for each row.
            Native.Cost cost = new Native.Cost(4 * count * last * last, 48 * count * last, 2 * count * last * last);
            Native.call("tp_tridiagonal_panel", executor, count, cost, () ->
                    Kernels.tp_tridiagonal_panel(n, n, end, count, a, d, e, n, q, tau, vw, wv, y));
            last -= count;
            multiply(new Product(View.of(vw, n), true, View.of(wv, n), false, a, n, last, last, 2 * count, true, -1, 1));
        }
        d.setAtIndex(JAVA_DOUBLE, 0, get(a, 0));
    }

    /** Arrays of one merge, at the merge's own offset in arrays for all. */
    private final class Merge {
        final long n;
        final long off;
        final long split;
        final MemorySegment d;
        final MemorySegment e;
        final MemorySegment q;

        Merge(long total, long off, long size, MemorySegment d, MemorySegment e, MemorySegment q) {
            this.n = total;
            this.off = off;
            this.split = size / 2;
            this.d = d;
            this.e = e;
            this.q = q;
        }

        /** @param descending order of the result */
        void run(long size, boolean descending) {
            long coupling = off + split - 1;
            double rho = get(e, coupling);
            MemorySegment own = at(q, off * n + off);
            MemorySegment dOwn = at(d, off);
            MemorySegment z = at(buffers.get("merge z"), off);
            MemorySegment keptD = at(buffers.get("merge d"), off);
            MemorySegment keptZ = at(buffers.get("merge kept z"), off);
            MemorySegment lambda = at(buffers.get("merge lambda"), off);
            MemorySegment weights = at(buffers.get("merge weights"), off);
            MemorySegment order = at(buffers.get("merge order"), off);
            MemorySegment slots = at(buffers.get("merge slots"), off);
            MemorySegment bySlot = at(buffers.get("merge by slot"), off);
            MemorySegment ints = at(buffers.get("merge ints"), 2 * off);
            MemorySegment counts = at(buffers.get("merge counts"), 4 * off);
            MemorySegment delta = at(buffers.get("merge delta"), off * n);
            MemorySegment s = at(buffers.get("merge s"), off * n);
            MemorySegment gathered = at(buffers.get("merge rows"), off * n + off);
            MemorySegment result = delta;
            double half = Math.sqrt(0.5);
            for (long i = 0; i < size; i++) {
                z.setAtIndex(JAVA_DOUBLE, i, i < split ? half * get(own, i * n + split - 1)
                        : half * Math.copySign(1, rho) * get(own, i * n + split));
            }
            // The norm of the whole is about 1: far less couples nothing.
            if (Math.abs(rho) < 0x1p-400) {
                counts.setAtIndex(JAVA_LONG, 0, 0);
                for (long i = 0; i < size; i++) {
                    order.setAtIndex(JAVA_LONG, i, i);
                    slots.setAtIndex(JAVA_LONG, i, i);
                    keptD.setAtIndex(JAVA_DOUBLE, i, get(dOwn, i));
                }
            } else {
                Native.call("tp_merge_deflate", executor, size, Native.Cost.of(16 * size, 32 * size), () ->
                        Kernels.tp_merge_deflate(size, split, 2 * Math.abs(rho), dOwn, z, n, own, keptD, keptZ, order, slots, ints,
                                counts, counts.asSlice(8), counts.asSlice(16)));
            }
            long count = counts.getAtIndex(JAVA_LONG, 0);
            long first = counts.getAtIndex(JAVA_LONG, 1);
            long second = counts.getAtIndex(JAVA_LONG, 2);
            double work = 8.0 * count * count;
            long square = 8 * count * count;
            // Some five steps for each root, of two divisions and four more operations for each term.
            Native.Cost roots = new Native.Cost(16 * count, square + 8 * count, 30 * count * count);
            spread("tp_merge_roots", count, 8, 10 * work, roots, (begin, end, w) ->
                    Kernels.tp_merge_roots(count, 2 * Math.abs(rho), keptD, keptZ, begin, end, lambda, delta));
            spread("tp_merge_weights", count, 8, work, Native.Cost.of(square + 16 * count, 8 * count), (begin, end, w) ->
                    Kernels.tp_merge_weights(count, keptD, keptZ, delta, begin, end, weights));
            spread("tp_merge_vectors", count, 8, work, Native.Cost.of(square + 16 * count, square), (begin, end, w) ->
                    Kernels.tp_merge_vectors(count, weights, delta, slots, begin, end, s));
            for (long i = 0; i < size; i++) {
                bySlot.setAtIndex(JAVA_LONG, slots.getAtIndex(JAVA_LONG, i), order.getAtIndex(JAVA_LONG, i));
            }
            // Rows of Q by slot; delta is not needed any more and takes the result.
            View rows = View.of(gathered, n);
            copy(View.of(own, n), size, size, rows, false, 1, bySlot, MemorySegment.NULL);
            if (count > 0) {
                multiply(new Product(View.of(s, count), false, rows, false, result, size, count, split, second, false, 1, 0));
                multiply(new Product(View.of(at(s, first), count), false, View.of(at(gathered, first * n + split), n), false,
                        at(result, split), size, count, size - split, count - first, false, 1, 0));
            }
            // Back in the order of the eigenvalues: first those of the product, then the rows that were left alone.
            Long[] sorted = new Long[(int) size];
            double[] value = new double[(int) size];
            for (int i = 0; i < size; i++) {
                sorted[i] = (long) i;
                value[i] = i < count ? get(lambda, i) : get(keptD, i);
            }
            Arrays.sort(sorted, (x, y) -> Double.compare(value[descending ? y.intValue() : x.intValue()],
                    value[descending ? x.intValue() : y.intValue()]));
            for (int i = 0; i < size; i++) {
                order.setAtIndex(JAVA_LONG, i, sorted[i]);
                dOwn.setAtIndex(JAVA_DOUBLE, i, value[sorted[i].intValue()]);
            }
            spread(size, 8, 0.5 * size * size, (begin, end, w) -> {
                for (long i = begin; i < end; i++) {
                    long row = order.getAtIndex(JAVA_LONG, i);
                    MemorySegment from = row < count ? at(result, row * size) : at(gathered, row * n);
                    MemorySegment.copy(from, 0, own, i * n * 8, size * 8);
                }
            });
        }
    }

    private void conquer(long n, MemorySegment d, MemorySegment e, MemorySegment values, MemorySegment q) {
        for (String name : new String[] {"z", "d", "kept z", "lambda", "weights", "order", "slots", "by slot"}) {
            buffer("merge " + name, n);
        }
        buffer("merge ints", 2 * n);
        buffer("merge counts", 4 * n);
        buffer("merge delta", n * n);
        buffer("merge s", n * n);
        buffer("merge rows", n * n);
        int exponent = takeExponent(n, d, e);
        long[][] levels = levels(n);
        // Tear the matrix at every boundary there will be.
        long[] finest = levels[levels.length - 1];
        for (int i = 1; i + 1 < finest.length; i++) {
            long at = finest[i];
            double coupling = Math.abs(get(e, at - 1));
            d.setAtIndex(JAVA_DOUBLE, at - 1, get(d, at - 1) - coupling);
            d.setAtIndex(JAVA_DOUBLE, at, get(d, at) - coupling);
        }
        spread(n, 1, 0.25 * n * n, (begin, end, worker) ->
                q.asSlice(begin * n * 8, (end - begin) * n * 8).fill((byte) 0));
        MemorySegment couplings = buffer("merge couplings", n);
        MemorySegment.copy(e, 0, couplings, 0, n * 8);
        long squares = 0;
        long cubes = 0;
        for (int i = 0; i + 1 < finest.length; i++) {
            long part = finest[i + 1] - finest[i];
            squares += part * part;
            cubes += part * part * part;
        }
        Native.Cost cost = new Native.Cost(16 * n, 8 * squares, 6 * cubes);
        Native.run("tp_tridiagonal_conquer", executor, finest.length - 1, 1, 1, SCRATCH, cost, (begin, end, worker) -> {
            int status = 0;
            for (int i = (int) begin; i < end && status == 0; i++) {
                long off = finest[i];
                status = Kernels.tp_tridiagonal_conquer(finest[i + 1] - off, at(d, off), at(e, off), n, at(q, off * n + off),
                        worker.scratch());
            }
            return status;
        });
        for (int level = levels.length - 2; level >= 0; level--) {
            long[] bounds = levels[level];
            for (int i = 0; i + 1 < bounds.length; i++) {
                long size = bounds[i + 1] - bounds[i];
                new Merge(n, bounds[i], size, d, couplings, q).run(size, level == 0);
            }
        }
        if (levels.length == 1) {
            reverse(n, d, q);
        }
        for (long i = 0; i < n; i++) {
            values.setAtIndex(JAVA_DOUBLE, i, Math.scalb(get(d, i), exponent));
        }
    }

    /** Scales a tridiagonal matrix by a power of two to a norm of about 1, which merges need. Returns the exponent it had. */
    private static int takeExponent(long n, MemorySegment d, MemorySegment e) {
        double largest = 0;
        for (long i = 0; i < n; i++) {
            largest = Math.max(largest, Math.max(Math.abs(get(d, i)), i + 1 < n ? Math.abs(get(e, i)) : 0));
        }
        int exponent = largest == 0 ? 0 : Math.getExponent(largest);
        for (long i = 0; i < n; i++) {
            d.setAtIndex(JAVA_DOUBLE, i, Math.scalb(get(d, i), -exponent));
            if (i + 1 < n) {
                e.setAtIndex(JAVA_DOUBLE, i, Math.scalb(get(e, i), -exponent));
            }
        }
        return exponent;
    }

    /** Boundaries of the parts, level by level, each level halving those of the one before, down to {@link #PART}. */
    private static long[][] levels(long n) {
        int depth = 1;
        for (long size = n; size > PART; size = (size + 1) / 2) {
            depth++;
        }
        long[][] levels = new long[depth][];
        levels[0] = new long[] {0, n};
        for (int i = 1; i < depth; i++) {
            long[] above = levels[i - 1];
            long[] below = new long[above.length * 2 - 1];
            for (int k = 0; k + 1 < above.length; k++) {
                below[2 * k] = above[k];
                below[2 * k + 1] = above[k] + (above[k + 1] - above[k]) / 2;
            }
            below[below.length - 1] = n;
            levels[i] = below;
        }
        return levels;
    }

    private void swap(MemorySegment rows, long i, long j, long n) {
        MemorySegment row = buffer("swap", n);
        MemorySegment.copy(rows, i * n * 8, row, 0, n * 8);
        MemorySegment.copy(rows, j * n * 8, rows, i * n * 8, n * 8);
        MemorySegment.copy(row, 0, rows, j * n * 8, n * 8);
    }

    private void reverse(long n, MemorySegment d, MemorySegment q) {
        for (long i = 0, j = n - 1; i < j; i++, j--) {
            swap(d, i, j, 1);
            swap(q, i, j, n);
        }
    }
}
