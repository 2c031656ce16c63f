package dev.tensorpress.model.onnx;

import dev.tensorpress.tensor.DType;

/** A TensorProto: what it is and where its data lies. Positions are bytes of the model file. */
final class TensorInfo {
    // TensorProto.DataType
    static final int FLOAT = 1;
    static final int UINT8 = 2;
    static final int INT8 = 3;
    static final int UINT16 = 4;
    static final int INT16 = 5;
    static final int INT32 = 6;
    static final int INT64 = 7;
    static final int STRING = 8;
    static final int BOOL = 9;
    static final int FLOAT16 = 10;
    static final int DOUBLE = 11;
    static final int BFLOAT16 = 16;
    static final int UINT4 = 21;
    static final int INT4 = 22;
    private static final int[] BITS = {0, 32, 8, 8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64, 64, 128, 16, 8, 8, 8, 8, 4, 4, 4};

    /** The field that holds it, tag included, and its content. */
    long fieldStart;
    long start;
    long end;
    String name = "";
    long[] dims = {};
    long elements;
    int type;
    boolean hasRaw;
    long rawStart;
    long rawLength;
    /** Numbers in the typed field that this type uses; if all lie in one packed run, where. */
    long typedCount;
    long typedStart = -1;
    boolean typedContiguous = true;
    boolean external;
    String location;
    long externalOffset;
    /** -1 if not given. */
    long externalLength = -1;

    DType dtype() {
        return dtype(type);
    }

    static DType dtype(int type) {
        return switch (type) {
            case FLOAT -> DType.F32;
            case DOUBLE -> DType.F64;
            case FLOAT16 -> DType.F16;
            case BFLOAT16 -> DType.BF16;
            default -> null;
        };
    }

    /** {@link #dtype()} of all types of numbers. */
    DType elementType() {
        return switch (type) {
            case UINT8 -> DType.U8;
            case INT8 -> DType.I8;
            case UINT16 -> DType.U16;
            case INT16 -> DType.I16;
            case INT32 -> DType.I32;
            case INT64 -> DType.I64;
            case BOOL -> DType.BOOL;
            case 12 -> DType.U32;
            case 13 -> DType.U64;
            case 14 -> DType.C64;
            case 17 -> DType.F8E4M3;
            case 18 -> DType.F8E4M3FNUZ;
            case 19 -> DType.F8E5M2;
            case 20 -> DType.F8E5M2FNUZ;
            case UINT4 -> DType.U4;
            case INT4 -> DType.I4;
            case 23 -> DType.F4;
            default -> dtype();
        };
    }

    static int code(DType type) {
        return switch (type) {
            case F32 -> FLOAT;
            case F16 -> FLOAT16;
            case BF16 -> BFLOAT16;
            case F64 -> DOUBLE;
            case I8 -> INT8;
            case U8 -> UINT8;
            case I4 -> INT4;
            case U4 -> UINT4;
            case I32 -> INT32;
            case I64 -> INT64;
            case U16 -> UINT16;
            case I16 -> INT16;
            case BOOL -> BOOL;
            default -> throw new IllegalArgumentException("not written: " + type);
        };
    }

    /** Bits of one element as raw data; 0 if the type has no fixed size or is not known. */
    int bits() {
        return type > 0 && type < BITS.length ? BITS[type] : 0;
    }

    /** Bytes of the data, -1 if not known. */
    long bytes() {
        int bits = bits();
        return bits == 0 || elements > Long.MAX_VALUE / 128 ? -1 : (elements * bits + 7) / 8;
    }
}
