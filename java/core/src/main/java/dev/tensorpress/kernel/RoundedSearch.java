package dev.tensorpress.kernel;

import dev.tensorpress.kernel.LinearAlgebra.Product;
import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/**
 * Block Lanczos iteration with A rounded: it leads to the space of the leading left vectors. Vectors are f32, Gram matrices of
 * one block f64. Nothing here decides the accuracy of a result, only how good the space is.
 */
final class RoundedSearch {
    private final LinearAlgebra la;
    final Rounded a;
    final long room;
    final long seed;
    final MemorySegment q;
    /** Z Z^T: its lower triangle, block tridiagonal. Rounding does couple other blocks too; that is left out. */
    final InnerProducts t;
    /** Q^T A, rounded. */
    final MemorySegment z;
    /** Of the rows of Z: the squared distance from Q^T A. */
    double lost;

    RoundedSearch(LinearAlgebra la, Rounded a, long room, long seed) {
        this.la = la;
        this.a = a;
        this.room = room;
        this.seed = seed;
        q = la.buffer("search q", room * a.rows);
        t = new InnerProducts(la, "search t", room);
        z = la.buffer("search z", room * a.cols);
    }

    /** One block more; false if there is no such block in f32. */
    boolean step() {
        long block = a.block;
        long size = t.size;
        MemorySegment right = la.buffer("search right", block * a.cols);
        MemorySegment own = q.asSlice(DType.F32.bytes(size * a.rows));
        MemorySegment ownZ = z.asSlice(DType.F32.bytes(size * a.cols));
        MemorySegment g = la.buffer("search gram", block * block);
        if (size == 0) {
            la.gaussian(seed, 0, block * a.cols, DType.F32, right);
        } else {
            la.copy(View.of(t.from(size - block, size - block), t.stride()), block, block, View.of(g, block), false, 1,
                    MemorySegment.NULL, MemorySegment.NULL);
            if (!la.factor(block, g)) {
                return false;
            }
            la.unravel(block, a.cols, g, z.asSlice(DType.F32.bytes((size - block) * a.cols)), right);
        }
        MemorySegment left = la.buffer("search left", block * a.rows);
        a.forward(right, left);
        // Twice, since what the others lack in orthogonality is multiplied by how much is taken off.
        project(left);
        project(left);
        la.gram(new View(DType.F32, left, a.rows), false, block, a.rows, 1, g);
        if (!la.factor(block, g)) {
            return false;
        }
        la.unravel(block, a.rows, g, left, own);
        lost += a.backward(own, ownZ);
        for (long i = size; i < size + block; i++) {
            t.from(i, 0).asSlice(0, size * 8).fill((byte) 0);
        }
        if (size > 0) {
            MemorySegment across = la.buffer("search across", block * block);
            MemorySegment lastZ = z.asSlice(DType.F32.bytes((size - block) * a.cols));
            la.multiply(Gemm.Spec.of(DType.F32, Gemm.Form.ABT, block, block, a.cols), ownZ, lastZ, across);
            la.copy(new View(DType.F32, across, block), block, block, View.of(t.from(size, size - block),
                    t.stride()), false, 1, MemorySegment.NULL, MemorySegment.NULL);
        }
        la.multiply(new Product(new View(DType.F32, ownZ, a.cols), false, new View(DType.F32, ownZ, a.cols), true,
                t.from(size, size), t.stride(), block, block, a.cols, true, 1, 0));
        t.grow(block);
        return true;
    }

    /** Takes the components along the rows of Q off. */
    private void project(MemorySegment left) {
        long size = t.size;
        if (size == 0) {
            return;
        }
        long block = a.block;
        MemorySegment along = la.buffer("search along", block * room);
        View minus = new View(DType.F32, along, size);
        la.multiply(Gemm.Spec.of(DType.F32, Gemm.Form.ABT, block, size, a.rows), left, q, along);
        la.copy(minus, block, size, minus, false, -1, MemorySegment.NULL, MemorySegment.NULL);
        la.multiply(Gemm.Spec.of(DType.F32, Gemm.Form.AB, block, a.rows, size).accumulating(), along, q, left);
    }

    /** The leading left vectors found, as rows. */
    void vectors(long rank, MemorySegment lefts) {
        long size = t.size;
        MemorySegment values = la.buffer("values", size);
        MemorySegment vectors = la.buffer("vectors", size * size);
        t.eigen(values, vectors);
        MemorySegment turn = la.buffer("search turn", rank * size);
        la.copy(View.of(vectors, size), rank, size, new View(DType.F32, turn, size), false, 1, MemorySegment.NULL,
                MemorySegment.NULL);
        la.multiply(Gemm.Spec.of(DType.F32, Gemm.Form.AB, rank, a.rows, size), turn, q, lefts);
    }

    /** Their products with A rounded. */
    void products(long rank, MemorySegment out) {
        la.multiply(Gemm.Spec.of(DType.F32, Gemm.Form.AB, rank, a.cols, t.size), la.buffer("search turn", rank * t.size), z, out);
    }
}
