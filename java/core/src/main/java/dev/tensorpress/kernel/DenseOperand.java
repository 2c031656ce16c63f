package dev.tensorpress.kernel;

import dev.tensorpress.kernel.LinearAlgebra.View;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;

/** A matrix in memory. */
record DenseOperand(LinearAlgebra la, View a, long rows, long cols) implements Operand {
    @Override
    public DType type() {
        return a.type();
    }

    @Override
    public void forward(View x, MemorySegment y, long count) {
        DType type = a.type();
        MemorySegment operand = la.buffer("krylov operand", count * Math.max(rows, cols));
        la.copy(x, count, cols, new View(type, operand, cols), false, 1, MemorySegment.NULL, MemorySegment.NULL);
        MemorySegment product = la.buffer("krylov product", count * Math.max(rows, cols));
        la.multiply(new Gemm.Spec(type, Gemm.Form.ABT, rows, count, cols, a.stride(), cols, count, false), a.data(), operand, product);
        la.copy(new View(type, product, count), rows, count, new View(type, y, rows), true, 1, MemorySegment.NULL, MemorySegment.NULL);
    }

    @Override
    public void backward(MemorySegment y, MemorySegment x, long count) {
        DType type = a.type();
        MemorySegment operand = la.buffer("krylov operand", count * Math.max(rows, cols));
        MemorySegment product = la.buffer("krylov product", count * Math.max(rows, cols));
        la.copy(new View(type, y, rows), count, rows, new View(type, operand, count), true, 1, MemorySegment.NULL, MemorySegment.NULL);
        la.multiply(new Gemm.Spec(type, Gemm.Form.ATB, cols, count, rows, a.stride(), count, count, false), a.data(), operand, product);
        la.copy(new View(type, product, count), cols, count, new View(type, x, cols), true, 1, MemorySegment.NULL, MemorySegment.NULL);
    }
}
