package dev.tensorpress.runtime;

import static dev.tensorpress.runtime.NpyTest.floats;
import static dev.tensorpress.runtime.NpyTest.npy;
import static dev.tensorpress.runtime.NpyTest.npz;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Data;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FileSourceTest {
    private static final Evaluation.Options QUICK = Evaluation.Options.DEFAULT.warmup(1).runs(1).threads(1);

    @TempDir
    Path folder;

    /** a where mask, else b; and what that is for the inputs below, whatever comes in. */
    private Path where;
    private Path constant;

    @BeforeEach
    void writeModels() throws IOException {
        where = model().node("Where", "mask a b -> y").write(folder.resolve("where.onnx"));
        constant = model().node("Where", "mask a b -> c").node("Sub", "c c -> zero").node("Add", "zero is -> y")
                .weight("is", new float[] {1, 20, 3}, 1, 3).write(folder.resolve("constant.onnx"));
    }

    private static TinyModel model() {
        return new TinyModel().input("mask", TinyModel.BOOL, "n 3").input("a", TinyModel.FLOAT, "n 3")
                .input("b", TinyModel.FLOAT, "n 3").output("y", TinyModel.FLOAT, "n 3");
    }

    private static final byte[] MASK = {1, 0, 1};
    private static final byte[] A = floats(1, 2, 3);
    private static final byte[] B = floats(10, 20, 30);

    private Path good(String name) throws IOException {
        return npz(folder.resolve(name), "b", npy("<f4", "(1, 3)", B), "mask", npy("|b1", "(1, 3)", MASK),
                "a", npy("<f4", "(1, 3)", A));
    }

    private Path safetensors(String name, DType type) throws IOException {
        Shape shape = Shape.of(1, 3);
        try (FileChannel out = FileChannel.open(folder.resolve(name), StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            new SafetensorsWriter(List.of(new Item("a", type, shape, Data.of(MemorySegment.ofArray(A))),
                    new Item("b", DType.F32, shape, Data.of(MemorySegment.ofArray(B))),
                    new Item("mask", DType.BOOL, shape, Data.of(MemorySegment.ofArray(MASK)))), Map.of()).write(out);
        }
        return folder.resolve(name);
    }

    /** A TensorProto of 1 x 3. */
    private static Path tensor(Path folder, int i, String name, int type, byte[] raw) throws IOException {
        Files.createDirectories(folder);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes(new byte[] {8, 1, 8, 3, 16, (byte) type, 0x42, (byte) name.length()});
        out.writeBytes(name.getBytes(StandardCharsets.UTF_8));
        out.writeBytes(new byte[] {0x4a, (byte) raw.length});
        out.writeBytes(raw);
        return Files.write(folder.resolve("input_" + i + ".pb"), out.toByteArray());
    }

    private Path tensors(String name, boolean named) throws IOException {
        Path data = folder.resolve(name);
        if (named) {
            tensor(data, 0, "b", 1, B);
            tensor(data, 1, "a", 1, A);
            tensor(data, 2, "mask", 9, MASK);
        } else {
            tensor(data, 0, "", 9, MASK);
            tensor(data, 1, "", 1, A);
            tensor(data, 2, "", 1, B);
        }
        return data;
    }

    /** The models agree on these inputs and on no others. */
    private void check(int items, Path... inputs) throws IOException {
        Comparison c = Evaluation.inputs(where, constant, List.of(inputs), QUICK);
        assertEquals(List.of(new Comparison.Output("y", 1, 1, 1, 0, 0, 1)), c.outputs());
        assertEquals(items, c.items());
        assertEquals("files", c.inputs());
        assertTrue(c.measuresQuality());
    }

    @Test
    void inputsComeFromFilesAndFolders() throws IOException {
        check(1, good("one.npz"));
        check(2, good("one.npz"), tensors("pb", true));
        check(1, tensors("plain", false));
        check(1, safetensors("one.safetensors", DType.F32));
        Path many = Files.createDirectory(folder.resolve("many"));
        good("many/1.npz");
        good("many/2.npz");
        Files.writeString(many.resolve("labels.txt"), "not read");
        tensors("many/test_data_set_0", true);
        tensors("many/test_data_set_10", false);
        check(4, many);
        Path x = Files.write(folder.resolve("x.npy"), npy("<f4", "(1, 2)", floats(1, 2)));
        Path single = new TinyModel().node("Relu", "x -> y").input("x", TinyModel.FLOAT, "n 2")
                .output("y", TinyModel.FLOAT, "n 2").write(folder.resolve("single.onnx"));
        assertEquals(1, Evaluation.inputs(single, single, List.of(x), QUICK).outputs().getFirst().cosineMin());
    }

    /** Where all inputs differ, so do the models. */
    @Test
    void theValuesCount() throws IOException {
        Path other = npz(folder.resolve("other.npz"), "b", npy("<f4", "(1, 3)", floats(-1, -20, -3)),
                "mask", npy("|b1", "(1, 3)", new byte[3]), "a", npy("<f4", "(1, 3)", A));
        assertEquals(-1, Evaluation.inputs(where, constant, List.of(other), QUICK).outputs().getFirst().cosineMin(), 1e-9);
    }

    /** Names with more digits come later. */
    @Test
    void tensorsAreInTheOrderOfTheirNumbers() throws IOException {
        TinyModel many = new TinyModel().output("y", TinyModel.FLOAT, "1 3").node("Sub", "x2 x10 -> y");
        Path data = folder.resolve("eleven");
        for (int i = 0; i <= 10; i++) {
            many.input("x" + i, TinyModel.FLOAT, "1 3");
            tensor(data, i, "", 1, floats(i, i, i));
        }
        Path difference = many.write(folder.resolve("many.onnx"));
        TinyModel known = new TinyModel().output("y", TinyModel.FLOAT, "1 3").node("Sub", "x2 x2 -> zero")
                .node("Add", "zero is -> y").weight("is", new float[] {-8, -8, -8}, 1, 3);
        for (int i = 0; i <= 10; i++) {
            known.input("x" + i, TinyModel.FLOAT, "1 3");
        }
        Path minusEight = known.write(folder.resolve("known.onnx"));
        assertEquals(0, Evaluation.inputs(difference, minusEight, List.of(data), QUICK).outputs().getFirst().maxError());
    }

    private void refused(String message, Path input) {
        InputException e = assertThrows(InputException.class, () -> Evaluation.inputs(where, constant, List.of(input), QUICK));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void whatDoesNotFitTheModelIsRefused() throws IOException {
        byte[] mask = npy("|b1", "(1, 3)", MASK);
        byte[] a = npy("<f4", "(1, 3)", A);
        Path file = folder.resolve("x.npz");
        refused("has the inputs mask ?x3, a ?x3, b ?x3", npz(file, "mask", mask, "a", a));
        refused("has the inputs", npz(file, "mask", mask, "a", a, "c", a));
        refused("a of " + where + " is of type FLOAT, but INT32", safetensors("i32.safetensors", DType.I32));
        UnsupportedRequestException type = assertThrows(UnsupportedRequestException.class,
                () -> Evaluation.inputs(where, constant, List.of(safetensors("u32.safetensors", DType.U32)), QUICK));
        assertTrue(type.getMessage().contains("a is an array of type U32"), type.getMessage());
        refused("has the inputs", npz(file, "mask", mask, "a", a, "b", a, "c", a));
        refused("the input b of " + where + " is of type FLOAT, but DOUBLE in",
                npz(file, "mask", mask, "a", a, "b", npy("<f8", "(1, 3)", new byte[24])));
        refused("the shape 3 does not fit the input b", npz(file, "mask", mask, "a", a, "b", npy("<f4", "(3,)", B)));
        refused("has the inputs", Files.write(folder.resolve("x.npy"), a));
        Path pb = folder.resolve("pb");
        tensor(pb, 0, "", 9, MASK);
        tensor(pb, 1, "", 1, A);
        refused("one of 2 arrays", pb);
        refused("neither a file .npz, .npy or .safetensors, nor a folder", where);
        refused("holds no inputs", Files.createDirectory(folder.resolve("empty")));
        Path data = Files.createDirectories(folder.resolve("data/test_data_set_0")).getParent();
        refused("test_data_set_0 holds no input_0.pb", data);
        assertThrows(NoSuchFileException.class,
                () -> Evaluation.inputs(where, constant, List.of(folder.resolve("none.npz")), QUICK));
        assertThrows(IllegalArgumentException.class, () -> Evaluation.inputs(where, constant, List.of(), QUICK));
        Path two = npz(file, "mask", npy("|b1", "(1, 3)", new byte[] {1, 2, 0}), "a", a, "b", a);
        MalformedModelException e = assertThrows(MalformedModelException.class,
                () -> Evaluation.inputs(where, constant, List.of(two), QUICK));
        assertTrue(e.getMessage().contains("expected 0 or 1"), e.getMessage());
    }
}
