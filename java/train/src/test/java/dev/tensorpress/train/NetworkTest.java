package dev.tensorpress.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.ndarray.types.Shape;
import ai.djl.training.GradientCollector;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.OnnxModel;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** all-MiniLM-L6-v2 and models that read lines as networks. */
class NetworkTest {
    private static final List<String> INPUTS = List.of("input_ids", "attention_mask", "token_type_ids");
    private static final Shape SHAPE = new Shape(2, 9);
    private static final long[][] TOKENS = new long[3][18];

    @TempDir
    static Path folder;

    private static Path file;
    private static OnnxModel model;
    private static Arena arena;

    @BeforeAll
    static void open() throws IOException {
        file = folder.resolve("minilm.onnx");
        try (InputStream in = NetworkTest.class.getResourceAsStream("/all-minilm-l6-v2.onnx")) {
            Files.copy(in, file);
        }
        for (int i = 0; i < 18; i++) {
            TOKENS[0][i] = 1000 + 97 * i;
            TOKENS[1][i] = i < 14 ? 1 : 0;
        }
        model = OnnxModel.open(file, false);
        arena = Arena.ofShared();
    }

    @AfterAll
    static void close() throws IOException {
        model.close();
        arena.close();
    }

    private static Map<String, NDArray> inputs(NDManager scope) {
        Map<String, NDArray> inputs = new HashMap<>();
        for (int i = 0; i < 3; i++) {
            inputs.put(INPUTS.get(i), scope.create(TOKENS[i], SHAPE));
        }
        return inputs;
    }

    private static float[] runtime(Path file, String output) throws OrtException {
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        try (OrtSession session = environment.createSession(file.toString(), new OrtSession.SessionOptions())) {
            Map<String, OnnxTensor> inputs = new HashMap<>();
            for (int i = 0; i < 3; i++) {
                inputs.put(INPUTS.get(i), OnnxTensor.createTensor(environment, LongBuffer.wrap(TOKENS[i]), SHAPE.getShape()));
            }
            try (OrtSession.Result result = session.run(inputs)) {
                return ((OnnxTensor) result.get(output).orElseThrow()).getFloatBuffer().array().clone();
            } finally {
                inputs.values().forEach(OnnxTensor::close);
            }
        }
    }

    private static float largest(float[] a, float[] b) {
        float most = 0;
        for (int i = 0; i < a.length; i++) {
            most = Math.max(most, Math.abs(a[i] - b[i]));
        }
        return most;
    }

    @Test
    void aNetworkComputesWhatTheRuntimeDoes() throws Exception {
        EditableModel editable = EditableModel.of(model, arena);
        String output = editable.graph().outputs().keySet().iterator().next();
        try (Network network = Network.of(editable); NDManager scope = network.scope()) {
            float[] got = network.run(scope, inputs(scope), List.of(output)).get(output).toFloatArray();
            float[] expected = runtime(file, output);
            assertEquals(expected.length, got.length);
            assertTrue(largest(expected, got) <= 1e-5, "differs by " + largest(expected, got));
            // Matrices, tables, biases, scales; no scalars, and nothing that says shapes.
            assertEquals(22_713_216, network.parameters().stream().mapToLong(name -> network.parameter(name).size()).sum(), 400_000);
            network.store(arena);
            Path again = folder.resolve("again.onnx");
            editable.write(Destination.of(again));
            assertArrayEquals(expected, runtime(again, output));
        }
    }

    /** Convolutions, depthwise ones too, attention, and probabilities of 6,625 characters. The largest value is below 1: differences are as parts of that. */
    @ParameterizedTest
    @ValueSource(strings = {"ch_PP-OCRv3_rec_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx"})
    void aRecogniserComputesWhatTheRuntimeDoes(String name) throws Exception {
        Path recogniser = folder.resolve(name);
        try (InputStream in = NetworkTest.class.getResourceAsStream("/models/" + name)) {
            Files.copy(in, recogniser);
        }
        // Two lines of strokes, as high as the model reads them.
        Shape shape = new Shape(2, 3, 48, 200);
        float[] image = new float[(int) shape.size()];
        Random random = new Random(5);
        for (int i = 0; i < image.length; i++) {
            image[i] = (float) Math.tanh(3 * Math.sin(i % 200 * 0.35 + i / 200 % 48 * 0.2 + i / 28_800) + 0.3 * random.nextGaussian());
        }
        float[] expected;
        OrtEnvironment environment = OrtEnvironment.getEnvironment();
        try (OrtSession session = environment.createSession(recogniser.toString(), new OrtSession.SessionOptions());
                OnnxTensor x = OnnxTensor.createTensor(environment, FloatBuffer.wrap(image), shape.getShape()); OrtSession.Result result = session.run(Map.of("x", x))) {
            expected = ((OnnxTensor) result.get(0)).getFloatBuffer().array().clone();
        }
        try (OnnxModel opened = OnnxModel.open(recogniser, false); Arena own = Arena.ofShared(); Network network = Network.of(EditableModel.of(opened, own));
                NDManager scope = network.scope()) {
            String output = EditableModel.of(opened, own).graph().outputs().keySet().iterator().next();
            float[] got = network.run(scope, Map.of("x", scope.create(image, shape)), List.of(output)).get(output).toFloatArray();
            float most = largest(expected, new float[expected.length]);
            assertTrue(most > 0.5, "nothing is read with certainty: " + most);
            assertTrue(largest(expected, got) <= 1e-5 * most, "differs by " + largest(expected, got) + " of " + most);
        }
    }

