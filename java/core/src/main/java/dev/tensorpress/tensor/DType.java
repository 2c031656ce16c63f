package dev.tensorpress.tensor;

/** Element types that model files hold. Multi-byte types are little-endian; types below eight bits pack low bits first. */
public enum DType {
    F64(64), F32(32), F16(16), BF16(16), F8E4M3(8), F8E5M2(8), F8E4M3FNUZ(8), F8E5M2FNUZ(8), F8E8M0(8),
    F6E2M3(6), F6E3M2(6), F4(4), C64(64),
    I64(64), I32(32), I16(16), I8(8), I4(4),
    U64(64), U32(32), U16(16), U8(8), U4(4),
    BOOL(8);

    private final int bits;

    DType(int bits) {
        this.bits = bits;
    }

    /** Bits that one element takes. */
    public int bits() {
        return bits;
    }

    /**
     * Bytes that {@code elements} packed elements take; the last byte may be part empty.
     *
     * @throws ArithmeticException if the number does not fit in a {@code long}
     */
    public long bytes(long elements) {
        return bits >= 8 ? Math.multiplyExact(elements, bits / 8)
                : elements / 8 * bits + (elements % 8 * bits + 7) / 8;
    }

    /** True for the types whose values the kernels read: f32, f16, bf16. */
    public boolean compressible() {
        return this == F32 || this == F16 || this == BF16;
    }

    /** True for signed integer types. */
    public boolean signed() {
        return this == I64 || this == I32 || this == I16 || this == I8 || this == I4;
    }
}
