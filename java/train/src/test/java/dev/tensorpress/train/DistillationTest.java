package dev.tensorpress.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Simulation;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.SampleReader;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import dev.tensorpress.train.Distillation.DivergedException;
import dev.tensorpress.train.Distillation.Options;
import dev.tensorpress.train.Distillation.Result;
import dev.tensorpress.train.Objective.Kind;
import dev.tensorpress.train.Objective.Term;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Two layers of 16 inputs and 8 results, the second student narrower than its teacher. */
class DistillationTest {
    private static final Options QUICK = Options.DEFAULT.batch(8).epochs(12).schedule(new Schedule(Schedule.Shape.COSINE, 1e-2, 0.1)).decay(0);

    @TempDir
    Path folder;

    /** tanh(x A + a) B + b, of random numbers. */
    private Path model(String name, int hidden, long seed) throws IOException {
        return model(name, hidden, seed, 16);
    }

    /** @param dims of a sample, 16 numbers */
    private Path model(String name, int hidden, long seed, int... dims) throws IOException {
        return model(name, hidden, seed, 8, dims);
    }

    private Path model(String name, int hidden, long seed, int outputs, int[] dims) throws IOException {
        Path empty = Files.write(folder.resolve("empty.onnx"),
                Protobuf.model(Protobuf.field(11, Protobuf.value("x", dims)), Protobuf.field(12, Protobuf.value("y", outputs))));
        try (OnnxModel model = OnnxModel.open(empty, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            Random random = new Random(seed);
            Map<String, EditableTensor> all = editable.graph().initializers();
            all.put("A", normal(random, 0.4f, 16, hidden));
            all.put("a", normal(random, 0.1f, hidden));
            all.put("B", normal(random, 0.4f, hidden, outputs));
            all.put("b", normal(random, 0.1f, outputs));
            List<EditableNode> nodes = editable.graph().nodes();
            nodes.add(new EditableNode("Flatten", "", "", List.of("x"), List.of("flat")));
            nodes.add(new EditableNode("MatMul", "", "first", List.of("flat", "A"), List.of("p")));
            nodes.add(new EditableNode("Add", "", "", List.of("p", "a"), List.of("q")));
            nodes.add(new EditableNode("Tanh", "", "", List.of("q"), List.of("h")));
            nodes.add(new EditableNode("MatMul", "", "second", List.of("h", "B"), List.of("r")));
            nodes.add(new EditableNode("Add", "", "", List.of("r", "b"), List.of("y")));
            Path file = folder.resolve(name);
            editable.write(Destination.replacing(file));
            return file;
        }
    }

    private static EditableTensor normal(Random random, float scale, long... dims) {
        Shape shape = Shape.of(dims);
        float[] values = new float[(int) shape.elements()];
        for (int i = 0; i < values.length; i++) {
            values[i] = scale * (float) random.nextGaussian();
        }
        return EditableTensor.of(new Tensor(DType.F32, shape, MemorySegment.ofArray(values)));
    }

    /** An open model with its network. */
    private static final class Opened implements AutoCloseable {
        private final OnnxModel model;
        private final Arena arena = Arena.ofShared();
        private final EditableModel editable;
        private final Network network;

        Opened(Path file) throws IOException {
            model = OnnxModel.open(file, false);
            editable = EditableModel.of(model, arena);
            network = Network.of(editable);
        }

        float[] parameter(String name) {
            return network.parameter(name).toFloatArray();
        }

        @Override
        public void close() {
            network.close();
            arena.close();
            model.close();
        }
    }

    private static SampleReader samples(Path model, int count) throws IOException {
        return samples(model, count, Shape.of(1, 16));
    }

    private static SampleReader samples(Path model, int count, Shape shape) throws IOException {
        try (OnnxModel open = OnnxModel.open(model, false)) {
            return SampleReader.open(model, Samples.random(open, count, 5, Map.of("x", shape)));
        }
    }

    /** By names and widths, and by order. */
    @Test
    void termsOfWhatIsInside() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        try (Opened teacher = new Opened(file); Opened same = new Opened(model("same.onnx", 32, 2)); Opened narrow = new Opened(model("narrow.onnx", 24, 2))) {
            assertEquals(List.of(Term.of(Kind.MSE, "flat").weight(1.5), Term.of(Kind.MSE, "h").weight(1.5)), Objective.hidden(teacher.model, same.model, 3));
            assertEquals(List.of(Term.of(Kind.MSE, "flat").weight(3)), Objective.hidden(teacher.model, narrow.model, 3));
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> Objective.attention(teacher.editable, same.editable, 1));
            assertTrue(e.getMessage().contains("0 in the teacher, 0 in the student"), e.getMessage());
            teacher.editable.graph().nodes().add(new EditableNode("Softmax", "", "", List.of("h"), List.of("s")));
            same.editable.graph().nodes().add(new EditableNode("Softmax", "", "", List.of("h"), List.of("t")));
            assertEquals(List.of(new Term(Kind.MSE, "t", "s", 2, 1)), Objective.attention(teacher.editable, same.editable, 2));
            assertThrows(UnsupportedRequestException.class, () -> Objective.attention(teacher.editable, narrow.editable, 1));
        }
    }

    /** A step function has no slope, and would leave the student as it is without a word. */
    @Test
    void studentsWithoutGradientsAreRefused() throws Exception {
        Path teacher = model("teacher.onnx", 8, 1);
        Path student = model("student.onnx", 8, 2);
        Path flat = folder.resolve("flat.onnx");
        try (OnnxModel model = OnnxModel.open(student, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            List<EditableNode> nodes = editable.graph().nodes();
            EditableNode last = nodes.removeLast();
            nodes.add(new EditableNode("Add", "", "", last.inputs(), List.of("s")));
            nodes.add(new EditableNode("Floor", "", "", List.of("s"), List.of("y")));
            editable.write(Destination.replacing(flat));
        }
        try (Opened from = new Opened(teacher); Opened to = new Opened(flat);
                Distillation d = Distillation.of(from.network, to.network, samples(teacher, 20), null, to.network.parameters(), outputs(Kind.MSE), Options.DEFAULT)) {
            String message = assertThrows(UnsupportedRequestException.class, () -> d.run(p -> {})).getMessage();
            assertTrue(message.contains("all gradients are 0"), message);
        }
    }

    private static Objective outputs(Kind kind) {
        return new Objective(List.of(Term.of(kind, "y")));
    }

    private Result train(Opened teacher, Opened student, Path file, Objective objective, Options options) throws IOException {
        try (Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(), objective, options)) {
            return d.run(_ -> { });
        }
    }

    @Test
    void aStudentLearnsWhatItsTeacherComputes() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2))) {
            float[] before = teacher.parameter("A");
            Result result = train(teacher, student, file, outputs(Kind.MSE), QUICK.epochs(40));
            assertTrue(result.after() < 0.35 * result.before(), result.toString());
            assertTrue(result.epochs().getLast().heldOut().isPresent());
            assertEquals(-1, Arrays.mismatch(before, teacher.parameter("A")));
        }
    }

    /** Each kind of loss falls, and is 0 for the teacher itself. */
    @Test
    void everyKindOfLossIsLearned() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        for (Kind kind : List.of(Kind.MSE, Kind.COSINE, Kind.KL)) {
            try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 32, 2)); Opened same = new Opened(file)) {
                Objective objective = new Objective(List.of(Term.of(kind, "y").temperature(2).weight(3)));
                Result result = train(teacher, student, file, objective, QUICK);
                assertTrue(result.after() < 0.6 * result.before(), kind + " " + result);
                assertEquals(0, train(teacher, same, file, objective, QUICK.epochs(1)).before(), 1e-5);
            }
        }
    }

    @Test
    void hiddenStatesOfOtherWidthAreProjected() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2))) {
            Result result = train(teacher, student, file, outputs(Kind.MSE), QUICK);
            assertTrue(result.after() < result.before());
            Objective hidden = new Objective(List.of(Term.of(Kind.MSE, "h")));
            Result projected = train(teacher, student, file, hidden, QUICK.epochs(30));
            assertTrue(projected.after() < 0.3 * projected.before(), projected.toString());
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                    () -> train(teacher, student, file, new Objective(List.of(new Term(Kind.KL, "h", "h", 1, 1))), QUICK));
            assertTrue(e.getMessage().contains("'h' of the student is"), e.getMessage());
        }
    }

    @Test
    void studentsOfOtherInputsAreRefused() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 32, 2, 1, 4, 4))) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> train(teacher, student, file, outputs(Kind.MSE), QUICK));
            assertTrue(e.getMessage().matches("the student's input 'x' is \\[.*, 1, 4, 4\\], but samples are \\(8, 16\\)"), e.getMessage());
        }
    }

    @Test
    void outputsOfAnotherWidthAreRefused() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 32, 2, 5, new int[] {16}))) {
            for (Kind kind : List.of(Kind.MSE, Kind.COSINE, Kind.KL)) {
                UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> train(teacher, student, file, outputs(kind), QUICK));
                assertTrue(e.getMessage().contains("'y' of the student is (8, 5)") && e.getMessage().contains("(8, 8)"), e.getMessage());
            }
        }
    }

    @Test
    void labelsAreLearned() throws IOException {
        Path file = model("student.onnx", 32, 2);
        int[] labels = new int[80];
        try (Opened teacher = new Opened(model("teacher.onnx", 32, 1)); Opened student = new Opened(file); SampleReader reader = samples(file, 80)) {
            try (NDManager scope = teacher.network.scope()) {
                for (int i = 0; i < labels.length; i++) {
                    try (Arena arena = Arena.ofConfined()) {
                        NDArray x = Tensors.array(scope, "x", EditableTensor.of(reader.read(i, arena).get("x")));
                        labels[i] = (int) teacher.network.run(scope, Map.of("x", x), List.of("y")).get("y").argMax(1).getLong(0);
                    }
                }
            }
            Objective objective = outputs(Kind.CROSS_ENTROPY);
            try (Distillation d = Distillation.of(null, student.network, samples(file, 80), labels, student.network.parameters(), objective,
                    QUICK.epochs(30).heldOut(0).sgd(0.9).schedule(new Schedule(Schedule.Shape.STEP, 0.1, 0)))) {
                Result result = d.run(_ -> { });
                assertTrue(result.after() < 0.25 * result.before(), result.toString());
            }
            labels[3] = 8;
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> {
                try (Distillation d = Distillation.of(null, student.network, samples(file, 80), labels, student.network.parameters(), objective,
                        QUICK.heldOut(0))) {
                    d.run(_ -> { });
                }
            });
            assertTrue(e.getMessage().contains("labels up to 8, but 'y' has 8 classes"), e.getMessage());
            assertThrows(UnsupportedRequestException.class,
                    () -> Distillation.of(null, student.network, samples(file, 80), new int[3], student.network.parameters(), objective, QUICK));
        }
    }

    /** Killed after any epoch, it ends with the same bits. */
    @Test
    void trainingGoesOnBitForBit() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        Path checkpoint = folder.resolve("checkpoint.safetensors");
        List<float[]> ends = new ArrayList<>();
        for (boolean interrupted : new boolean[] {false, true}) {
            Options options = QUICK.epochs(5).checkpoint(interrupted ? checkpoint : null);
            if (interrupted) {
                try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2));
                        Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(),
                                outputs(Kind.MSE), options)) {
                    assertThrows(IllegalStateException.class, () -> d.run(p -> {
                        if (p.epoch() == 4) {
                            throw new IllegalStateException("killed");
                        }
                    }));
                }
                assertTrue(Files.exists(checkpoint));
            }
            try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2))) {
                Set<Integer> seen = new LinkedHashSet<>();
                try (Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(),
                        outputs(Kind.MSE), options)) {
                    Result result = d.run(p -> seen.add(p.epoch()));
                    assertEquals(5, result.epochs().size());
                }
                assertEquals(interrupted ? Set.of(4, 5) : Set.of(1, 2, 3, 4, 5), seen);
                ends.add(student.parameter("A"));
            }
        }
        assertEquals(-1, Arrays.mismatch(ends.get(0), ends.get(1)));
        // Of the same names and shapes, too.
        for (boolean others : new boolean[] {false, true}) {
            try (Opened teacher = new Opened(others ? model("teacher2.onnx", 32, 9) : file);
                    Opened student = new Opened(model("student.onnx", 24, others ? 2 : 3))) {
                UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                        () -> train(teacher, student, file, outputs(Kind.MSE), QUICK.epochs(5).checkpoint(checkpoint)));
                assertTrue(e.getMessage().contains("checkpoint of another model"), e.getMessage());
            }
        }
        // Of the same nodes, one of which says something else.
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2))) {
            student.editable.graph().nodes().getFirst().set("axis", 1);
            assertThrows(UnsupportedRequestException.class, () -> train(teacher, student, file, outputs(Kind.MSE), QUICK.epochs(5).checkpoint(checkpoint)));
        }
        byte[] damaged = Files.readAllBytes(checkpoint);
        damaged[damaged.length - 9] ^= 1;
        Files.write(checkpoint, damaged);
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2))) {
            assertThrows(MalformedModelException.class, () -> train(teacher, student, file, outputs(Kind.MSE), QUICK.epochs(5).checkpoint(checkpoint)));
        }
    }

    /** Which no learning rate has made. */
    @Test
    void teachersThatMakeNoNumbersAreRefusedBeforeTraining() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        Path large = folder.resolve("large.onnx");
        try (OnnxModel model = OnnxModel.open(file, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            editable.graph().initializers().put("B", normal(new Random(1), 1e30f, 32, 8));
            editable.write(Destination.replacing(large));
        }
        try (Opened teacher = new Opened(large); Opened student = new Opened(model("student.onnx", 24, 2))) {
            DivergedException e = assertThrows(DivergedException.class, () -> train(teacher, student, large, outputs(Kind.MSE), QUICK));
            assertTrue(e.getMessage().contains("before training: student or teacher"), e.getMessage());
        }
    }

    @Test
    void aLossThatIsNoNumberEndsTrainingWithTheBestParameters() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2))) {
            float[] before = student.parameter("A");
            DivergedException e = assertThrows(DivergedException.class, () -> train(teacher, student, file, outputs(Kind.MSE),
                    QUICK.sgd(0).clip(0).schedule(new Schedule(Schedule.Shape.CONSTANT, 1e30, 0))));
            assertTrue(e.getMessage().contains("a lower learning rate may help"), e.getMessage());
            assertEquals(-1, Arrays.mismatch(before, student.parameter("A")));
        }
    }

    private Result trainOnImages(Opened teacher, Opened student, Path file, Options options) throws IOException {
        try (Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80, Shape.of(1, 1, 4, 4)), null,
                student.network.parameters(), outputs(Kind.MSE), options)) {
            return d.run(_ -> { });
        }
    }

    @Test
    void imagesAreAugmentedInTrainingAlone() throws IOException {
        Path file = model("teacher.onnx", 32, 1, 1, 4, 4);
        Augmentation augmentation = new Augmentation(0.3, 0.2, 30, 2);
        Options still = QUICK.epochs(2).schedule(new Schedule(Schedule.Shape.CONSTANT, 1e-30, 0));
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2, 1, 4, 4)); Opened same = new Opened(file)) {
            for (double heldOut : new double[] {0, 0.25}) {
                Result plain = trainOnImages(teacher, student, file, still.heldOut(heldOut));
                Result augmented = trainOnImages(teacher, student, file, still.heldOut(heldOut).augmentation(augmentation));
                assertEquals(plain.before(), augmented.before());
                for (int epoch = 0; epoch < 2; epoch++) {
                    assertEquals(plain.epochs().get(epoch).heldOut(), augmented.epochs().get(epoch).heldOut());
                    assertTrue(Math.abs(plain.epochs().get(epoch).loss() - augmented.epochs().get(epoch).loss()) > 1e-3, augmented.toString());
                }
                assertTrue(Math.abs(augmented.epochs().get(0).loss() - augmented.epochs().get(1).loss()) > 1e-4, augmented.toString());
            }
            // The teacher sees what the student sees.
            assertEquals(0, trainOnImages(teacher, same, file, still.augmentation(augmentation)).epochs().getFirst().loss(), 1e-9);
        }
        Path flat = model("flat.onnx", 32, 1);
        try (Opened teacher = new Opened(flat); Opened student = new Opened(flat)) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                    () -> train(teacher, student, flat, outputs(Kind.MSE), QUICK.augmentation(augmentation)));
            assertTrue(e.getMessage().contains("these are x of F32 1x16"), e.getMessage());
        }
    }

    /** Killed after an epoch, it ends with the same bits; with another augmentation it does not go on. */
    @Test
    void augmentedTrainingGoesOnBitForBit() throws IOException {
        Path file = model("teacher.onnx", 32, 1, 1, 4, 4);
        Path checkpoint = folder.resolve("checkpoint.safetensors");
        Options options = QUICK.epochs(4).augmentation(new Augmentation(0.3, 0.2, 30, 0.1));
        List<float[]> ends = new ArrayList<>();
        for (boolean interrupted : new boolean[] {false, true}) {
            Options now = interrupted ? options.checkpoint(checkpoint) : options;
            if (interrupted) {
                try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2, 1, 4, 4));
                        Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80, Shape.of(1, 1, 4, 4)), null,
                                student.network.parameters(), outputs(Kind.MSE), now)) {
                    assertThrows(IllegalStateException.class, () -> d.run(p -> {
                        if (p.epoch() == 3) {
                            throw new IllegalStateException("killed");
                        }
                    }));
                }
            }
            try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2, 1, 4, 4))) {
                trainOnImages(teacher, student, file, now);
                ends.add(student.parameter("A"));
            }
        }
        assertEquals(-1, Arrays.mismatch(ends.get(0), ends.get(1)));
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2, 1, 4, 4))) {
            assertThrows(UnsupportedRequestException.class, () -> trainOnImages(teacher, student, file,
                    options.augmentation(new Augmentation(0.3, 0.2, 30, 0.2)).checkpoint(checkpoint)));
            trainOnImages(teacher, student, file, options.augmentation(Augmentation.NONE));
            assertTrue(Arrays.mismatch(ends.get(0), student.parameter("A")) >= 0);
        }
    }

    @Test
    void numbersThatAreNoneAreNamedFirst() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 24, 2))) {
            float[] a = student.parameter("A");
            a[7] = Float.NaN;
            student.network.parameter("A").set(a);
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> train(teacher, student, file, outputs(Kind.MSE), QUICK));
            assertTrue(e.getMessage().contains("element 7 of 'A' is NaN"), e.getMessage());
        }
        // Of samples, too, which may be of f16.
        Path half = Files.write(folder.resolve("half.onnx"), Protobuf.model(Protobuf.field(11, Protobuf.value(10, "x", 4)), Protobuf.field(12, Protobuf.value(10, "y", 4))));
        try (OnnxModel model = OnnxModel.open(half, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            editable.graph().nodes().add(new EditableNode("Identity", "", "", List.of("x"), List.of("y")));
            editable.write(Destination.replacing(folder.resolve("identity.onnx")));
        }
        Tensor infinite = new Tensor(DType.F16, Shape.of(2, 4), MemorySegment.ofArray(new short[] {0, 0, 0, 0, 0, 0x7c00, 0, 0}));
        try (SampleReader reader = SampleReader.open(folder.resolve("identity.onnx"), Samples.arrays(Map.of("x", infinite)))) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                    () -> new Batches(reader, 0, 2, 1, 1, null, Augmentation.NONE, new Digest()));
            assertTrue(e.getMessage().contains("input x of sample 2 holds Infinity"), e.getMessage());
        }
    }

    @Test
    void zerosStay() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 32, 2))) {
            float[] a = student.parameter("A");
            for (int i = 0; i < a.length; i += 3) {
                a[i] = 0;
            }
            student.network.parameter("A").set(a);
            try (Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(),
                    outputs(Kind.MSE), QUICK)) {
                Result result = d.holdZeros().run(_ -> { });
                assertTrue(result.after() < 0.6 * result.before(), result.toString());
            }
            float[] now = student.parameter("A");
            for (int i = 0; i < now.length; i++) {
                assertEquals(i % 3 == 0, now[i] == 0, "element " + i);
            }
        }
    }

    /** A pruned weight has a code for its zeros, which mean zero after training as well. */
    @Test
    void zerosOfTablesStay() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        Path recipe = Files.writeString(folder.resolve("r.yaml"), "{name: r, steps: [{name: p, select: {role: [linear, head], min-size: 0}, prune: {sparsity: 0.5}},"
                + " {name: c, select: {role: [linear, head], min-size: 0}, codebook: {bits: 5}}]}");
        Path small = folder.resolve("small.onnx");
        try (Compressor compressor = Compressor.open(file)) {
            compressor.compress(compressor.plan(Recipe.read(recipe)), small);
        }
        try (Opened teacher = new Opened(file); Opened student = new Opened(small); NDManager scope = student.network.scope()) {
            float[] before = student.network.run(scope, Map.of(), List.of("A")).get("A").toFloatArray();
            try (Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(), outputs(Kind.MSE), QUICK)) {
                Result result = d.holdZeros().run(_ -> { });
                assertTrue(result.after() < result.before(), result.toString());
            }
            float[] after = student.network.run(scope, Map.of(), List.of("A")).get("A").toFloatArray();
            int zeros = 0;
            for (int i = 0; i < after.length; i++) {
                assertEquals(before[i] == 0, after[i] == 0, "element " + i);
                zeros += after[i] == 0 ? 1 : 0;
            }
            assertEquals(after.length / 2, zeros);
            assertNotEquals(Arrays.toString(before), Arrays.toString(after));
        }
    }

    /** What was trained through a simulation loses as much when it is written by the recipe as in training. */
    @Test
    void trainingSeesWhatWillBeWritten() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        Recipe recipe = Recipe.named("int4").set("min-size", "1").set("linear.block", "16");
        Path trained = folder.resolve("trained.onnx");
        Path written = folder.resolve("written.onnx");
        double before;
        double after;
        try (Opened teacher = new Opened(file); Opened student = new Opened(file); Compressor compressor = Compressor.open(file);
                Simulation simulation = compressor.simulate(compressor.plan(recipe))) {
            assertEquals(Set.of("A", "B"), simulation.weights());
            try (Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(),
                    outputs(Kind.MSE), QUICK.heldOut(0.5).epochs(30).schedule(new Schedule(Schedule.Shape.COSINE, 3e-3, 0)))) {
                Result result = d.through(simulation).run(_ -> { });
                before = result.before();
                after = result.after();
                assertTrue(after < 0.7 * before, result.toString());
            }
            student.network.store(student.arena);
            student.editable.write(Destination.of(trained));
        }
        try (Compressor compressor = Compressor.open(trained); Arena arena = Arena.ofShared()) {
            compressor.compress(compressor.plan(recipe), written);
            Simulation simulation = compressor.simulate(compressor.plan(recipe));
            try (Opened teacher = new Opened(file); Opened student = new Opened(trained);
                    Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(),
                            outputs(Kind.MSE), QUICK.heldOut(0.5).epochs(1))) {
                assertEquals(after, d.through(simulation).run(_ -> { }).before(), 1e-6);
            }
            simulation.close();
        }
    }

    /** With a limit of time, progress tells how many steps are expected, not how many there could be. */
    @Test
    void timeEndsTraining() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        try (Opened teacher = new Opened(file); Opened student = new Opened(model("student.onnx", 16, 2))) {
            List<Distillation.Progress> told = new ArrayList<>();
            try (Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(), outputs(Kind.MSE),
                    QUICK.epochs(1_000_000).time(Duration.ofMillis(700)))) {
                d.run(told::add);
            }
            Distillation.Progress last = told.getLast();
            assertTrue(last.step() < 1_000_000 && last.steps() < 1.5 * last.step(), last.toString());
            assertTrue(told.stream().allMatch(p -> p.step() <= p.steps()));
        }
    }

    /** Ranges that another plan has chosen stay, and what is written has the codes that training has seen; methods would choose other ranges. */
    @Test
    void rangesThatAreHeldAreWritten() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        Recipe wide = Recipe.named("int4").set("min-size", "1").set("linear.block", "16").set("linear.clip", "none").target("onnx");
        Recipe narrow = wide.set("linear.clip", "20:0.5");
        Path trained = folder.resolve("trained.onnx");
        Path written = folder.resolve("written.onnx");
        double after;
        try (Opened teacher = new Opened(file); Opened student = new Opened(file); Compressor compressor = Compressor.open(file);
                Simulation start = compressor.simulate(compressor.plan(narrow)); Simulation simulation = compressor.simulate(compressor.plan(wide));
                Arena arena = Arena.ofShared()) {
            Map<String, Encoding.Quantized> codes;
            Map<String, byte[]> scales = new HashMap<>();
            for (String name : List.of("A", "B")) {
                MemorySegment elements = arena.allocateFrom(ValueLayout.JAVA_FLOAT, student.parameter(name));
                scales.put(name, start.codes(name, elements, arena).orElseThrow().scales().data().toArray(ValueLayout.JAVA_BYTE));
            }
            try (Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(),
                    outputs(Kind.MSE), QUICK.heldOut(0.5).epochs(30).schedule(new Schedule(Schedule.Shape.COSINE, 3e-3, 0)))) {
                Result result = d.through(simulation, start).run(_ -> { });
                after = result.after();
                assertTrue(after < 0.8 * result.before(), result.toString());
                codes = d.codes(arena);
            }
            assertEquals(Set.of("A", "B"), codes.keySet());
            codes.forEach((name, q) -> assertArrayEquals(scales.get(name), q.scales().data().toArray(ValueLayout.JAVA_BYTE)));
            student.network.store(student.arena);
            student.editable.write(Destination.of(trained));
            try (Compressor last = Compressor.open(trained)) {
                Plan plan = last.plan(wide);
                last.compress(plan, written, codes);
                Path other = folder.resolve("other.onnx");
                assertThrows(IllegalArgumentException.class, () -> last.compress(plan, other, Map.of("A", codes.get("B"))));
                assertThrows(IllegalArgumentException.class, () -> last.compress(plan, other, Map.of("none", codes.get("B"))));
                assertFalse(Files.exists(other));
            }
            assertThrows(IllegalArgumentException.class, () -> simulation.hold("none", codes.get("B")));
        }
        try (Opened teacher = new Opened(file); Opened student = new Opened(written);
                Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, student.network.parameters(),
                        outputs(Kind.MSE), QUICK.heldOut(0.5).epochs(1))) {
            assertEquals(after, d.run(_ -> { }).before(), 1e-6);
        }
    }

    /** Codes stay, and each value of a table gets the gradients of all elements that have its code (Han et al. 2016). */
    @Test
    void tablesAndScalesOfACompressedModelAreTrained() throws IOException {
        Path file = model("teacher.onnx", 32, 1);
        for (String method : List.of("codebook: {bits: 3}", "codebook: {bits: 5}", "quantize: {bits: 4, block: 16, activations: float}")) {
            Path recipe = Files.writeString(folder.resolve("r.yaml"), "{name: r, steps: [{name: s, select: {role: [linear, head], min-size: 0}, " + method + "}]}");
            Path small = folder.resolve("small.onnx");
            try (Compressor compressor = Compressor.open(file, Compressor.Options.DEFAULT.overwrite(true))) {
                compressor.compress(compressor.plan(Recipe.read(recipe).target("onnx")), small);
            }
            try (Opened teacher = new Opened(file); Opened student = new Opened(small)) {
                Set<String> trained = new LinkedHashSet<>(student.network.parameters());
                // Pairs are what bytes of two codes mean.
                trained.removeIf(name -> Set.of("a", "b").contains(name) || name.endsWith(".pairs"));
                assertEquals(2, trained.size(), trained.toString());
                try (Distillation d = Distillation.of(teacher.network, student.network, samples(file, 80), null, trained, outputs(Kind.MSE),
                        QUICK.heldOut(0.5).epochs(20).schedule(new Schedule(Schedule.Shape.COSINE, 2e-3, 0)))) {
                    Result result = d.run(_ -> { });
                    assertTrue(result.after() < 0.97 * result.before(), method + " " + result);
                }
                student.network.store(student.arena);
                Path again = folder.resolve("again.onnx");
                student.editable.write(Destination.replacing(again));
                assertEquals(Files.size(small), Files.size(again), 256);
            }
        }
    }
}
