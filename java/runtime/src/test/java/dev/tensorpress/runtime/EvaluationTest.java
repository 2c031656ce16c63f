package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class EvaluationTest {
    private static final int WORDS = 12;
    private static final int HIDDEN = 5;
    private static final Evaluation.Options QUICK = Evaluation.Options.DEFAULT.warmup(1).runs(3).threads(1);

    @TempDir
    Path folder;

    private Path tokenizer;

    /** Ten words, [CLS] and [UNK]; the file pads, which evaluation must not. */
    @BeforeEach
    void writeTokenizer() throws IOException {
        StringBuilder words = new StringBuilder("\"[UNK]\": 0, \"[CLS]\": 1");
        for (int i = 2; i < WORDS; i++) {
            words.append(", \"w").append(i).append("\": ").append(i);
        }
        tokenizer = Files.writeString(folder.resolve("tokenizer.json"), """
                {"version": "1.0",
                 "truncation": {"direction": "Right", "max_length": 6, "strategy": "LongestFirst", "stride": 0},
                 "padding": {"strategy": {"Fixed": 6}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                             "pad_type_id": 0, "pad_token": "[UNK]"},
                 "added_tokens": [], "normalizer": null,
                 "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
                 "model": {"type": "WordLevel", "vocab": {WORDS}, "unk_token": "[UNK]"}}
                """.replace("WORDS", words));
    }

    private static float[] table(double noise) {
        Random random = new Random(3);
        Random other = new Random(4);
        float[] values = new float[WORDS * HIDDEN];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) (random.nextGaussian() + noise * other.nextGaussian());
        }
        return values;
    }

    private Path embedding(String file, double noise, int type) throws IOException {
        return new TinyModel().node("Gather", "table input_ids -> hidden").weight("table", table(noise), WORDS, HIDDEN)
                .input("input_ids", type, "batch sequence")
                .output("hidden", TinyModel.FLOAT, "batch sequence " + HIDDEN).write(folder.resolve(file));
    }

    private Path linear(String file, float... weight) throws IOException {
        return new TinyModel().node("MatMul", "x weight -> y").weight("weight", weight, 2, weight.length / 2)
                .input("x", TinyModel.FLOAT, "batch 2")
                .output("y", TinyModel.FLOAT, "batch " + weight.length / 2).write(folder.resolve(file));
    }

    @Test
    void aModelAgreesWithItself() throws IOException {
        for (int type : new int[] {TinyModel.INT64, TinyModel.INT32}) {
            Path model = embedding("same.onnx", 0, type);
            Comparison c = Evaluation.texts(model, model, List.of("w2 w3", "w4", "w9 w9 w5 w6"), tokenizer, QUICK);
            assertEquals(List.of(new Comparison.Output("hidden", 1, 1, 1, 0, 0, Double.NaN)), c.outputs());
            assertEquals(1, c.neighbours());
            assertEquals(1, c.ratio());
            assertEquals(3, c.items());
            assertEquals("texts", c.inputs());
            assertEquals(Files.size(model), c.candidate().bytes());
            assertTrue(c.reference().medianMillis() > 0 && c.reference().p95Millis() >= c.reference().medianMillis());
        }
    }

    /** One sentence of known words, pooled and compared by hand. */
    @Test
    void embeddingsAreMeansOverTheTokensAndNothingElse() throws IOException {
        float[] before = table(0);
        float[] after = table(0.2);
        Comparison.Output output = Evaluation.texts(embedding("a.onnx", 0, TinyModel.INT64),
                embedding("b.onnx", 0.2, TinyModel.INT64), List.of("w2 w7 w7"), tokenizer, QUICK).outputs().getFirst();
        double dot = 0;
        double a2 = 0;
        double b2 = 0;
        double d2 = 0;
        double max = 0;
        for (int h = 0; h < HIDDEN; h++) {
            double a = (before[2 * HIDDEN + h] + 2.0 * before[7 * HIDDEN + h]) / 3;
            double b = (after[2 * HIDDEN + h] + 2.0 * after[7 * HIDDEN + h]) / 3;
            dot += a * b;
            a2 += a * a;
            b2 += b * b;
            d2 += (a - b) * (a - b);
            max = Math.max(max, Math.abs(a - b));
        }
        assertEquals(dot / Math.sqrt(a2 * b2), output.cosineMean(), 1e-6);
        assertEquals(output.cosineMean(), output.cosineMin());
        assertEquals(Math.sqrt(d2 / a2), output.relativeError(), 1e-6);
        assertEquals(max, output.maxError(), 1e-6);
    }

    @Test
    void longTextsAreCutAsTheTokenizerSays() throws IOException {
        Path model = new TinyModel().node("Gather", "table input_ids -> hidden").weight("table", table(0), WORDS, HIDDEN)
                .input("input_ids", TinyModel.INT64, "batch 6").output("hidden", TinyModel.FLOAT, "batch 6 " + HIDDEN)
                .write(folder.resolve("six.onnx"));
        Comparison c = Evaluation.texts(model, model, List.of("w2 ".repeat(9)), tokenizer, QUICK);
        assertEquals(1, c.outputs().getFirst().cosineMin());
        assertTrue(Double.isNaN(c.neighbours()));
    }

    @Test
    void randomInputsAreTheSameForBoth() throws IOException {
        Path a = linear("a.onnx", 1, 2, 3, 4);
        Path b = linear("b.onnx", 2, 4, 6, 8);
        Comparison c = Evaluation.random(a, b, 7, QUICK);
        Comparison.Output y = c.outputs().getFirst();
        assertEquals("y", y.name());
        assertEquals(1, y.cosineMin(), 1e-7);
        assertEquals(1, y.relativeError(), 1e-6);
        assertEquals(7, c.items());
        assertTrue(Double.isNaN(c.neighbours()));
        assertEquals(c.outputs(), Evaluation.random(a, b, 7, QUICK).outputs());
        assertEquals(-1, Evaluation.random(a, linear("c.onnx", -1, -2, -3, -4), 2, QUICK).outputs().getFirst().cosineMean(),
                1e-7);
    }

    /** The table has more rows than 8 and fewer than any vocabulary: an index out of range would fail. */
    @Test
    void randomIntegersAreRowsOfTheTable() throws IOException {
        Path model = embedding("ids.onnx", 0, TinyModel.INT64);
        assertEquals(1, Evaluation.random(model, model, 50, QUICK).outputs().getFirst().cosineMin());
    }

    /** Two inputs of integers: an index that is safe for the larger table alone would fail. */
    @Test
    void aTableMayBeTheMatrixOfAProduct() throws IOException {
        Path model = new TinyModel().node("Gather", "table ids -> a").node("Gather", "long steps -> b").node("Add", "a b -> c")
                .node("Transpose", "table -> t").node("MatMul", "c t -> y").weight("table", table(0), WORDS, HIDDEN)
                .weight("long", new float[500 * HIDDEN], 500, HIDDEN).input("ids", TinyModel.INT64, "n").input("steps", TinyModel.INT64, "n")
                .output("y", TinyModel.FLOAT, "n " + WORDS).write(folder.resolve("tied.onnx"));
        assertEquals(1, Evaluation.random(model, model, 50, QUICK).outputs().getFirst().cosineMin(), 1e-6);
    }

    /** One name for both dimensions says nothing: the first is 1, the second 8, as the output declares. */
    @Test
    void openDimensionsByNameOrPlace() throws IOException {
        Path model = new TinyModel().node("Add", "a b -> c").node("Add", "c fixed -> y")
                .weight("fixed", new float[8], 1, 8)
                .input("a", TinyModel.FLOAT, "n n").input("b", TinyModel.FLOAT, "batch length")
                .output("y", TinyModel.FLOAT, "1 8").write(folder.resolve("open.onnx"));
        assertEquals(1, Evaluation.random(model, model, 2, QUICK).outputs().getFirst().cosineMin());
    }

    /** Adds an image of the given height and width to one whose dimensions are open. */
    private Path image(String file, int height, int width) throws IOException {
        return new TinyModel().node("Add", "x fixed -> y").weight("fixed", new float[3 * height * width], 1, 3, height, width)
                .input("x", TinyModel.FLOAT, "n 3 h w").output("y", TinyModel.FLOAT, "n 3 h w").write(folder.resolve(file));
    }

    private static List<Comparison.Input> shapes(Path model, Evaluation.Options options) throws IOException {
        return Evaluation.random(model, model, 1, options).shapes();
    }

    @Test
    void openDimensionsAreWhatTheModelRunsWith() throws IOException {
        for (int size : new int[] {8, 32, 224}) {
            Path model = image("image.onnx", size, size);
            assertEquals(List.of(new Comparison.Input("x", Shape.of(1, 3, size, size), true)), shapes(model, QUICK));
        }
        Path wide = image("wide.onnx", 48, 160);
        assertUnsupported("it leaves open: x ?x3x?x?; give", () -> shapes(wide, QUICK));
        assertEquals(List.of(new Comparison.Input("x", Shape.of(2, 3, 48, 160), false)),
                shapes(wide, QUICK.shapes(Map.of("x", Shape.of(2, 3, 48, 160)))));
    }

    /** Dimensions of one name are the same in all inputs; nothing is chosen where all are fixed. */
    @Test
    void aGivenShapeNamesDimensionsOfOtherInputs() throws IOException {
        Path model = new TinyModel().node("Add", "a b -> c").node("Add", "c d -> y")
                .input("a", TinyModel.FLOAT, "batch length").input("b", TinyModel.FLOAT, "batch length")
                .input("d", TinyModel.FLOAT, "1 1").output("y", TinyModel.FLOAT, "batch length")
                .write(folder.resolve("named.onnx"));
        assertEquals(List.of(new Comparison.Input("a", Shape.of(4, 5), false), new Comparison.Input("b", Shape.of(4, 5), true),
                new Comparison.Input("d", Shape.of(1, 1), false)), shapes(model, QUICK.shapes(Map.of("a", Shape.of(4, 5)))));
        Comparison.Output empty = Evaluation.random(model, model, 1, QUICK.shapes(Map.of("a", Shape.of(1, 0)))).outputs().getFirst();
        assertEquals(1, empty.cosineMin());
    }

    @Test
    void shapesThatDoNotFitAreRefused() throws IOException {
        Path model = image("image.onnx", 8, 8);
        for (Shape wrong : List.of(Shape.of(1, 3, 8), Shape.of(1, 4, 8, 8))) {
            InputException e = assertThrows(InputException.class, () -> shapes(model, QUICK.shapes(Map.of("x", wrong))));
            assertTrue(e.getMessage().contains("the shape " + wrong + " does not fit the input x of " + model + ", which is ?x3x?x?"),
                    e.getMessage());
        }
        InputException e = assertThrows(InputException.class, () -> shapes(model, QUICK.shapes(Map.of("z", Shape.of(1)))));
        assertTrue(e.getMessage().contains("no input 'z'"), e.getMessage());
        assertUnsupported("too large", () -> shapes(model, QUICK.shapes(Map.of("x", Shape.of(1, 3, 1 << 20, 1 << 20)))));
        Path other = new TinyModel().node("Add", "x z -> y").input("x", TinyModel.FLOAT, "n 3 h w")
                .input("z", TinyModel.FLOAT, "1").output("y", TinyModel.FLOAT, "n 3 h w").write(folder.resolve("other.onnx"));
        assertUnsupported("an input z, which the reference has not", () -> Evaluation.random(model, other, 1, QUICK));
    }

    @Test
    void aZeroOrNotANumberIsNoAgreement() throws IOException {
        Path good = linear("good.onnx", 1, 2, 3, 4);
        assertEquals(0, Evaluation.random(good, linear("zero.onnx", 0, 0, 0, 0), 2, QUICK).outputs().getFirst().cosineMin());
        Comparison nan = Evaluation.random(good, linear("nan.onnx", Float.NaN, 0, 0, 0), 2, QUICK);
        assertTrue(Double.isNaN(nan.outputs().getFirst().cosineMin()));
        assertTrue(nan.toJson().contains("\"cosineMin\" : null"));
    }

    /** The largest of the columns x0, x1 and of x1, x0 differ always; so do those of x0, x1 and a tie, half of the time. */
    @Test
    void theLargestAlongTheLastAxisAreCompared() throws IOException {
        Path model = linear("a.onnx", 1, 0, 0, 1);
        Path swapped = linear("swapped.onnx", 0, 1, 1, 0);
        Path tie = linear("tie.onnx", 1, 1, 1, 1);
        Path nan = linear("nan.onnx", Float.NaN, Float.NaN, 0, 0);
        assertEquals(1, argmax(model, model));
        assertEquals(0, argmax(model, swapped));
        assertEquals(0.5, argmax(model, tie), 0.1);
        assertEquals(1, argmax(tie, linear("first.onnx", 1, 1, 1, 1)));
        assertEquals(0, argmax(nan, nan));
        assertTrue(Double.isNaN(argmax(linear("one.onnx", 1, 2), linear("same.onnx", 1, 2))));
    }

    private static double argmax(Path reference, Path candidate) throws IOException {
        Evaluation.Options rows = QUICK.shapes(Map.of("x", Shape.of(100, 2)));
        return Evaluation.random(reference, candidate, 3, rows).outputs().getFirst().sameArgmax();
    }

    private static double cosine(float[] table, int x, int y) {
        return Embeddings.cosine(row(table, x), row(table, y));
    }

    private static float[] row(float[] table, int at) {
        return Arrays.copyOfRange(table, at * HIDDEN, (at + 1) * HIDDEN);
    }

    private static int largest(float[] table, int at) {
        float[] row = row(table, at);
        return IntStream.range(0, HIDDEN).boxed().max(Comparator.comparing(i -> row[i])).orElseThrow();
    }

    private Comparison tasks(Tasks tasks, String... texts) throws IOException {
        return Evaluation.texts(embedding("a.onnx", 0, TinyModel.INT64), embedding("b.onnx", 0.5, TinyModel.INT64), List.of(texts),
                tokenizer, QUICK.tasks(tasks));
    }

    /** A class for each token; texts of pairs have none. */
    @Test
    void labelsAreComparedWithTheLargest() throws IOException {
        int[] words = {2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
        List<Integer> labels = new ArrayList<>();
        int right = 0;
        for (int word : words) {
            labels.add(largest(table(0), word));
            right += largest(table(0), word) == largest(table(0.5), word) ? 1 : 0;
        }
        assertTrue(right > 1 && right < 10, right + " right");
        Tasks tasks = Tasks.NONE.labels(labels);
        Comparison c = tasks(tasks.pairs(List.of(new Tasks.Pair("w2", "w3", 0))), "w2 w3 w4", "w5", "w6 w7 w8 w9 w10", "w11");
        assertEquals(new Comparison.Task("accuracy", 10, 1, right / 10.0), c.tasks().get(0));
        assertEquals("macroF1", c.tasks().get(1).name());
        assertEquals(1, c.tasks().get(1).reference());
        assertEquals(6, c.items());
        for (List<Integer> wrong : List.of(labels.subList(0, 9), List.of(HIDDEN))) {
            assertThrows(InputException.class, () -> tasks(Tasks.NONE.labels(wrong), "w2 w3 w4", "w5", "w6 w7 w8 w9 w10", "w11"));
        }
        Path model = linear("one.onnx", 1, 2, 3, 4);
        assertThrows(IllegalArgumentException.class, () -> Evaluation.random(model, model, 1, QUICK.tasks(tasks)));
    }

    @Test
    void pairsAreRankedByTheirCosines() throws IOException {
        List<Tasks.Pair> pairs = new ArrayList<>();
        double[] scores = new double[8];
        double[] before = new double[8];
        double[] after = new double[8];
        for (int i = 0; i < 8; i++) {
            scores[i] = i * 7 % 5;
            before[i] = cosine(table(0), 2 + i, 3 + i);
            after[i] = cosine(table(0.5), 2 + i, 3 + i);
            pairs.add(new Tasks.Pair("w" + (2 + i), "w" + (3 + i), scores[i]));
        }
        for (String[] texts : new String[][] {{}, {"w4 w2", "w7"}}) {
            Comparison.Task task = tasks(Tasks.NONE.pairs(pairs), texts).tasks().getFirst();
            assertEquals(new Comparison.Task("spearman", 8, Scores.spearman(before, scores), Scores.spearman(after, scores)), task);
            assertNotEquals(task.reference(), task.candidate());
        }
        String json = tasks(Tasks.NONE.pairs(pairs.subList(0, 1))).toJson().replaceAll("\\s", "");
        assertTrue(json.contains("\"tasks\":[{\"name\":\"spearman\",\"samples\":1,\"reference\":null,\"candidate\":null}]"), json);
    }

    /** Texts are words 4 to 11, queries words 2 and 3; the nearest three by sorting. */
    @Test
    void queriesFindTexts() throws IOException {
        String[] texts = {"w4", "w5", "w6", "w7", "w8", "w9", "w10", "w11"};
        List<String> queries = List.of("w2", "w3");
        List<List<Integer>> relevant = List.of(List.of(0, 7), List.of(3));
        double[] recall = new double[2];
        double same = 0;
        for (int q = 0; q < 2; q++) {
            int word = 2 + q;
            List<Set<Integer>> found = new ArrayList<>();
            for (double noise : new double[] {0, 0.5}) {
                float[] table = table(noise);
                found.add(new HashSet<>(IntStream.range(0, 8).boxed().sorted(Comparator.comparing(i -> -cosine(table, word, 4 + i)))
                        .limit(3).toList()));
            }
            for (int side = 0; side < 2; side++) {
                recall[side] += relevant.get(q).stream().filter(found.get(side)::contains).count() / (2.0 * relevant.get(q).size());
            }
            same += found.get(0).stream().filter(found.get(1)::contains).count() / 6.0;
        }
        assertTrue(same > 0 && same < 1, same + " the same");
        Comparison.Task own = tasks(Tasks.NONE.retrieval(queries, List.of(), 3), texts).tasks().getFirst();
        assertEquals(new Comparison.Task("recall@3 of the reference's", 2, 1, own.candidate()), own);
        assertEquals(same, own.candidate(), 1e-12);
        Comparison.Task given = tasks(Tasks.NONE.retrieval(queries, relevant, 3).pairs(List.of(new Tasks.Pair("w2", "w3", 1))), texts)
                .tasks().getLast();
        assertEquals("recall@3", given.name());
        assertEquals(recall[0], given.reference(), 1e-12);
        assertEquals(recall[1], given.candidate(), 1e-12);
        assertThrows(InputException.class, () -> tasks(Tasks.NONE.retrieval(queries, List.of(), 8), texts));
        assertThrows(InputException.class, () -> tasks(Tasks.NONE.retrieval(queries, List.of(List.of(8), List.of(1)), 3), texts));
        assertThrows(IllegalArgumentException.class, () -> Tasks.NONE.retrieval(queries, List.of(List.of(1)), 3));
    }

    @Test
    void modelsThatDoNotFitAreRefused() throws IOException {
        Path model = linear("a.onnx", 1, 2, 3, 4);
        Path wide = linear("wide.onnx", 1, 2, 3, 4, 5, 6);
        assertUnsupported("not the same model", () -> Evaluation.random(model, wide, 1, QUICK));
        assertUnsupported("no input 'input_ids'", () -> Evaluation.texts(model, model, List.of("w2"), tokenizer, QUICK));
        Path words = new TinyModel().node("Identity", "x -> y").input("x", TinyModel.STRING, "batch 2")
                .output("y", TinyModel.STRING, "batch 2").write(folder.resolve("words.onnx"));
        assertUnsupported("no random values", () -> Evaluation.random(words, words, 1, QUICK));
        Path unknown = new TinyModel().node("NoSuchOperator", "x -> y").input("x", TinyModel.FLOAT, "batch 2")
                .output("y", TinyModel.FLOAT, "batch 2").write(folder.resolve("unknown.onnx"));
        assertUnsupported("NoSuchOperator", () -> Evaluation.random(unknown, unknown, 1, QUICK));
    }

    private static void assertUnsupported(String message, org.junit.jupiter.api.function.Executable work) {
        Exception e = assertThrows(RuntimeException.class, work);
        assertTrue(e.getMessage().contains(message), e.getMessage());
        assertTrue(e instanceof UnsupportedRequestException || e instanceof MalformedModelException, e.toString());
    }

    @Test
    void whatIsNotThereOrNotAModelIsSaid() throws IOException {
        Path model = linear("a.onnx", 1, 2, 3, 4);
        Path none = folder.resolve("none.onnx");
        Path junk = Files.writeString(folder.resolve("junk.onnx"), "this is not a model");
        assertThrows(NoSuchFileException.class, () -> Evaluation.random(model, none, 1, QUICK));
        assertThrows(NoSuchFileException.class, () -> Evaluation.texts(model, model, List.of("x"), none, QUICK));
        assertThrows(MalformedModelException.class, () -> Evaluation.random(model, junk, 1, QUICK));
        assertThrows(IllegalArgumentException.class, () -> Evaluation.random(model, model, 0, QUICK));
        assertThrows(IllegalArgumentException.class, () -> Evaluation.texts(model, model, List.of(), tokenizer, QUICK));
        InputException e = assertThrows(InputException.class,
                () -> Evaluation.texts(model, model, List.of("x"), junk, QUICK));
        assertTrue(e.getMessage().contains("not a tokenizer.json"), e.getMessage());
    }

    @Test
    void jsonHasTheDocumentedFields() throws IOException {
        Path model = embedding("same.onnx", 0, TinyModel.INT64);
        String json = Evaluation.texts(model, model, List.of("w2 w3", "w4", "w5"), tokenizer, QUICK).toJson();
        for (String field : List.of("reference", "candidate", "path", "bytes", "medianMillis", "p95Millis", "ratio",
                "speedup", "runtime", "threads", "items", "inputs", "measuresQuality", "shapes", "outputs", "name",
                "cosineMean", "cosineP5", "cosineMin", "relativeError", "maxError", "sameArgmax", "neighbours", "tasks")) {
            assertTrue(json.contains("\"" + field + "\" : "), field + " in " + json);
        }
        assertTrue(json.contains("\"measuresQuality\" : true"), json);
        Path image = image("image.onnx", 8, 8);
        String random = Evaluation.random(image, image, 1, QUICK).toJson().replaceAll("\\s", "");
        assertTrue(random.contains("\"shapes\":[{\"name\":\"x\",\"shape\":[1,3,8,8],\"chosen\":true}]"), random);
    }
}
