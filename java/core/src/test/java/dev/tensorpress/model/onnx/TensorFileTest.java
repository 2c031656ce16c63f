package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class TensorFileTest {
    @TempDir
    Path folder;

    private static Proto proto(int type, int... dims) {
        Proto p = new Proto();
        for (int dim : dims) {
            p.integer(1, dim);
        }
        return p.integer(2, type).string(8, "x");
    }

    private Path write(Proto p) throws IOException {
        return Files.write(folder.resolve("input_0.pb"), p.toBytes());
    }

    private void check(DType type, Proto p, byte... expected) throws IOException {
        TensorFile file = TensorFile.read(write(p));
        assertEquals("x", file.name());
        Tensor tensor = file.tensor();
        assertEquals(type, tensor.dtype());
        assertEquals(Shape.of(1, 2), tensor.shape());
        assertArrayEquals(expected, tensor.data().toArray(ValueLayout.JAVA_BYTE));
    }

    private static byte[] little(int size, long... values) {
        ByteBuffer b = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < values.length; i++) {
            b.putLong(i * size, values[i]);
        }
        return Arrays.copyOf(b.array(), size * values.length);
    }

    /** Types by their number in ONNX: as raw data, and one by one and packed in the field for their numbers. */
    @Test
    void dataLieInAnyOfTheirFields() throws IOException {
        DType[] types = {DType.U8, DType.I8, DType.I16, DType.I32, DType.I64, DType.BOOL, DType.F16, DType.BF16};
        int[] codes = {2, 3, 5, 6, 7, 9, 10, 16};
        for (int i = 0; i < types.length; i++) {
            byte[] expected = little(types[i].bits() / 8, 1, 100);
            int field = types[i] == DType.I64 ? 7 : 5;
            check(types[i], proto(codes[i], 1, 2).bytes(9, expected), expected);
            check(types[i], proto(codes[i], 1, 2).integer(field, 1).integer(field, 100), expected);
            check(types[i], proto(codes[i], 1, 2).bytes(field, new byte[] {1, 100}), expected);
        }
        byte[] floats = little(4, Float.floatToIntBits(1.5f), Float.floatToIntBits(-2));
        check(DType.F32, proto(1, 1, 2).bytes(9, floats), floats);
        check(DType.F32, proto(1, 1, 2).bytes(4, floats), floats);
        check(DType.F32, proto(1, 1, 2).real(4, 1.5f).real(4, -2), floats);
        byte[] doubles = little(8, Double.doubleToLongBits(1.5), Double.doubleToLongBits(-2));
        check(DType.F64, proto(11, 1, 2).bytes(9, doubles), doubles);
        check(DType.F64, proto(11, 1, 2).bytes(10, doubles), doubles);
        byte[] negative = little(4, -1, -100);
        check(DType.I32, proto(6, 1, 2).integer(5, -1).integer(5, -100), negative);
        assertEquals(Shape.of(), TensorFile.read(write(proto(7).integer(7, 3))).tensor().shape());
        assertEquals(0, TensorFile.read(write(proto(7, 3, 0))).tensor().bytes());
    }

    private void malformed(String message, Proto p) throws IOException {
        malformed(message, write(p));
    }

    private static void malformed(String message, Path file) {
        MalformedModelException e = assertThrows(MalformedModelException.class, () -> TensorFile.read(file));
        assertEquals(file, e.path());
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void dataThatDoNotFitAreRefused() throws IOException {
        malformed("has no type", new Proto());
        malformed("8 bytes, found 4", proto(1, 2).bytes(9, new byte[4]));
        malformed("8 bytes fewer", proto(7, 2).integer(7, 1));
        malformed("8 bytes, found 0", proto(7, 1).bytes(9, new byte[0]));
        malformed("more numbers", proto(7, 2).bytes(7, new byte[3]));
        malformed("asks for 1000000000000 numbers", proto(7, 1_000_000, 1_000_000).integer(7, 1));
        malformed("multiply to more than 2^63", proto(7, 1 << 30, 1 << 30, 1 << 30).integer(7, 1));
        malformed("claims", proto(1, 2).header(9, 100));
        malformed("not a regular file", folder);
    }

    @Test
    void whatIsNotReadIsSaid() throws IOException {
        Path text = write(proto(8, 1).string(6, "word"));
        assertTrue(assertThrows(UnsupportedRequestException.class, () -> TensorFile.read(text)).getMessage().contains("type 8"));
        Path elsewhere = write(proto(1, 1).message(13, new Proto().string(1, "location").string(2, "data")).integer(14, 1));
        assertTrue(assertThrows(UnsupportedRequestException.class, () -> TensorFile.read(elsewhere)).getMessage()
                .contains("another file"));
    }
}
