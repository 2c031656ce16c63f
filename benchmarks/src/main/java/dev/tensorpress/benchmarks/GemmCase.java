package dev.tensorpress.benchmarks;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Gemm.Form;
import dev.tensorpress.kernel.Gemm.Spec;
import dev.tensorpress.tensor.DType;

/**
 * What is timed of dense products. All compute the same C of a type, from A or B transposed if so named. Ours has B packed
 * before, as a weight would be, or packs it at each run; oneDNN is given B as it is. int8 is u8 below 128 times s8, which oneDNN
 * multiplies exactly on every processor.
 */
public enum GemmCase {
    F32(ours(DType.F32, Form.AB, false)),
    F32_PACKING(ours(DType.F32, Form.AB, true)),
    F32_ATB(ours(DType.F32, Form.ATB, false)),
    F32_ABT(ours(DType.F32, Form.ABT, false)),
    F32_ABT_PACKING(ours(DType.F32, Form.ABT, true)),
    ONEDNN_F32(GemmWork.Matmul::new),
    /** Its BLAS interface. */
    ONEDNN_SGEMM(GemmWork.Sgemm::new),
    INT8(ours(DType.I8, Form.AB, false)),
    INT8_PACKING(ours(DType.I8, Form.AB, true)),
    ONEDNN_INT8(GemmWork.MatmulInt8::new);

    private final Maker maker;

    @FunctionalInterface
    private interface Maker {
        GemmWork make(long m, long n, long k, Executor executor);
    }

    GemmCase(Maker maker) {
        this.maker = maker;
    }

    private static Maker ours(DType type, Form form, boolean packing) {
        return (m, n, k, executor) -> new GemmWork.Ours(Spec.of(type, form, m, n, k), packing, executor);
    }

    /** False if it needs a library that is not there. */
    boolean available() {
        return !name().startsWith("ONEDNN_") || Case.ONEDNN_ROW.available();
    }

    /**
     * Allocates, runs once and checks the result.
     *
     * @param executor must outlive the work
     * @throws IllegalStateException if the result is wrong
     */
    GemmWork prepare(long m, long n, long k, Executor executor) {
        GemmWork work = maker.make(m, n, k, executor);
        try {
            work.run();
            work.check();
        } catch (RuntimeException | Error e) {
            work.close();
            throw e;
        }
        return work;
    }
}
