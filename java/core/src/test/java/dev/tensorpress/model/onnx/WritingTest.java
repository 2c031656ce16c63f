package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnknownFieldSet;
import dev.tensorpress.Targets;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.TestModel.GraphBuilder;
import dev.tensorpress.model.onnx.TestModel.NodeBuilder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the output keeps of the input, where tensors go, and that outputs are whole or not there. */
final class WritingTest {
    @TempDir
    Path folder;

    private static Map<Weight, Form> forms(OnnxModel m, Target t, int bits, int block, boolean dynamic) {
        Map<Weight, Form> forms = new LinkedHashMap<>();
        for (Weight w : m.weights()) {
            if (w.obstacle().isEmpty() && w.tensor().shape().rank() > 1) {
                int axis = block > 0 ? w.inputAxis() : w.outputAxis();
                forms.put(w, Targets.accept(t, w, new Form.Quantized(bits, axis, axis < 0 ? 0 : block, true,
                        dynamic ? Form.Activations.DYNAMIC : Form.Activations.FLOAT, DType.I8,
                        DType.F32, false, false)));
            }
        }
        return forms;
    }

    private static TestModel mixed() {
        TestModel m = TestModel.of(8, 17);
        m.before.string(3, "1.0").string(99, "unknown before").integer(98, 77);
        m.after.message(14, new Proto().string(1, "author").string(2, "somebody")).string(6, "documentation")
                .message(8, new Proto().string(1, "my.domain").integer(2, 3))
                .message(25, new Proto().string(1, "f").string(10, "my.domain")
                        .string(4, "a").string(5, "b").message(9, new Proto().string(1, "").integer(2, 17))
                        .message(7, new Proto().string(1, "a").string(2, "b").string(4, "Relu")));
        NodeBuilder mm = new NodeBuilder("MatMul", "h", "x", "w");
        mm.proto.string(6, "a product").message(9, new Proto().string(1, "k").string(2, "v")).string(97, "new in ONNX 2");
        GraphBuilder branch = new GraphBuilder("then").init("w3", DType.F32, TestModel.random(4, 64 * 8), 64, 8)
                .node("MatMul", "o", "h", "w3").output("o", 1, -1, 8);
        GraphBuilder other = new GraphBuilder("else")
                .node(new NodeBuilder("Constant", "w4", new String[0]).tensor("value",
                        TestModel.tensor("", DType.F32, TestModel.random(5, 64 * 8), 64, 8)))
                .node("MatMul", "o", "h", "w4").output("o", 1, -1, 8);
        m.graph.node(mm).node(new NodeBuilder("If", "y", "c").graph("then_branch", branch).graph("else_branch", other))
                .init("a", DType.F32, TestModel.random(1, 5), 5).init("w", DType.F32, TestModel.random(2, 64 * 64), 64, 64)
                .init("z", DType.F32, TestModel.random(3, 5), 5).longs("n", 1, 2).input("x", 1, -1, 64).input("c", 9, 1)
                .output("y", 1, -1, 8);
        m.graph.more.message(13, TestModel.value("h", 1, -1, 64)).message(13, TestModel.value("w", 1, 64, 64))
                .string(95, "unknown in graph");
        return m;
    }

