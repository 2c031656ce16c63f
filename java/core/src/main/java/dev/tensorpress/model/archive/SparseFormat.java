package dev.tensorpress.model.archive;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.zip.CRC32C;

/** What readers and writers of {@link SparseFile} agree on. */
public final class SparseFormat {
    static final String VERSION = "1";
    static final String SKELETON = "skeleton";
    private static final long STEP = 8 << 20;

    private SparseFormat() {}

    /** The code that stands for 0 in all groups, where there is one; else 0, and as good as any. */
    public static int middle(Form.Quantized form) {
        return form.symmetric() && form.type() == DType.U8 ? form.middle() : 0;
    }

    /** True if codes of this form are stored without those for zero; others are stored as they are. */
    public static boolean leavesOut(Form.Quantized form) {
        return form.symmetric() && form.type().bits() == 8;
    }

    static int checksum(MemorySegment bytes) {
        CRC32C crc = new CRC32C();
        for (long at = 0; at < bytes.byteSize(); at += STEP) {
            crc.update(bytes.asSlice(at, Math.min(STEP, bytes.byteSize() - at)).asByteBuffer());
        }
        return (int) crc.getValue();
    }

    static int checksum(String text) {
        CRC32C crc = new CRC32C();
        crc.update(text.getBytes(StandardCharsets.UTF_8));
        return (int) crc.getValue();
    }

    static String hex(int value) {
        return HexFormat.of().toHexDigits(value);
    }

    /** out[i] = in[i] ^ value, byte by byte; out may be in. */
    public static void xor(MemorySegment in, int value, MemorySegment out) {
        if (value == 0 && in.equals(out)) {
            return;
        }
        long wide = (value & 0xffL) * 0x0101010101010101L;
        long n = in.byteSize();
        long at = 0;
        for (; at + 8 <= n; at += 8) {
            out.set(ValueLayout.JAVA_LONG_UNALIGNED, at, in.get(ValueLayout.JAVA_LONG_UNALIGNED, at) ^ wide);
        }
        for (; at < n; at++) {
            out.set(ValueLayout.JAVA_BYTE, at, (byte) (in.get(ValueLayout.JAVA_BYTE, at) ^ value));
        }
    }
}