    @Test
    void stepsAgainstTheGradientLowerTheLossAndAreWritten() throws Exception {
        EditableModel editable = EditableModel.of(model, arena);
        String output = editable.graph().outputs().keySet().iterator().next();
        try (Network network = Network.of(editable)) {
            String name = network.parameters().stream().filter(p -> network.parameter(p).getShape().equals(new Shape(384, 1536))).findFirst().orElseThrow();
            NDArray weight = network.parameter(name);
            weight.setRequiresGradient(true);
            float before;
            try (NDManager scope = network.scope(); GradientCollector collector = Engines.engine().newGradientCollector()) {
                NDArray loss = network.run(scope, inputs(scope), List.of(output)).get(output).sub(0.1).square().mean();
                collector.backward(loss);
                before = loss.getFloat();
            }
            NDArray gradient = weight.getGradient();
            float norm = gradient.norm().getFloat();
            assertTrue(norm > 0);
            weight.setRequiresGradient(false);
            weight.subi(gradient.mul(0.01 / norm));
            float[] got;
            try (NDManager scope = network.scope()) {
                NDArray y = network.run(scope, inputs(scope), List.of(output)).get(output);
                float after = y.sub(0.1).square().mean().getFloat();
                // To first order the loss falls by the length of the step times that of the gradient.
                assertEquals(before - 0.01 * norm, after, 0.002 * norm);
                got = y.toFloatArray();
            }
            network.store(arena);
            Path changed = folder.resolve("changed.onnx");
            editable.write(Destination.of(changed));
            assertTrue(largest(runtime(changed, output), got) <= 1e-5);
            assertFalse(Arrays.equals(runtime(file, output), got));
        }
    }

    /** Nothing that a gradient needs is given back before, whatever the garbage collector does. */
    @Test
    void gradientsAreTheSameWhateverIsCollected() throws Exception {
        EditableModel editable = EditableModel.of(model, arena);
        String output = editable.graph().outputs().keySet().iterator().next();
        try (Network network = Network.of(editable)) {
            network.parameters().forEach(name -> network.parameter(name).setRequiresGradient(true));
            List<Map<String, Float>> all = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                List<ByteBuffer> others = new ArrayList<>();
                try (NDManager scope = network.scope(); GradientCollector collector = Engines.engine().newGradientCollector()) {
                    Objective objective = new Objective(List.of(Objective.Term.of(Objective.Kind.KL, output).temperature(3).weight(5)));
                    Map<String, NDArray> inputs = inputs(scope);
                    Map<String, NDArray> got = network.run(scope, inputs, List.of(output));
                    NDArray loss = objective.of(got, Map.of(output, got.get(output).stopGradient().flip(2)), inputs.get("attention_mask").toType(DataType.FLOAT32, false),
                            null, Map.of());
                    if (i > 0) {
                        System.gc();
                        Thread.sleep(100); // until cleaners are done
                        for (int k = 0; k < 20_000; k++) {
                            others.add(ByteBuffer.allocateDirect(4 + k % 13).put(0, (byte) 0x7f).put(3, (byte) 0x7f));
                        }
                    }
                    collector.backward(loss);
                    Map<String, Float> norms = new HashMap<>();
                    for (String name : network.parameters()) {
                        NDArray gradient = network.parameter(name).getGradient();
                        if (gradient != null) {
                            gradient.attach(scope);
                            norms.put(name, gradient.norm().getFloat());
                            gradient.muli(0);
                        }
                    }
                    all.add(norms);
                }
                Reference.reachabilityFence(others);
            }
            assertEquals(all.get(0), all.get(1));
            assertEquals(all.get(0), all.get(2));
        }
    }

    @Test
    void whatCannotBeTrainedIsNamedFirst() throws Exception {
        EditableModel editable = EditableModel.of(model, arena);
        EditableNode last = editable.graph().nodes().getLast();
        editable.graph().nodes().add(new EditableNode("TopK", "", "best", List.of(last.outputs().getFirst()), List.of("best")));
        String message = assertThrows(UnsupportedRequestException.class, () -> Network.of(editable)).getMessage();
        assertTrue(message.contains("cannot be trained: best (TopK)"), message);
    }

    @Test
    void missingInputsAndUnknownValuesAreNamed() throws Exception {
        EditableModel editable = EditableModel.of(model, arena);
        String output = editable.graph().outputs().keySet().iterator().next();
        try (Network network = Network.of(editable); NDManager scope = network.scope()) {
            Map<String, NDArray> inputs = inputs(scope);
            inputs.remove("attention_mask");
            String message = assertThrows(UnsupportedRequestException.class, () -> network.run(scope, inputs, List.of(output))).getMessage();
            assertTrue(message.contains("'attention_mask'"), message);
            assertThrows(UnknownNameException.class, () -> network.run(scope, inputs(scope), List.of("nothing")));
            assertThrows(UnknownNameException.class, () -> network.parameter("nothing"));
        }
    }
}
