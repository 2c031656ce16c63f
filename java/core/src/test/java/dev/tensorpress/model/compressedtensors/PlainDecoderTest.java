package dev.tensorpress.model.compressedtensors;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The judge has to be judged: what it decodes is what was packed, and what is wrong it says. */
class PlainDecoderTest {

    @TempDir
    Path folder;

    private static PackedFolder packed() {
        return new PackedFolder(Effort.seed()).group("a", 4, 16, true).group("b c", 4, 8, false).group("re:.*d", 8, 0, false)
                .group("Linear", 8, 0, true)
                .module("a", 5, 32, 4, 16, true, DType.F16).module("b", 17, 16, 4, 8, false, DType.BF16)
                .module("c", 8, 16, 4, 8, false, DType.F32).module("x.d", 5, 6, 8, 0, false, DType.BF16)
                .module("x.e", 3, 7, 8, 0, true, DType.F32).dense("lm_head.weight", DType.BF16, 8, 4);
    }

    @RandomTest
    void whatWasPackedComesBack() throws IOException {
        PackedFolder f = packed();
        check(f, new PlainDecoder(f.write(folder, 3)));
        PackedFolder ints = new PackedFolder(Effort.seed());
        ints.format = "int-quantized";
        ints.group("a", 8, 0, true).group("b", 8, 0, false).module("a", 5, 7, 8, 0, true, DType.BF16)
                .module("b", 5, 7, 8, 0, false, DType.F16);
        check(ints, new PlainDecoder(ints.write(folder.resolve("ints"), 1)));
    }

    private static void check(PackedFolder f, PlainDecoder d) {
        assertEquals(f.codes.keySet(), d.modules.keySet());
        d.modules.forEach((name, m) -> {
            assertArrayEquals(f.codes.get(name), m.codes(), name);
            assertArrayEquals(f.zeros.get(name), m.zeros(), name);
            assertArrayEquals(f.scales.get(name), m.scales(), name);
            int last = m.codes().length - 1;
            int g = m.scales().length - 1;
            assertEquals((m.codes()[last] - m.zeros()[g]) * m.scales()[g], m.weight()[last], name);
            assertEquals(PlainDecoder.size(m.dtype()) * m.codes().length, m.rounded().length);
        });
        assertEquals(f.tensors.size(), d.tensors.size());
        assertEquals(List.of("lm_head"), d.ignored());
        assertEquals(List.of("model_type", "rms_norm_eps", "vocab_size"), List.copyOf(d.config.keySet()));
    }

    /** Halfway between two of bf16 goes to the even one. */
    @Test
    void roundingIsToNearest() {
        float[] exact = {0x1.02p0f, 0x1.01p0f, 0x1.03p0f, 0x1.010002p0f, -0x1.00fffep0f, 0x1.fffffep127f, 0x1p-133f, -0f};
        float[] to = {0x1.02p0f, 1, 0x1.04p0f, 0x1.02p0f, -1, Float.POSITIVE_INFINITY, 0x1p-133f, -0f};
        byte[] got = new PlainDecoder.Module("BF16", 8, true, "", 1, exact.length, 1, null, null, null, exact).rounded();
        for (int i = 0; i < to.length; i++) {
            assertEquals(Float.floatToRawIntBits(to[i]) >>> 16, got[2 * i] & 0xff | (got[2 * i + 1] & 0xff) << 8, "element " + i);
        }
    }

    @Test
    void whatIsNotAsDescribedIsSaid() throws IOException {
        Path config = packed().write(folder, 1).resolve("config.json");
        String text = Files.readString(config);
        for (String[] change : new String[][] {
            {"\"quant_method\":", "\"method\":"}, {"\"actorder\":null,", ""}, {"\"dynamic\":false", "\"dynamic\":false,\"x\":1"},
            {"\"lm_head\"", "\"x.d\""}, {"\"lm_head\"", "\"re:x\""}, {"\"group_size\":16", "\"group_size\":8"},
            {"\"num_bits\":4", "\"num_bits\":8"}, {"\"symmetric\":true", "\"symmetric\":false"}, {"[\"b\",\"c\"]", "[\"b\"]"},
            {"\"output_activations\":null}", "\"output_activations\":{}}"}, {"pack-quantized", "int-quantized"},
            {"group_3", "three"},
        }) {
            assertTrue(text.contains(change[0]), change[0]);
            Files.writeString(config, text.replace(change[0], change[1]));
            assertThrows(AssertionError.class, () -> new PlainDecoder(folder), change[1]);
        }
        for (String lost : List.of("a.weight_scale", "a.weight_shape", "b.weight_zero_point", "a.weight_packed")) {
            PackedFolder f = packed();
            f.tensors.remove(lost);
            f.write(folder, 1);
            assertThrows(AssertionError.class, () -> new PlainDecoder(folder), lost);
        }
        PackedFolder f = packed().put("a.weight_shape", DType.I64, Shape.of(2), new byte[16]);
        f.write(folder, 1);
        assertThrows(AssertionError.class, () -> new PlainDecoder(folder));
    }
}
