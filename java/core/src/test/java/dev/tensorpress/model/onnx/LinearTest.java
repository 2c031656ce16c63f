package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.Weight;
import java.io.ByteArrayOutputStream;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Set;
import java.util.function.IntFunction;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Opening a model takes time and memory in proportion to its file, whatever is in it. */
class LinearTest {
    @TempDir
    Path folder;

    private static void varint(ByteArrayOutputStream to, long v) {
        for (; v > 127; v >>>= 7) {
            to.write((int) v & 127 | 128);
        }
        to.write((int) v);
    }

    /** Fields of bytes, each a number and its content. */
    private static byte[] fields(Object... pairs) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (int i = 0; i < pairs.length; i += 2) {
            int number = (Integer) pairs[i];
            if (pairs[i + 1] instanceof Integer v) {
                varint(out, number << 3);
                varint(out, v);
            } else {
                byte[] content = pairs[i + 1] instanceof String s ? s.getBytes(StandardCharsets.UTF_8) : (byte[]) pairs[i + 1];
                varint(out, number << 3 | 2);
                varint(out, content.length);
                out.writeBytes(content);
            }
        }
        return out.toByteArray();
    }

    private static byte[] join(int count, IntFunction<byte[]> part) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (int i = 0; i < count; i++) {
            out.writeBytes(part.apply(i));
        }
        return out.toByteArray();
    }

    private static byte[] join(byte[]... parts) {
        return join(parts.length, i -> parts[i]);
    }

    private static byte[] weight(String name) {
        return fields(5, fields(2, 1, 8, name, 9, new byte[4]));
    }

    private static byte[] node(String op, String name, String output, byte[] inputs, byte[] more) {
        return fields(1, join(inputs, fields(2, output, 3, name, 4, op), more));
    }

    private Path model(byte[] graph) throws Exception {
        return Files.write(folder.resolve("model.onnx"), fields(1, 8, 8, fields(1, "", 2, 17), 7, graph));
    }

    /** Nanoseconds of processor time that opening takes, and asking for the graph. */
    private long time(byte[] graph) throws Exception {
        Path file = model(graph);
        long start = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
        try (OnnxModel m = OnnxModel.open(file, false)) {
            m.graph();
        }
        return ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() - start;
    }

    /** @param graph of so many parts; it is made of as many as give 1, 2 and 4 MB */
    private void isLinear(String what, IntFunction<byte[]> graph) throws Exception {
        int parts = (int) (50_000_000_000L / graph.apply(50_000).length); // later parts have longer names
        time(graph.apply(parts)); // warm
        String measured = "";
        // What is not linear never looks so; what is may, once, where the machine has other work.
        for (int attempt = 0; attempt < 3; attempt++) {
            long[] times = new long[5];
            for (int megabytes : new int[] {1, 2, 4}) {
                byte[] bytes = graph.apply(megabytes * parts);
                assertEquals(megabytes, bytes.length / 1e6, 0.2 * megabytes, what);
                times[megabytes] = Math.min(time(bytes), time(bytes));
            }
            // A byte of the larger ones may take twice as long, and some milliseconds that depend on other things.
            if (times[2] < 4 * times[1] + 100_000_000 && times[4] < 8 * times[1] + 100_000_000) {
                return;
            }
            measured += " " + times[1] / 1000 + ", " + times[2] / 1000 + ", " + times[4] / 1000 + ";";
        }
        fail(what + ": microseconds for 1, 2, 4 MB:" + measured);
    }

    @Test
    void chainsThatAreReadManyTimesOver() throws Exception {
        byte[] chain = join(14, k -> node("Identity", "", "i" + k, join(4, i -> fields(1, k == 0 ? "w" : "i" + (k - 1))), new byte[0]));
        byte[] graph = join(chain, node("MatMul", "", "y", fields(1, "x", 1, "i13"), new byte[0]), weight("w"));
        assertTrue(graph.length < 1000);
        assertTrue(time(graph) < 1_000_000_000);
    }

    @Test
    void namesThatAreEqual() throws Exception {
        byte[] branch = fields(5, fields(1, "then_branch", 6, weight("w"), 20, 5));
        isLinear("weights of one name", k -> join(k, i -> node("If", "if", "y" + i, fields(1, "c"), branch)));
        try (OnnxModel m = OnnxModel.open(model(join(300, i -> node("If", "if", "y" + i, fields(1, "c"), branch))), false)) {
            Set<String> names = new HashSet<>();
            for (Weight w : m.weights()) {
                names.add(w.name());
            }
            assertEquals(300, names.size());
            assertTrue(names.contains("if/then_branch/w#300"), names.toString());
        }
    }

    /** What is written has names of its own; those are counted as well. */
    @Test
    void nodesOfOneNameThatAreRewritten() throws Exception {
        long[] times = new long[5];
        for (int k : new int[] {1, 1, 4}) {
            byte[] values = new byte[4 * 64 * 16];
            for (int i = 3; i < values.length; i += 4) {
                values[i] = 0x3f;
            }
            byte[] graph = join(2000 * k, i -> join(node("MatMul", "n", "y" + i, fields(1, "x", 1, "w" + i), new byte[0]),
                    fields(5, fields(1, 64, 1, 16, 2, 1, 8, "w" + i, 9, values), 13, fields(1, "w" + i))));
            Path file = model(graph);
            try (Compressor c = Compressor.open(file)) {
                long start = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
                assertEquals(2000 * k, c.plan(Recipe.named("int8").set("min-size", "0")).compressed());
                times[k] = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() - start;
            }
        }
        assertTrue(times[4] < 8 * times[1] + 300_000_000, times[1] / 1000 + " us, of four times as much " + times[4] / 1000);
    }

    @Test
    void attributesInputsAndReaders() throws Exception {
        isLinear("attributes", k -> join(node("MatMul", "", "y", fields(1, "x", 1, "w"),
                join(k, i -> fields(5, fields(1, "a" + i)))), weight("w")));
        isLinear("equal attributes", k -> join(node("MatMul", "", "y", fields(1, "x", 1, "w"),
                join(k, i -> fields(5, fields(1, "alpha")))), weight("w")));
        isLinear("inputs", k -> join(node("Sum", "", "y", join(k, i -> fields(1, "w")), new byte[0]), weight("w")));
        isLinear("readers", k -> join(join(k, i -> node("MatMul", "n", "y" + i, fields(1, "x", 1, "w"), new byte[0])),
                weight("w")));
        isLinear("joined", k -> join(node("Concat", "", "v", join(k, i -> fields(1, "w")), new byte[0]),
                node("MatMul", "", "y", fields(1, "x", 1, "v"), new byte[0]), weight("w")));
        isLinear("joined, with more results than there are", k -> join(fields(1, join(join(k, i -> fields(1, "w", 2, "j" + i)), fields(4, "Concat"))),
                join(k, i -> node("MatMul", "n", "y" + i, fields(1, "x", 1, "j" + i), new byte[0])), weight("w")));
        isLinear("parts", k -> join(fields(1, join(join(k, i -> fields(1, "w", 2, "p" + i)), fields(4, "Split"))),
                join(k, i -> node("MatMul", "n", "y" + i, fields(1, "x", 1, "p" + i), new byte[0])), weight("w")));
        isLinear("graphs inside a node of a long name", k -> node("Scan", "n".repeat(15 * k), "y", fields(1, "c"),
                fields(5, join(fields(1, "a"), join(k, i -> fields(11, join(weight("w"), fields(2, "g".repeat(40)))))))));
        isLinear("weights", k -> join(k, i -> weight("w" + i)));
    }

    /** Of products that share an input, of a matrix joined of many weights, of inputs behind long chains, and of norms in a row. */
    @Test
    void products() throws Exception {
        isLinear("products of one input", k -> join(k, i -> join(node("MatMul", "", "y" + i, fields(1, "x", 1, "w" + i), new byte[0]), weight("w" + i))));
        isLinear("products of one matrix", k -> join(join(k, i -> weight("w" + i)), node("Concat", "", "v", join(k, i -> fields(1, "w" + i)), new byte[0]),
                join(k, i -> node("MatMul", "", "y" + i, fields(1, "x", 1, "v"), new byte[0]))));
        isLinear("matrices of matrices", k -> join(weight("w"), node("Identity", "", "v0", fields(1, "w"), new byte[0]),
                join(k, i -> join(weight("w" + i), node("Concat", "", "v" + (i + 1), fields(1, "v" + i, 1, "w" + i), new byte[0]),
                        node("MatMul", "", "y" + i, fields(1, "x", 1, "v" + i), new byte[0])))));
        isLinear("conversions", k -> join(weight("w"), join(k, i -> join(node("Cast", "", "x" + (i + 1), fields(1, "x" + i), new byte[0]),
                node("MatMul", "", "y" + i, fields(1, "x" + i, 1, "w"), new byte[0])))));
        isLinear("norms", k -> join(weight("w"), join(k, i -> join(node("RMSNormalization", "", "x" + (i + 1), fields(1, "x" + i, 1, "w"), new byte[0]),
                node("MatMul", "", "y" + i, fields(1, "x" + i, 1, "w"), new byte[0])))));
    }

    @Test
    void resultsOfBranches() throws Exception {
        isLinear("results of branches", k -> {
            byte[] inner = join(join(k, i -> node("Identity", "", "v" + i, fields(1, "x"), new byte[0])), join(k, i -> fields(12, fields(1, "v" + i))));
            return join(fields(1, join(join(k, i -> fields(2, "r" + i)), fields(1, "c", 4, "If", 5, fields(1, "then_branch", 6, inner, 20, 5)))),
                    join(k, i -> fields(12, fields(1, "r" + i))));
        });
    }

    /** What repeats a long name for each weight, or each time that one is read, takes memory without bound. */
    @Test
    void longNames() throws Exception {
        String name = "n".repeat(500_000);
        OnnxModel.open(model(join(node("Sum", name, "y", join(100_000, i -> fields(1, "w")), new byte[0]), weight("w"))), false).close();
        byte[] branch = fields(5, fields(1, "then_branch", 6, join(20_000, i -> weight("w" + i)), 20, 5));
        try (OnnxModel m = OnnxModel.open(model(node("If", name, "y", fields(1, "c"), branch)), false)) {
            long characters = 0;
            for (Weight w : m.weights()) {
                characters += w.name().length();
            }
            assertTrue(characters < 20_000 * 600, characters + " characters");
        }
    }
}
