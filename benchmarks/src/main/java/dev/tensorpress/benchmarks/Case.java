package dev.tensorpress.benchmarks;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.OneDnn;
import dev.tensorpress.kernel.Quantize.Spec;
import dev.tensorpress.tensor.DType;

/** What is timed. The baselines are part of the list: they are timed beside the rest, never apart. */
public enum Case {
    STREAM("stream: reads four bytes, writes one", StreamWork::new),
    ONEDNN_ROW("oneDNN reorder: int8 per row, scales given", OneDnnWork::new),
    GIVEN_ROW("int8 per row, scales given", (in, executor) -> new QuantizeWork.Given(in, spec(in, row()), executor)),
    ROW("int8 per row", quantize(row())),
    COLUMN("int8 per column", quantize(int8(1, 0))),
    TENSOR("int8 per tensor", quantize(int8(-1, 0))),
    BLOCK32("int8, blocks of 32 along rows", quantize(int8(1, 32))),
    NBITS8("int8 for MatMulNBits: blocks of 64 down columns, transposed", quantize(nbits(8, 64, true))),
    INT4("int4, blocks of 32 along rows, asymmetric", quantize(int4())),
    INT4_CLIP("int4 as above, with clip search", clipped(int4())),
    NBITS4("int4 for MatMulNBits: blocks of 32 down columns, asymmetric, transposed", quantize(nbits(4, 32, false))),
    NBITS4_CLIP("int4 for MatMulNBits as above, with clip search", clipped(nbits(4, 32, false))),
    F16_ROW("int8 per row, from f16", converted(DType.F16)),
    BF16_ROW("int8 per row, from bf16", converted(DType.BF16)),
    DEQUANTIZE_ROW("int8 per row, back to f32", (in, executor) ->
            new QuantizeWork.Dequantize(in, spec(in, row()), executor)),
    ERROR_ROW("error of int8 per row", (in, executor) -> new QuantizeWork.Error(in, spec(in, row()), executor));

    private final String description;
    private final Maker maker;

    @FunctionalInterface
    private interface Maker {
        Work make(Matrix in, Executor executor);
    }

    Case(String description, Maker maker) {
        this.description = description;
        this.maker = maker;
    }

    /** A line of a table. */
    String description() {
        return description;
    }

    /** True if it runs the kernels of the active tier. */
    boolean ofTier() {
        return this != ONEDNN_ROW;
    }

    /** False if it needs a library that is not there. */
    boolean available() {
        if (this != ONEDNN_ROW) {
            return true;
        }
        try {
            return !OneDnn.version().isEmpty();
        } catch (LinkageError e) {
            return false;
        }
    }

    /**
     * Allocates, runs once and checks the result.
     *
     * @param in f32; must outlive the work, and so must the executor
     * @throws IllegalStateException if the result is wrong
     */
    Work prepare(Matrix in, Executor executor) {
        Work work = maker.make(in, executor);
        try {
            work.run();
            work.check();
        } catch (RuntimeException | Error e) {
            work.close();
            throw e;
        }
        return work;
    }

    private static Maker quantize(Form.Quantized form) {
        return (in, executor) -> new QuantizeWork(in, spec(in, form), executor);
    }

    /** The clip search of recipe int4. */
    private static Maker clipped(Form.Quantized form) {
        return (in, executor) -> new QuantizeWork(in, spec(in, form).clip(20, 0.5f), executor);
    }

    private static Maker converted(DType type) {
        return (in, executor) -> {
            Matrix narrow = in.to(type);
            return new QuantizeWork(narrow, spec(narrow, row()), executor) {
                @Override
                public void close() {
                    super.close();
                    narrow.close();
                }
            };
        };
    }

    private static Spec spec(Matrix in, Form.Quantized form) {
        return form.spec(in.type, in.shape());
    }

    private static Form.Quantized row() {
        return int8(0, 0);
    }

    private static Form.Quantized int8(int axis, int block) {
        return new Form.Quantized(8, axis, block, true, Form.Activations.FLOAT, DType.I8, DType.F32, false, false);
    }

    private static Form.Quantized int4() {
        return new Form.Quantized(4, 1, 32, false, Form.Activations.FLOAT, DType.U4, DType.F32, false, false);
    }

    /** What the operator MatMulNBits of ONNX Runtime reads. */
    private static Form.Quantized nbits(int bits, int block, boolean symmetric) {
        return new Form.Quantized(bits, 0, block, symmetric, Form.Activations.FLOAT, bits == 8 ? DType.U8 : DType.U4, DType.F32, true, true);
    }
}
