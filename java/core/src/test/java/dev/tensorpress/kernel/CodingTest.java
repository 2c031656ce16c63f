package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.kernel.Coding.Coded;
import dev.tensorpress.kernel.Coding.Elements;
import dev.tensorpress.kernel.Coding.Kind;
import dev.tensorpress.kernel.Coding.Part;
import dev.tensorpress.kernel.Coding.Plane;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Blocks through Java: what goes in comes out, what is chosen is smallest, and whatever is wrong is an exception. */
class CodingTest {
    private final Random random = Effort.random();
    private final Arena arena = Arena.ofAuto();

    private MemorySegment bytes(byte[] bytes) {
        MemorySegment segment = arena.allocate(bytes.length);
        segment.copyFrom(MemorySegment.ofArray(bytes));
        return segment;
    }

    private MemorySegment scratch(Elements elements, long bytes) {
        return arena.allocate(Coding.scratchBytes(elements, bytes), 64);
    }

    private record Block(Coded coded, MemorySegment bytes) {}

    private Block encode(Elements elements, MemorySegment in, MemorySegment base) {
        MemorySegment out = arena.allocate(Coding.bound(elements, in.byteSize()));
        Coded coded = Coding.encode(elements, in, base, out, scratch(elements, in.byteSize()));
        return new Block(coded, out.asSlice(0, coded.bytes()));
    }

    private byte[] decode(Block block, MemorySegment base) {
        long bytes = Coding.decodedBytes(block.bytes);
        MemorySegment out = arena.allocate(bytes);
        Coding.decode(block.bytes, base, out, scratch(Coding.elements(block.bytes), bytes));
        return out.toArray(JAVA_BYTE);
    }

