package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OrtException;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.structure.Dependencies;
import dev.tensorpress.structure.Quantity;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The models of ONNX's own conformance tests, as Debian's package libonnx-testdata installs them. */
final class ConformanceTest {
    private static final Path DATA = Path.of("/usr/share/libonnx-testdata/data");

    @TempDir
    Path folder;

    @Test
    void everyModelSurvivesCompression() throws Exception {
        List<Path> models = models();
        int opened = 0;
        int compressed = 0;
        int compared = 0;
        for (Path p : models) {
            try (OnnxModel m = OnnxModel.open(p, true)) {
                opened++;
                m.graph().orElseThrow().feeds().forEach(f -> f.products().forEach(x -> assertTrue(m.weights().contains(x.weight()))));
                for (String target : List.of("onnxruntime", "onnx")) {
                    for (int wish = 0; wish < 3; wish++) {
                        Path out = folder.resolve("out.onnx");
                        if (compress(m, target, wish, out)) {
                            compressed++;
                            compared += compare(p, out, wish) ? 1 : 0;
                        }
                    }
                }
            }
        }
        assertEquals(models.size(), opened);
        assertTrue(compared > 0, compressed + " were compressed, none compared");
        System.out.println("onnx-testdata: " + opened + " models, " + compressed + " outputs, " + compared + " compared");
    }

    @Test
    void everyModelIsReadToBeEditedAndWrittenAsItWas() throws Exception {
        List<Path> models = models();
        int compared = 0;
        for (Path p : models) {
            Path out = folder.resolve("out.onnx");
            try (Arena arena = Arena.ofShared(); OnnxModel m = OnnxModel.open(p, true)) {
                EditableModel.of(m, arena).write(Destination.replacing(out));
                try (OnnxModel again = OnnxModel.open(out, true)) {
                    assertEquals(structure(m), structure(again), p.toString());
                    assertEquals(m.properties(), again.properties());
                }
            }
            float[] expected = run(p, p);
            if (expected != null) {
                assertArrayEquals(expected, run(p, out), p.toString());
                compared++;
            }
        }
        assertTrue(compared > models.size() / 2, compared + " of " + models.size() + " compared");
    }

    @Test
    void noShapeThatIsInferredIsWrong() throws Exception {
        int known = 0;
        for (Path p : models()) {
            try (Arena arena = Arena.ofShared(); OnnxModel m = OnnxModel.open(p, true)) {
                EditableModel e = EditableModel.of(m, arena);
                Dependencies d = Dependencies.of(e);
                for (EditableValue said : e.graph().outputs().values()) {
                    List<Quantity> inferred = d.shapes().of(said.name()).orElse(null);
                    if (inferred == null || said.axes().isEmpty()) {
                        continue;
                    }
                    assertEquals(said.axes().get().size(), inferred.size(), p + " " + said.name());
                    for (int i = 0; i < inferred.size(); i++) {
                        long size = said.axes().get().get(i).size();
                        if (size >= 0 && inferred.get(i).known()) {
                            assertEquals(size, inferred.get(i).factor(), p + " " + said.name() + " axis " + i);
                            known++;
                        }
                    }
                }
            }
        }
        assertTrue(known > 1000, known + " axes known");
        System.out.println("onnx-testdata: " + known + " axes inferred");
    }

    private static String structure(OnnxModel m) {
        StringBuilder all = new StringBuilder();
        for (OnnxGraph g : m.parsed().graphs) {
            for (OnnxGraph.Node n : g.nodes) {
                all.append(n.domain).append(' ').append(n.op).append(' ').append(n.name).append(n.inputs).append(n.outputs);
                n.attributes.stream().map(a -> " " + a.name + a.integer + a.real + a.text + Arrays.toString(a.integers) + a.graphs.size()).sorted()
                        .forEach(all::append);
            }
            g.initializers.forEach(t -> all.append(t.name).append(Arrays.toString(t.dims)).append(t.type));
            g.inputs.forEach(v -> all.append(v.name()));
            all.append(g.outputs).append(g.sparse.size()).append('\n');
        }
        return all.toString();
    }

    private static List<Path> models() throws IOException {
        boolean there = Files.isDirectory(DATA);
        if (System.getProperty("tensorpress.require", "").contains("onnx-testdata")) {
            assertTrue(there, "onnx-testdata is required, but " + DATA + " does not exist");
        }
        Assumptions.assumeTrue(there, "onnx-testdata: " + DATA + " does not exist (Debian package libonnx-testdata)");
        try (Stream<Path> all = Files.walk(DATA)) {
            return all.filter(p -> p.getFileName().toString().endsWith(".onnx")).sorted().toList();
        }
    }

    private static boolean compress(OnnxModel m, String target, int wish, Path out) throws Exception {
        Target t = Targets.of(m, target, Map.of());
        Map<Weight, Form> forms = new LinkedHashMap<>();
        for (Weight w : m.weights()) {
            boolean blocks = wish == 1 && w.inputAxis() >= 0;
            try {
                forms.put(w, Targets.accept(t, w, new Form.Quantized(wish == 1 ? 4 : 8, blocks ? w.inputAxis() : w.outputAxis(),
                        blocks ? 16 : 0, true, wish == 2 ? Form.Activations.DYNAMIC : Form.Activations.FLOAT, DType.I8, DType.F32, false, false)));
            } catch (UnsupportedRequestException e) {
                assertTrue(e.getMessage().length() > 5);
            }
        }
        if (forms.isEmpty()) {
            return false;
        }
        Targets.write(t, forms, new PlainEncoder(), Destination.replacing(out));
        assertEquals(Files.size(out), Targets.size(t, forms));
        return true;
    }

    /** What a model, or what was made of it, makes of the model's inputs; null if ONNX Runtime cannot run the model itself. */
    private static float[] run(Path of, Path model) throws Exception {
        try {
            return Ort.runOn(of.resolveSibling("test_data_set_0"), model);
        } catch (OrtException | IOException | IndexOutOfBoundsException | ClassCastException e) {
            if (!of.equals(model)) {
                throw e;
            }
            // An operator that ONNX Runtime lacks, or inputs that are sequences.
            return null;
        }
    }

    private static boolean compare(Path in, Path out, int wish) throws Exception {
        float[] expected = run(in, in);
        if (expected == null) {
            return false;
        }
        float[] actual = run(in, out);
        assertEquals(expected.length, actual.length, in.toString());
        double error = 0;
        double sum = 0;
        for (int i = 0; i < expected.length; i++) {
            if (Float.isFinite(expected[i])) {
                error += Math.pow(expected[i] - actual[i], 2);
                sum += Math.pow(expected[i], 2);
            }
        }
        assertTrue(Math.sqrt(error) <= (wish == 1 ? 0.5 : 0.1) * Math.sqrt(sum) + 1e-6,
                in + ": off by " + Math.sqrt(error / sum) + " with wish " + wish);
        return true;
    }
}
