package dev.tensorpress.model.onnx;

import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * A tensor in a file of its own, a TensorProto, such as ONNX's tests have for inputs and outputs.
 *
 * @param name may be empty
 * @param tensor its data stay as long as they can be reached
 */
public record TensorFile(String name, Tensor tensor) {
    private static final int LARGEST = Integer.MAX_VALUE - 8;

    /**
     * Reads a file of f64, f32, f16, bf16, i64, i32, i16, i8, u8 or bool.
     *
     * @throws MalformedModelException if the file is not a TensorProto, or its data are not what its shape and type ask for
     * @throws UnsupportedRequestException if its data are of another type, in another file, or have 2 GiB or more
     * @throws IOException if the file cannot be read
     */
    public static TensorFile read(Path file) throws IOException {
        new InputFiles().add(file);
        if (Files.size(file) > LARGEST) {
            throw tooLarge(file);
        }
        byte[] bytes = Files.readAllBytes(file);
        Wire wire = new Wire(file, MemorySegment.ofArray(bytes));
        TensorInfo info = new Parser(wire).tensor(bytes.length);
        if (info.external) {
            throw new UnsupportedRequestException(file + " has its data in another file, which is not read");
        }
        DType type = dtype(file, info.type);
        MemorySegment found = new Elements(wire, null, Arena.ofAuto()).of(info);
        MemorySegment data = found.isNative() ? found : Arena.ofAuto().allocate(found.byteSize(), Long.BYTES).copyFrom(found);
        return new TensorFile(info.name, new Tensor(type, Shape.of(info.dims), data));
    }

    private static UnsupportedRequestException tooLarge(Path file) {
        return new UnsupportedRequestException(file + " holds 2 GiB or more; at most that is read");
    }

    private static DType dtype(Path file, int type) {
        return switch (type) {
            case TensorInfo.UINT8 -> DType.U8;
            case TensorInfo.INT8 -> DType.I8;
            case TensorInfo.INT16 -> DType.I16;
            case TensorInfo.INT32 -> DType.I32;
            case TensorInfo.INT64 -> DType.I64;
            case TensorInfo.BOOL -> DType.BOOL;
            case TensorInfo.FLOAT, TensorInfo.DOUBLE, TensorInfo.FLOAT16, TensorInfo.BFLOAT16 -> TensorInfo.dtype(type);
            default -> throw new UnsupportedRequestException(file + " holds data of ONNX's type " + type + "; read are f64, f32,"
                    + " f16, bf16, i64, i32, i16, i8, u8 and bool");
        };
    }
}