    /** Weights: normal, in the type of these elements. */
    private byte[] weights(Elements elements, int n) {
        ByteBuffer buffer = ByteBuffer.allocate(n * elements.bytes()).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < n; i++) {
            float x = (float) (0.02 * random.nextGaussian());
            switch (elements) {
                case BYTES, F8_E4M3, F8_E5M2 -> buffer.put((byte) Math.clamp(Math.round(1500 * x), -127, 127));
                case NIBBLES -> buffer.put((byte) (Math.clamp(Math.round(100 * x), -7, 7) & 15 | Math.clamp(Math.round(100 * x), -7, 7) << 4));
                case SYMBOLS -> buffer.putShort((short) Math.clamp(2048 + Math.round(1e4 * x), 0, 4095));
                case F16 -> buffer.putShort(Float.floatToFloat16(x));
                case BF16 -> buffer.putShort((short) (Float.floatToIntBits(x) >> 16));
                case F32 -> buffer.putFloat(x);
            }
        }
        return buffer.array();
    }

    @ParameterizedTest
    @EnumSource(Elements.class)
    void whatGoesInComesOut(Elements elements) {
        for (int n : new int[] {0, 1, 31, 1000, 70_001}) {
            byte[] in = weights(elements, n);
            byte[] old = weights(elements, n);
            for (MemorySegment base : new MemorySegment[] {MemorySegment.NULL, bytes(old)}) {
                Block block = encode(elements, bytes(in), base);
                assertEquals(elements, Coding.elements(block.bytes));
                assertArrayEquals(in, decode(block, base));
                assertEquals(in.length, block.coded.planes().stream().mapToLong(Plane::bytesIn).sum());
                assertTrue(block.coded.bytes() <= Coding.bound(elements, in.length));
                if (n == 70_001 && base.equals(MemorySegment.NULL)) {
                    assertTrue(block.coded.bytes() < 0.93 * in.length, elements + ": " + block.coded);
                }
            }
        }
    }

    @Test
    void bf16TakesItsExponentsFewBits() {
        Coded coded = encode(Elements.BF16, bytes(weights(Elements.BF16, 500_000)), MemorySegment.NULL).coded;
        assertTrue(coded.bytes() < 0.665 * 1_000_000, "" + coded);
        assertEquals(Part.EXPONENTS, coded.planes().get(0).part());
        assertEquals(Kind.RANS, coded.planes().get(0).kind());
        assertEquals(Kind.STORED, coded.planes().get(1).kind());
        assertEquals(coded.planes().get(0).sizes().get(Kind.RANS), coded.planes().get(0).bytesOut(), 64.);
    }

    @Test
    void prunedBytesComeNearTheirEntropy() {
        byte[] in = weights(Elements.BYTES, 1_000_000);
        for (int i = 0; i < in.length; i++) {
            in[i] = random.nextInt(10) == 0 ? in[i] : 0;
        }
        long[] counts = new long[256];
        for (byte b : in) {
            counts[b & 255]++;
        }
        double bits = Arrays.stream(counts).filter(c -> c > 0).mapToDouble(c -> -c * Math.log((double) c / in.length) / Math.log(2)).sum();
        Coded coded = encode(Elements.BYTES, bytes(in), MemorySegment.NULL).coded;
        assertTrue(coded.bytes() < 1.02 * bits / 8, coded + ", entropy " + bits / 8);
    }

    @Test
    void theSmallestWayIsTaken() {
        byte[] constant = new byte[100_000];
        assertEquals(Kind.CONSTANT, encode(Elements.BYTES, bytes(constant), MemorySegment.NULL).coded.planes().get(0).kind());
        byte[] noise = new byte[100_000];
        random.nextBytes(noise);
        assertEquals(Kind.STORED, encode(Elements.BYTES, bytes(noise), MemorySegment.NULL).coded.planes().get(0).kind());
        byte[] rows = noise.clone();
        for (int i = 0; i < rows.length; i++) {
            rows[i] = i / 1000 % 2 == 0 ? 0 : (byte) (1 + (rows[i] & 127));
        }
        assertEquals(Kind.RUNS, encode(Elements.BYTES, bytes(rows), MemorySegment.NULL).coded.planes().get(0).kind());
        byte[] twoOfFour = noise.clone();
        for (int i = 0; i < twoOfFour.length; i += 4) {
            int hole = random.nextInt(4);
            twoOfFour[i + hole] = 0;
            twoOfFour[i + (hole + 1 + random.nextInt(3)) % 4] = 0;
        }
        assertEquals(Kind.MASKED, encode(Elements.BYTES, bytes(twoOfFour), MemorySegment.NULL).coded.planes().get(0).kind());
        byte[] codes = new byte[1000];
        for (int i = 0; i < codes.length; i++) {
            codes[i] = (byte) (random.nextInt(11) << 4 | random.nextInt(11));
        }
        assertEquals(Kind.CODES, encode(Elements.NIBBLES, bytes(codes), MemorySegment.NULL).coded.planes().get(0).kind());
        for (byte[] in : new byte[][] {constant, noise, rows, twoOfFour}) {
            Block block = encode(Elements.BYTES, bytes(in), MemorySegment.NULL);
            Plane plane = block.coded.planes().get(0);
            assertTrue(plane.sizes().values().stream().allMatch(size -> size + size / 100 + 200 > plane.bytesOut()), plane.toString());
            assertArrayEquals(in, decode(block, MemorySegment.NULL));
        }
    }

    /** Whatever the bytes: an exception, or as many bytes as the header says. */
    @ParameterizedTest
    @EnumSource(Elements.class)
    void damageIsAnException(Elements elements) {
        byte[] in = weights(elements, 3000);
        for (int i = 0; i < in.length; i++) {
            in[i] = elements == Elements.BYTES && random.nextInt(3) > 0 ? 0 : in[i];
        }
        byte[] block = encode(elements, bytes(in), MemorySegment.NULL).bytes.toArray(JAVA_BYTE);
        MemorySegment scratch = scratch(elements, in.length);
        MemorySegment out = arena.allocate(in.length);
        for (int cut = 0; cut < block.length; cut += 1 + cut / 8) {
            MemorySegment part = bytes(Arrays.copyOf(block, cut));
            assertThrows(CodingFormatException.class, () -> Coding.decode(part, MemorySegment.NULL, out, scratch));
        }
        int seen = 0;
        for (int round = 0; round < 500 * Effort.ROUNDS; round++) {
            byte[] damaged = block.clone();
            damaged[random.nextInt(round % 2 == 0 ? Math.min(100, damaged.length) : damaged.length)] ^= (byte) (1 << random.nextInt(8));
            try {
                Coding.decode(bytes(damaged), MemorySegment.NULL, out, scratch);
            } catch (CodingFormatException expected) {
                seen++;
            }
        }
        assertTrue(seen > 50, "only " + seen + " were seen");
    }

    @Test
    void argumentsAreChecked() {
        MemorySegment in = bytes(new byte[64]);
        MemorySegment out = arena.allocate(Coding.bound(Elements.BYTES, 64));
        MemorySegment scratch = scratch(Elements.F32, 64);
        assertThrows(IllegalArgumentException.class, () -> Coding.encode(Elements.F32, in.asSlice(0, 62), MemorySegment.NULL, out, scratch));
        assertThrows(IllegalArgumentException.class, () -> Coding.encode(Elements.F32, in, in.asSlice(0, 60), out, scratch));
        assertThrows(IllegalArgumentException.class, () -> Coding.encode(Elements.F32, in, MemorySegment.NULL, out.asSlice(1), scratch));
        assertThrows(IllegalArgumentException.class, () -> Coding.encode(Elements.F32, in, MemorySegment.NULL, out, scratch.asSlice(64)));
        assertThrows(IllegalArgumentException.class, () -> Coding.encode(Elements.F32, in, MemorySegment.NULL, in, scratch));
        assertThrows(IllegalArgumentException.class, () -> Coding.bound(Elements.BYTES, Coding.MAX_BYTES + 1));
        MemorySegment large = bytes(new byte[] {0, 16});
        assertThrows(KernelException.class, () -> Coding.encode(Elements.SYMBOLS, large, MemorySegment.NULL, out, scratch));
        Coded coded = Coding.encode(Elements.F32, in, in, out, scratch);
        MemorySegment block = out.asSlice(0, coded.bytes());
        assertThrows(CodingFormatException.class, () -> Coding.decode(block, MemorySegment.NULL, arena.allocate(64), scratch));
        assertThrows(CodingFormatException.class, () -> Coding.decode(block, in, arena.allocate(65), scratch));
        assertThrows(CodingFormatException.class, () -> Coding.decodedBytes(block.asSlice(1)));
        Coding.decode(block, in, arena.allocate(64), scratch);
    }
}
