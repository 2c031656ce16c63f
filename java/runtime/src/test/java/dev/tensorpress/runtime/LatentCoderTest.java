package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.CodingFormatException;
import dev.tensorpress.runtime.LatentCoder.Table;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

class LatentCoderTest {
    /** Normal numbers, rounded; of column c with the deviation {@code deviations[c % length]}. */
    private static int[] matrix(int rows, int columns, long seed, double... deviations) {
        Random random = new Random(seed);
        int[] codes = new int[rows * columns];
        for (int i = 0; i < codes.length; i++) {
            codes[i] = (int) Math.rint(deviations[i % columns % deviations.length] * random.nextGaussian()) + i % columns % 3;
        }
        return codes;
    }

    private static int[] column(int[] codes, int columns, int c) {
        int[] column = new int[codes.length / columns];
        Arrays.setAll(column, i -> codes[i * columns + c]);
        return column;
    }

    private static LatentCoder coder(int[] codes, int columns) {
        List<Table> tables = new ArrayList<>();
        for (int c = 0; c < columns; c++) {
            tables.add(Table.of(column(codes, columns, c), _ -> 0.001, 4));
        }
        return new LatentCoder(tables);
    }

    private static double entropy(int[] column) {
        Map<Integer, Integer> counts = new HashMap<>();
        for (int x : column) {
            counts.merge(x, 1, Integer::sum);
        }
        return counts.values().stream().mapToDouble(n -> n * Math.log((double) column.length / n) / Math.log(2)).sum();
    }

    private static int[] again(LatentCoder coder, byte[] coded, int rows) {
        return coder.decode(ByteBuffer.wrap(coded), rows);
    }

    /** What is like what the tables were made of takes what these say, which is little more than its own entropy. */
    @Test
    void sizesAreThoseOfTheTables() {
        int columns = 8;
        LatentCoder coder = coder(matrix(40_000, columns, 1, 0.3, 1, 2, 5, 20, 60), columns);
        int[] codes = matrix(40_000, columns, 2, 0.3, 1, 2, 5, 20, 60);
        byte[] coded = coder.encode(codes);
        assertArrayEquals(codes, again(coder, coded, 40_000));
        double bits = coder.bits(codes);
        assertEquals(bits, 8.0 * coded.length, 0.01 * bits);
        double entropy = 0;
        for (int c = 0; c < columns; c++) {
            entropy += entropy(column(codes, columns, c));
        }
        assertEquals(entropy, 8.0 * coded.length, 0.015 * entropy);
    }

    @Test
    void columnsThatAreAlikeShareASequence() {
        int columns = 300;
        LatentCoder coder = coder(matrix(5000, columns, 1, 0.5, 3), columns);
        int[] codes = matrix(40, columns, 2, 0.5, 3);
        byte[] coded = coder.encode(codes);
        assertArrayEquals(codes, again(coder, coded, 40));
        assertTrue(coded.length < 1.1 * coder.bits(codes) / 8 + columns + 8 * 104, coded.length + " of " + coder.bits(codes) / 8);
        // With one sequence each it would be more than 100 bytes for every column.
        assertTrue(coded.length < 50 * columns, coded.length + " bytes");
    }

    @Test
    void anyNumbersAreCoded() {
        LatentCoder coder = coder(matrix(1000, 3, 1, 0, 2, 9), 3);
        for (int rows : new int[] {0, 1, 2, 40_000}) {
            int[] codes = matrix(rows, 3, 2, 0, 2, 9);
            for (int i = 0; i < codes.length; i += 7) {
                codes[i] = i % 2 == 0 ? 1 << 24 : -(1 << 24) + i;
            }
            assertArrayEquals(codes, again(coder, coder.encode(codes), rows));
        }
        int[] wide = matrix(9000, 1, 1, 50_000);
        assertArrayEquals(wide, again(coder(wide, 1), coder(wide, 1).encode(wide), 9000));
    }

    /** More columns than sequences that a file can have, all unlike each other. */
    @Test
    void manyColumns() {
        double[] deviations = new double[600];
        Arrays.setAll(deviations, c -> 0.2 + 0.1 * c);
        LatentCoder coder = coder(matrix(300, 600, 1, deviations), 600);
        int[] codes = matrix(5000, 600, 2, deviations);
        assertArrayEquals(codes, again(coder, coder.encode(codes), 5000));
    }

    @Test
    void damageIsTold() {
        int[] codes = matrix(200, 5, 1, 0.5, 2, 30);
        codes[3] = 1 << 20;
        LatentCoder coder = coder(matrix(1000, 5, 2, 0.5, 2, 30), 5);
        byte[] coded = coder.encode(codes);
        for (int length = 0; length < coded.length; length++) {
            byte[] cut = Arrays.copyOf(coded, length);
            assertThrows(CodingFormatException.class, () -> again(coder, cut, 200), "of " + length + " bytes");
        }
        assertThrows(CodingFormatException.class, () -> again(coder, Arrays.copyOf(coded, coded.length + 1), 200));
        for (int rows : new int[] {0, 199, 201}) {
            assertThrows(CodingFormatException.class, () -> again(coder, coded, rows));
        }
        Random random = new Random(3);
        int told = 0;
        for (int i = 0; i < 2000; i++) {
            byte[] changed = coded.clone();
            changed[random.nextInt(coded.length)] ^= (byte) (1 + random.nextInt(255));
            try {
                again(coder, changed, 200);
            } catch (CodingFormatException e) {
                told++;
            }
        }
        assertTrue(told > 1500, told + " of 2000");
    }

    @Test
    void tablesAreChecked() {
        for (int[] wrong : new int[][] {{}, {1 << 15}, {1 << 15, 0}, {1 << 14, 1 << 13}, {-1, (1 << 15) + 1}, new int[5000]}) {
            assertThrows(IllegalArgumentException.class, () -> new Table(0, wrong));
        }
        assertThrows(IllegalArgumentException.class, () -> new Table(Integer.MIN_VALUE, new int[] {1 << 14, 1 << 14}));
        Table t = Table.of(new int[] {3, 3, 3, 4}, _ -> 0, 1);
        assertEquals(2, t.frequencies().length - 1 - 2); // 3 and 4, and one more on either side
        assertEquals(2, t.lowest());
        assertTrue(t.frequencies()[1] > 2.5 * t.frequencies()[2]);
    }
}