    @Test
    void nothingToCompressGivesTheSameBytes() throws Exception {
        Path in = mixed().write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Target t = Targets.of(m, "", Map.of());
            assertEquals(Set.of(out), Targets.write(t, Map.of(), null, Destination.replacing(out)));
            assertArrayEquals(Files.readAllBytes(in), Files.readAllBytes(out));
            assertEquals(Files.size(in), Targets.size(t, Map.of()));
            Map<Weight, Form> dense = new LinkedHashMap<>();
            m.weights().forEach(w -> dense.put(w, new Form.Dense(w.tensor().dtype())));
            dense.keySet().removeIf(w -> w.obstacle().isPresent());
            Targets.write(t, dense, (w, form, rows, first) -> new Encoding.Dense(rows), Destination.replacing(out));
            assertArrayEquals(Files.readAllBytes(in), Files.readAllBytes(out));
        }
    }

    /** Read with protobuf-java, which knows nothing of our code: all fields but the replaced ones are as they were. */
    @Test
    void whatIsNotCompressedKeepsItsBytes() throws Exception {
        Path in = mixed().write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        for (String target : List.of("onnxruntime", "onnx")) {
            for (boolean dynamic : new boolean[] {false, true}) {
                try (OnnxModel m = OnnxModel.open(in, false)) {
                    Target t = Targets.of(m, target, Map.of());
                    Map<Weight, Form> forms = forms(m, t, dynamic ? 8 : 4, dynamic ? 0 : 32, dynamic);
                    assertEquals(3, forms.size());
                    Targets.write(t, forms, new PlainEncoder(), Destination.replacing(out));
                    assertEquals(Files.size(out), Targets.size(t, forms));
                }
                UnknownFieldSet a = UnknownFieldSet.parseFrom(Files.readAllBytes(in));
                UnknownFieldSet b = UnknownFieldSet.parseFrom(Files.readAllBytes(out));
                for (int field : a.asMap().keySet()) {
                    if (field != 7 && field != 8) {
                        assertEquals(a.getField(field), b.getField(field), "model field " + field);
                    }
                }
                assertTrue(b.getField(8).getLengthDelimitedList().containsAll(a.getField(8).getLengthDelimitedList()));
                UnknownFieldSet ga = UnknownFieldSet.parseFrom(a.getField(7).getLengthDelimitedList().get(0));
                UnknownFieldSet gb = UnknownFieldSet.parseFrom(b.getField(7).getLengthDelimitedList().get(0));
                for (int field : List.of(2, 11, 12, 95)) {
                    assertEquals(ga.getField(field), gb.getField(field), "graph field " + field);
                }
                List<ByteString> kept = new ArrayList<>(ga.getField(5).getLengthDelimitedList());
                kept.remove(1);
                List<ByteString> after = new ArrayList<>(gb.getField(5).getLengthDelimitedList());
                after.retainAll(kept);
                assertEquals(kept, after, "initializers that stay keep bytes and order");
                boolean replaced = dynamic || target.equals("onnxruntime");
                assertEquals(replaced ? 1 : 2, gb.getField(13).getLengthDelimitedList().size());
                if (replaced) {
                    UnknownFieldSet node = null;
                    for (ByteString n : gb.getField(1).getLengthDelimitedList()) {
                        UnknownFieldSet f = UnknownFieldSet.parseFrom(n);
                        if (f.hasField(97)) {
                            node = f;
                        }
                    }
                    assertEquals("MatMul_h", node.getField(3).getLengthDelimitedList().get(0).toStringUtf8());
                    assertEquals("a product", node.getField(6).getLengthDelimitedList().get(0).toStringUtf8());
                    assertTrue(node.hasField(9));
                }
                Ort.run(out, 1, 2);
            }
        }
    }

    @Test
    void subgraphsAndConstantsCompute() throws Exception {
        TestModel m = mixed();
        Path in = m.write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        float[] expected = Ort.run(in, 1, 2);
        for (String target : List.of("onnxruntime", "onnx")) {
            try (OnnxModel open = OnnxModel.open(in, false)) {
                Target t = Targets.of(open, target, Map.of());
                Targets.write(t, forms(open, t, 8, 16, false), new PlainEncoder(), Destination.replacing(out));
            }
            LoweringTest.close(target, expected, Ort.run(out, 1, 2), 0.02);
        }
    }

    @Test
    void namesThatAreTakenAreNotTakenAgain() throws Exception {
        TestModel m = new TestModel();
        m.graph.init("w", DType.F32, TestModel.random(1, 64 * 4), 64, 4).init("w.scale", DType.F32, new float[] {1}, 1)
                .input("x", 1, -1, 64).input("w.quantized", 1, -1, 4).node("MatMul", "h", "x", "w")
                .node("Mul", "k", "h", "w.scale").node("Add", "y", "k", "w.quantized").output("y", 1, -1, 4);
        Path in = m.write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        try (OnnxModel open = OnnxModel.open(in, false)) {
            Target t = Targets.of(open, "", Map.of());
            Targets.write(t, forms(open, t, 8, 16, false), new PlainEncoder(), Destination.replacing(out));
        }
        LoweringTest.close("names", Ort.run(in, 1, 2), Ort.run(out, 1, 2), 0.02);
    }

    private static Proto external(String name, int type, String location, long offset, long length, long... dims) {
        Proto t = TestModel.head(name, type, dims);
        for (String[] e : new String[][] {{"location", location}, {"offset", "" + offset}, {"length", "" + length}}) {
            t.message(13, new Proto().string(1, e[0]).string(2, e[1]));
        }
        return t.integer(14, 1);
    }

    private TestModel withData(String location) {
        TestModel m = new TestModel();
        m.graph.init(external("w", 1, location, 4096, 64 * 32 * 4, 64, 32)).init(external("b", 1, location, 0, 128, 32))
                .input("x", 1, -1, 64).node("MatMul", "h", "x", "w").node("Add", "y", "h", "b").output("y", 1, -1, 32);
        return m;
    }

    private void data(Path to) throws IOException {
        byte[] all = new byte[4096 + 64 * 32 * 4];
        System.arraycopy(TestModel.raw(DType.F32, TestModel.random(2, 32)), 0, all, 0, 128);
        System.arraycopy(TestModel.raw(DType.F32, TestModel.random(3, 64 * 32)), 0, all, 4096, 64 * 32 * 4);
        Files.createDirectories(to.getParent());
        Files.write(to, all);
    }

    @Test
    void externalDataMoveToAFileOfTheirOwn() throws Exception {
        Path in = withData("sub/w.bin").write(folder, "in.onnx");
        data(folder.resolve("sub/w.bin"));
        float[] expected = Ort.run(in, 1, 2);
        Path elsewhere = Files.createDirectory(folder.resolve("elsewhere"));
        Path out = elsewhere.resolve("out.onnx");
        try (OnnxModel m = OnnxModel.open(in, false)) {
            assertEquals(2, m.files().size());
            assertEquals(Files.size(in) + 4096 + 8192, m.bytes());
            for (String target : List.of("onnxruntime", "onnx")) {
                Target t = Targets.of(m, target, Map.of());
                Map<Weight, Form> forms = forms(m, t, 8, 32, false);
                List<Path> files = List.copyOf(Targets.write(t, forms, new PlainEncoder(), Destination.replacing(out)));
                assertEquals(2, files.size());
                assertEquals(out, files.get(1));
                assertTrue(files.get(0).getFileName().toString().matches("in\\.[0-9a-f]{8}\\.data"), files.toString());
                assertEquals(Files.size(files.get(0)) + Files.size(out), Targets.size(t, forms));
                LoweringTest.close(target, expected, Ort.run(out, 1, 2), 0.02);
            }
            // With nothing to compress, too: a stranger's model says nothing about names beside the output.
            Path copy = elsewhere.resolve("copy.onnx");
            Target t = Targets.of(m, "", Map.of());
            List<Path> files = List.copyOf(Targets.write(t, Map.of(), null, Destination.replacing(copy)));
            assertEquals(elsewhere, files.get(0).getParent());
            assertTrue(files.get(0).getFileName().toString().matches("in\\.[0-9a-f]{8}\\.data"), files.toString());
            assertFalse(Files.exists(elsewhere.resolve("sub")));
            assertEquals(Files.size(files.get(0)) + Files.size(copy), Targets.size(t, Map.of()));
            assertArrayEquals(expected, Ort.run(copy, 1, 2));
            // Other contents of that name stay, unless they may be replaced; the same are what this needs.
            Path second = elsewhere.resolve("second.onnx");
            assertEquals(files.get(0), List.copyOf(Targets.write(t, Map.of(), null, Destination.of(second))).get(0));
            Files.delete(second);
            byte[] data = Files.readAllBytes(files.get(0));
            Files.writeString(files.get(0), "precious");
            assertThrows(FileAlreadyExistsException.class, () -> Targets.write(t, Map.of(), null, Destination.of(second)));
            assertEquals("precious", Files.readString(files.get(0)));
            assertFalse(Files.exists(second));
            Targets.write(t, Map.of(), null, Destination.replacing(second));
            assertArrayEquals(data, Files.readAllBytes(files.get(0)));
        }
        try (OnnxModel again = OnnxModel.open(out, false)) {
            assertEquals(2, again.files().size());
        }
    }

    /** Its name is the output's, or one that programs read without being asked. */
    @Test
    void noDataFileGetsANameOfTheModels() throws Exception {
        for (String location : List.of("out.onnx", ".ssh/authorized_keys", "authorized_keys")) {
            Path inside = Files.createDirectories(folder.resolve("in" + location.length()));
            Path in = withData(location).write(inside, "in.onnx");
            data(inside.resolve(location));
            float[] expected = Ort.run(in, 1, 2);
            Path home = Files.createDirectories(folder.resolve("home" + location.length()));
            Path out = home.resolve("out.onnx");
            try (OnnxModel m = OnnxModel.open(in, false)) {
                Targets.of(m, "", Map.of()).write(Map.of(), null, Destination.replacing(out));
            }
            assertArrayEquals(expected, Ort.run(out, 1, 2), location);
            try (Stream<Path> left = Files.list(home)) {
                assertTrue(left.allMatch(p -> p.equals(out) || p.getFileName().toString().matches("in\\.[0-9a-f]{8}\\.data")), location);
            }
        }
    }

    /** What was not there when the work began, and is there when it ends, is somebody's. */
    @Test
    void whatWasMadeMeanwhileStays() throws Exception {
        data(folder.resolve("w.bin"));
        Path elsewhere = Files.createDirectory(folder.resolve("elsewhere"));
        Path out = elsewhere.resolve("out.onnx");
        for (Path in : List.of(mixed().write(folder, "in.onnx"), withData("w.bin").write(folder, "external.onnx"))) {
            try (OnnxModel m = OnnxModel.open(in, false)) {
                Target t = Targets.of(m, "onnxruntime", Map.of());
                PlainEncoder encoder = new PlainEncoder();
                assertThrows(FileAlreadyExistsException.class, () -> Targets.write(t, forms(m, t, 8, 32, false), (w, f, rows, first) -> {
                    Files.writeString(out, "mine");
                    return encoder.encode(w, f, rows, first);
                }, Destination.of(out)));
                assertEquals("mine", Files.readString(out));
                try (Stream<Path> left = Files.list(elsewhere)) {
                    assertEquals(List.of(out), left.toList());
                }
                Files.delete(out);
            }
        }
    }

    @Test
    void locationsStayInTheFolder() throws Exception {
        Path inside = Files.createDirectory(folder.resolve("model"));
        data(folder.resolve("w.bin"));
        for (String location : List.of("../w.bin", "a/../../w.bin", folder.resolve("w.bin").toString(), "a\\..\\w.bin", "",
                "\0", "C:w.bin", ".", "missing.bin")) {
            Path in = withData(location).write(inside, "in.onnx");
            for (boolean allow : new boolean[] {false, true}) {
                assertThrows(MalformedModelException.class, () -> OnnxModel.open(in, allow), location);
            }
        }
        Files.createSymbolicLink(inside.resolve("soft.bin"), folder.resolve("w.bin"));
        Files.createSymbolicLink(inside.resolve("dir"), folder);
        Files.createLink(inside.resolve("hard.bin"), folder.resolve("w.bin"));
        for (String location : List.of("soft.bin", "hard.bin", "dir/w.bin")) {
            Path in = withData(location).write(inside, "in.onnx");
            UnsupportedRequestException e =
                    assertThrows(UnsupportedRequestException.class, () -> OnnxModel.open(in, false), location);
            assertTrue(e.setting().equals("allowLinks"), e.getMessage());
            OnnxModel.open(in, true).close();
        }
    }

    /** As in the caches of model hubs, and where a link stays in the folder. */
    @Test
    void linksThatStayWithTheModelAreFollowed() throws Exception {
        Path blobs = Files.createDirectory(folder.resolve("blobs"));
        Path inside = Files.createDirectories(folder.resolve("snapshots/main/onnx"));
        data(blobs.resolve("0123"));
        Files.createSymbolicLink(inside.resolve("hub.bin"), Path.of("../../../blobs/0123"));
        data(inside.resolve("real.bin"));
        Files.createSymbolicLink(inside.resolve("near.bin"), Path.of("real.bin"));
        for (String location : List.of("hub.bin", "near.bin")) {
            OnnxModel.open(withData(location).write(inside, "in.onnx"), false).close();
        }
        Files.createLink(folder.resolve("elsewhere"), inside.resolve("real.bin"));
        Path in = withData("near.bin").write(inside, "in.onnx");
        assertThrows(UnsupportedRequestException.class, () -> OnnxModel.open(in, false));
    }

    @Test
    void externalDataThatDoNotFit() throws Exception {
        Files.write(folder.resolve("w.bin"), new byte[100]);
        for (long[] region : new long[][] {{0, 99}, {4, 100}, {101, 100}, {Long.MAX_VALUE / 10, 100}}) {
            TestModel m = new TestModel();
            m.graph.init(external("w", 1, "w.bin", region[0], region[1], 25));
            Path in = m.write(folder, "in.onnx");
            assertThrows(MalformedModelException.class, () -> OnnxModel.open(in, false));
        }
        for (String number : List.of("-1", "1e3", "", "99999999999999999999")) {
            TestModel m = new TestModel();
            m.graph.init(external("w", 1, "w.bin", 0, 100, 25).message(13,
                    new Proto().string(1, "offset").string(2, number)));
            Path in = m.write(folder, "in.onnx");
            assertThrows(MalformedModelException.class, () -> OnnxModel.open(in, false));
        }
    }

    /** Of which none but the last page exists on disk. */
    @Test
    void dataFilesOfManyGigabytes() throws Exception {
        long size = 5L << 30;
        try (RandomAccessFile f = new RandomAccessFile(folder.resolve("big.bin").toFile(), "rw")) {
            f.setLength(size);
            f.seek(size - 64 * 32 * 4);
            f.write(TestModel.raw(DType.F32, TestModel.random(1, 64 * 32)));
        }
        TestModel m = new TestModel();
        m.graph.init(external("w", 1, "big.bin", size - 64 * 32 * 4, 64 * 32 * 4, 64, 32)).input("x", 1, -1, 64)
                .init(external("huge", 1, "big.bin", 0, 4L << 30, 1L << 30))
                .node("MatMul", "y", "x", "w").output("y", 1, -1, 32);
        Path in = m.write(folder, "in.onnx");
        try (OnnxModel open = OnnxModel.open(in, false)) {
            assertEquals(1L << 30, open.weights().get(1).tensor().shape().elements());
            Target t = Targets.of(open, "", Map.of());
            assertTrue(Targets.size(t, forms(open, t, 8, 32, false)) > 4L << 30);
        }
    }

    @Test
    void modelsTooLargeForProtobufGetADataFile() throws Exception {
        Path in = mixed().write(folder, "in.onnx");
        Path out = folder.resolve("out.onnx");
        float[] expected = Ort.run(in, 1, 2);
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Target t = new OnnxTarget(m, "onnxruntime", -1, true, 4000);
            Map<Weight, Form> forms = forms(m, t, 8, 32, false);
            Set<Path> files = Targets.write(t, forms, new PlainEncoder(), Destination.replacing(out));
            assertEquals(2, files.size());
            long sum = 0;
            for (Path p : files) {
                sum += Files.size(p);
            }
            assertEquals(sum, Targets.size(t, forms));
            LoweringTest.close("external", expected, Ort.run(out, 1, 2), 0.02);
            assertThrows(UnsupportedRequestException.class, () -> Targets.size(new OnnxTarget(m, "onnx", -1, true, 100),
                    forms(m, Targets.of(m, "onnx", Map.of()), 8, 0, false)));
        }
    }

    @Test
    void failuresLeaveNothingBehind() throws Exception {
        Path in = mixed().write(folder, "in.onnx");
        Path target = Files.createDirectory(folder.resolve("target"));
        Path out = target.resolve("out.onnx");
        Files.writeString(out, "old");
        try (OnnxModel m = OnnxModel.open(in, false)) {
            Target t = Targets.of(m, "", Map.of());
            Map<Weight, Form> forms = forms(m, t, 8, 32, false);
            assertThrows(ArithmeticException.class, () -> Targets.write(t, forms, (w, f, rows, first) -> {
                throw new ArithmeticException();
            }, Destination.replacing(out)));
            assertEquals("old", Files.readString(out));
            assertThrows(UnsupportedRequestException.class, () -> Targets.write(t, forms, new PlainEncoder(), Destination.replacing(in)));
            assertThrows(IOException.class, () -> Targets.write(t, forms, new PlainEncoder(), Destination.replacing(target)));
            IOException e = assertThrows(IOException.class,
                    () -> Targets.write(t, forms, new PlainEncoder(), Destination.replacing(folder.resolve("nowhere/out.onnx"))));
            assertTrue(e.getMessage().contains("folder does not exist"), e.getMessage());
            Lowering foreign = new Lowering() {
                @Override
                public Form form() {
                    return new Form.Dense(DType.F32);
                }

                @Override
                public long size() {
                    return 1;
                }
            };
            IllegalArgumentException other = assertThrows(IllegalArgumentException.class,
                    () -> t.write(Map.of(m.weights().get(1), foreign), null, Destination.replacing(out)));
            assertTrue(other.getMessage().contains("decided by another target"), other.getMessage());
            try (Stream<Path> left = Files.list(target)) {
                assertEquals(List.of(out), left.toList());
            }
            Targets.write(t, forms, new PlainEncoder(), Destination.replacing(out));
            assertFalse(Files.readString(out, java.nio.charset.StandardCharsets.ISO_8859_1).startsWith("old"));
        }
    }

    /** Of a mix of old and new there is no output. */
    @Test
    void inputThatChangesIsNoticed() throws Exception {
        Path target = Files.createDirectory(folder.resolve("target"));
        Path out = target.resolve("out.onnx");
        data(folder.resolve("w.bin"));
        for (Path in : List.of(mixed().write(folder, "in.onnx"), withData("w.bin").write(folder, "external.onnx"))) {
            List<Path> files;
            try (OnnxModel m = OnnxModel.open(in, false)) {
                files = m.files();
            }
            for (Path changed : files) {
                try (OnnxModel m = OnnxModel.open(in, false)) {
                    Target t = Targets.of(m, "onnxruntime", Map.of());
                    Map<Weight, Form> forms = forms(m, t, 8, 32, false);
                    PlainEncoder encoder = new PlainEncoder();
                    IOException e = assertThrows(IOException.class, () -> Targets.write(t, forms, (w, f, rows, first) -> {
                        FileTime time = Files.getLastModifiedTime(changed);
                        Files.setLastModifiedTime(changed, FileTime.fromMillis(time.toMillis() + 1000));
                        return encoder.encode(w, f, rows, first);
                    }, Destination.replacing(out)));
                    assertTrue(e.getMessage().contains(changed.getFileName() + " changed while it was read"), e.getMessage());
                    try (Stream<Path> left = Files.list(target)) {
                        assertEquals(List.of(), left.toList());
                    }
                }
            }
        }
    }

    @Test
    void aFullDiskIsSaidToBeFull() throws Exception {
        Path full = Path.of("/dev/full");
        Assumptions.assumeTrue(Files.exists(full), "needs /dev/full");
        IOException e = assertThrows(IOException.class, () -> {
            try (java.nio.channels.FileChannel c = java.nio.channels.FileChannel.open(full,
                    java.nio.file.StandardOpenOption.WRITE)) {
                c.write(java.nio.ByteBuffer.allocate(10));
            }
        });
        assertTrue(dev.tensorpress.io.DurableFile.explain(e, Path.of("x")).getMessage().contains("disk is full"));
    }

    @Test
    void aFolderWithoutPermission() throws Exception {
        Path locked = Files.createDirectory(folder.resolve("locked"));
        Files.setPosixFilePermissions(locked, Set.of());
        Assumptions.assumeFalse(Files.isWritable(locked), "needs a user other than root");
        IOException e = assertThrows(IOException.class,
                () -> new dev.tensorpress.io.DurableFile(locked, "x").close());
        assertTrue(e.getMessage().contains("no permission"), e.getMessage());
    }
}
