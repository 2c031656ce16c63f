package dev.tensorpress.demo;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.demo.Findings.Table;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Each demo on a tenth of the digits, with a part of the training: what a broken method cannot reach. Guessing has 10 % right. */
final class DemoTest {
    private static final Demo.Effort SMALL = new Demo.Effort(1000, 0.5);

    @TempDir
    Path folder;

    private Findings run(Demo demo, Demo.Effort effort) throws Exception {
        return demo.run(new Demo.Work(folder, effort, 2, (what, done, total, note) -> assertTrue(done <= total && !what.isEmpty(), what)));
    }

    /** A cell as a number, without its unit. */
    private static double number(Table table, int row, String column) {
        String cell = table.rows().get(row).get(table.columns().indexOf(column));
        return Double.parseDouble(cell.replaceAll("[,%x]| ms| dB", "").trim());
    }

    @Test
    void digits() throws Exception {
        Findings f = run(new DigitsDemo(), SMALL);
        Table t = f.tables().getFirst();
        List<String> components = t.rows().stream().map(r -> r.get(1)).toList();
        int few = components.indexOf("16");
        int two = components.indexOf("2");
        assertTrue(number(t, 0, ">Accuracy") > 80, t.toString());
        assertTrue(number(t, few, ">Accuracy") > number(t, 0, ">Accuracy") - 3, t.toString());
        assertTrue(number(t, few, ">8 bits") > number(t, 0, ">Accuracy") - 3, t.toString());
        assertTrue(number(t, few, ">Variance") > 85, t.toString());
        // Two components tell more than nothing, and much less than sixteen.
        assertTrue(number(t, two, ">Accuracy") > 20 && number(t, two, ">Accuracy") < 50, t.toString());
    }

    @Test
    void mlp() throws Exception {
        Findings f = run(new MlpDemo(), SMALL);
        Table t = f.tables().getFirst();
        for (int row : new int[] {0, 1, 2, 4, 5, 6, 8, 17}) {
            assertTrue(number(t, row, ">Accuracy") > 75, t.toString());
        }
        // Half of the neurons take half of the bytes, and int8 a quarter of that, with scales.
        assertEquals(50, number(t, 4, ">Of the teacher"), 0.5);
        assertTrue(number(t, 17, ">Of the teacher") < 16, t.toString());
        // What was pruned is trained again.
        for (int row = 3; row < 17; row += 4) {
            assertTrue(number(t, row + 1, ">Accuracy") > number(t, row, ">Accuracy"), t.toString());
        }
    }

    @Test
    void digitsAreTakenApart() {
        Digits training = Digits.training(SMALL);
        Digits test = Digits.test(SMALL);
        assertEquals(800, training.size());
        assertEquals(200, test.size());
        int[] counts = new int[Digits.CLASSES];
        for (int label : Digits.training(Demo.Effort.FULL).labels()) {
            counts[label]++;
        }
        assertTrue(Arrays.stream(counts).allMatch(n -> n > 650 && n < 1000), Arrays.toString(counts));
        // Ink is neither lost nor made: a 16th of it, in 16 shades, but for what is rounded.
        float[] small = test.small();
        double ink = 0;
        for (float x : test.pixels()) {
            ink += x;
        }
        double kept = 0;
        for (float x : small) {
            assertTrue(x >= 0 && x <= 16 && x == Math.rint(x));
            kept += x;
        }
        assertEquals(ink, kept, 0.02 * ink);
        assertThrows(IllegalArgumentException.class, () -> Digits.training(new Demo.Effort(99, 1)));
    }
}
