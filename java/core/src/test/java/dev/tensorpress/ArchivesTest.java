package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.archive.Archive;
import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.Packer;
import dev.tensorpress.model.archive.Unpacker;
import dev.tensorpress.model.archive.Verification;
import dev.tensorpress.model.archive.WrongKeyException;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class ArchivesTest {
    private static final long MEMORY = 128 << 20;

    @TempDir
    Path temp;

    static Packer.Packed pack(Path from, Path to, int threads) throws IOException {
        return Packer.pack(Archives.find(from, false).contents(), new Packer.Settings(null, null, null, threads, MEMORY, null), to, false);
    }

    static void expand(Path from, Path to, boolean overwrite, boolean resume) throws IOException {
        try (Archive archive = Archive.open(from)) {
            Unpacker.expand(archive, to, new Unpacker.Settings(overwrite, resume, 2, MEMORY, null));
        }
    }

    static Map<String, byte[]> contents(Path folder) throws IOException {
        Map<String, byte[]> all = new TreeMap<>();
        List<Path> files;
        try (Stream<Path> walk = Files.walk(folder)) {
            files = walk.filter(Files::isRegularFile).toList();
        }
        for (Path p : files) {
            all.put(folder.relativize(p).toString(), Files.readAllBytes(p));
        }
        return all;
    }

    static void assertSame(Path expected, Path found) throws IOException {
        Map<String, byte[]> a = contents(expected);
        Map<String, byte[]> b = contents(found);
        assertEquals(a.keySet(), b.keySet());
        a.forEach((name, bytes) -> assertArrayEquals(bytes, b.get(name), name));
    }

    private SmallFolder model() {
        return new SmallFolder(3).add("a", DType.BF16, 700, 1000).add("b", DType.F32, 300, 301).add("c", DType.I8, 77, 99)
                .add("small", DType.F16, 5).add("d", DType.F32, 1100, 1000).add("empty", DType.F32, 0);
    }

    private Path folder() throws IOException {
        Path folder = model().write(temp.resolve("model"), 2);
        Files.createDirectories(folder.resolve("deep/er"));
        Files.writeString(folder.resolve("deep/er/words.txt"), "one two three ".repeat(1000));
        Files.writeString(folder.resolve("deep/nothing"), "");
        Files.writeString(folder.resolve(".hidden"), "here as well");
        Files.writeString(folder.resolve("broken.onnx"), "no model at all");
        return folder;
    }

    @Test
    void aFolderComesBackBitForBit() throws IOException {
        Path folder = folder();
        Path one = temp.resolve("one.tpa");
        Path two = temp.resolve("two.tpa");
        Packer.Packed packed = pack(folder, one, 1);
        pack(folder, two, 5);
        assertEquals(-1, Files.mismatch(one, two));
        assertEquals(Files.size(one), packed.bytes());
        assertTrue(packed.bytes() < packed.bytesBefore());
        assertEquals(Set.of("a", "b", "c", "d"), packed.arrays().stream().map(Packer.Stored::name).collect(Collectors.toSet()));
        assertTrue(Archive.isArchive(one));
        assertFalse(Archive.isArchive(folder.resolve("config.json")));
        Path out = temp.resolve("out");
        expand(one, out, false, false);
        assertSame(folder, out);
        assertFalse(Files.exists(temp.resolve("out.partial")));
        assertEquals(1, Archives.find(folder, false).notes().size());
    }

    @Test
    void arraysThatAreAlikeAreStoredOnce() throws IOException {
        SmallFolder model = model();
        float[] near = model.values.get("d").clone();
        near[near.length - 1]++; // in the last chunk, and not where arrays are looked at first
        model.add("e", DType.F32, Shape.of(1000, 1100), model.values.get("d")).add("f", DType.F32, Shape.of(1100, 1000), near)
                .add("g", DType.F32, Shape.of(1100, 1000), model.values.get("d")).add("h", DType.I8, 4 * 1100, 1000);
        Path folder = model.write(temp.resolve("twice"), 3);
        Path archive = temp.resolve("twice.tpa");
        Packer.Packed packed = pack(folder, archive, 1);
        pack(folder, temp.resolve("five.tpa"), 5);
        assertEquals(-1, Files.mismatch(archive, temp.resolve("five.tpa")));
        Map<String, Packer.Stored> stored = packed.arrays().stream().collect(Collectors.toMap(Packer.Stored::name, s -> s));
        String first = Stream.of("d", "e", "g").filter(n -> !stored.get(n).way().startsWith("as ")).findFirst().orElseThrow();
        for (String name : List.of("d", "e", "g")) {
            assertTrue(name.equals(first) || stored.get(name).way().equals("as " + first) && stored.get(name).stored() < 1000, stored.get(name).toString());
        }
        assertTrue(stored.get(first).stored() > 1_000_000 && stored.get("f").stored() > 1_000_000);
        Path out = temp.resolve("out");
        expand(archive, out, false, false);
        assertSame(folder, out);
        try (Archive a = Archive.open(archive); Arena arena = Arena.ofConfined()) {
            for (String name : List.of("g", "e", "d", "f", "g")) {
                MemorySegment to = arena.allocate(a.array(name).bytes());
                a.weight(name, to);
                assertArrayEquals(model.bytes.get(name), to.toArray(ValueLayout.JAVA_BYTE), name);
            }
        }
        assertEquals(packed.bytes(), Verification.of(archive, null).bytes());
        // Encrypted, and beside a base that has one of them.
        ArchiveKey key = ArchiveKey.random();
        Path base = new SmallFolder(1).add("e", DType.F32, Shape.of(1000, 1100), model.values.get("d")).write(temp.resolve("base"), 1);
        Path sealed = temp.resolve("sealed.tpa");
        Packer.pack(Archives.find(folder, false).contents(), new Packer.Settings(key, null, Archives.find(base, false).contents(), 2, MEMORY, null), sealed, false);
        try (Archive a = Archive.open(sealed, key)) {
            a.useBase(base, null);
            Unpacker.expand(a, temp.resolve("out2"), new Unpacker.Settings(false, false, 2, MEMORY, null));
        }
        assertSame(folder, temp.resolve("out2"));
        // What is finished is not needed, but what repeats it is.
        Files.move(out, temp.resolve("out3.partial"));
        Files.delete(temp.resolve("out3.partial/model-00003-of-00003.safetensors"));
        expand(archive, temp.resolve("out3"), false, true);
        assertSame(folder, temp.resolve("out3"));
    }

    @Test
    void oneArrayIsReadAlone() throws IOException {
        SmallFolder model = model();
        Path archive = temp.resolve("m.tpa");
        pack(model.write(temp.resolve("model"), 2), archive, 2);
        try (Archive a = Archive.open(archive); Arena arena = Arena.ofConfined()) {
            assertEquals(5, a.arrays().size());
            for (Archive.Array array : a.arrays()) {
                MemorySegment out = arena.allocate(array.bytes());
                a.weight(array.name(), out);
                assertArrayEquals(model.bytes.get(array.name()), out.toArray(ValueLayout.JAVA_BYTE), array.name());
                assertEquals(model.tensors.get(array.name()).shape(), array.shape());
                assertEquals(model.tensors.get(array.name()).dtype(), array.type());
            }
            assertThrows(UnknownNameException.class, () -> a.array("z"));
            assertThrows(IllegalArgumentException.class, () -> a.weight("a", arena.allocate(8)));
            for (Archive.Member m : a.members()) {
                assertArrayEquals(Files.readAllBytes(temp.resolve("model").resolve(m.name())), a.stream(m.name()).readAllBytes());
            }
            a.close(); // and once more in the end
            MemorySegment out = arena.allocate(a.arrays().getFirst().bytes());
            assertThrows(IllegalStateException.class, () -> a.weight(a.arrays().getFirst().name(), out));
        }
    }

    @Test
    void aFileComesBackAsAFile() throws IOException {
        byte[] noise = new byte[9_000_001];
        new Random(1).nextBytes(noise);
        for (byte[] bytes : List.of(noise, new byte[9_000_001], new byte[0], new byte[] {7})) {
            Path file = Files.write(temp.resolve("file"), bytes);
            Path archive = temp.resolve("file.tpa");
            pack(file, archive, 2);
            assertTrue(Files.size(archive) < bytes.length + 600);
            Path out = temp.resolve("again");
            expand(archive, out, true, false);
            assertArrayEquals(bytes, Files.readAllBytes(out));
            Files.delete(archive);
        }
    }

    @Test
    void nothingIsReplacedUnasked() throws IOException {
        Path folder = folder();
        Path archive = temp.resolve("m.tpa");
        pack(folder, archive, 2);
        byte[] before = Files.readAllBytes(archive);
        assertThrows(FileAlreadyExistsException.class, () -> pack(temp.resolve("model/config.json"), archive, 1));
        assertArrayEquals(before, Files.readAllBytes(archive));
        Path out = temp.resolve("out");
        expand(archive, out, false, false);
        assertThrows(FileAlreadyExistsException.class, () -> expand(archive, out, false, false));
        Files.writeString(out.resolve("config.json"), "changed");
        expand(archive, out, true, false);
        assertSame(folder, out);
        Files.writeString(out.resolve("mine"), "must stay");
        assertThrows(UnsupportedRequestException.class, () -> expand(archive, out, true, false));
        assertTrue(Files.exists(out.resolve("mine")));
        assertThrows(UnsupportedRequestException.class, () -> expand(archive, temp, true, false));
    }

    /** What an interrupted run finished is used if it is whole, and only when asked for. */
    @Test
    void expandingIsResumed() throws IOException {
        Path folder = folder();
        Path archive = temp.resolve("m.tpa");
        pack(folder, archive, 2);
        Path out = temp.resolve("out");
        Path partial = Files.createDirectory(temp.resolve("out.partial"));
        List<Path> shards = new ArrayList<>();
        try (Stream<Path> all = Files.list(folder)) {
            all.filter(p -> p.toString().endsWith(".safetensors")).sorted().forEach(shards::add);
        }
        Path first = partial.resolve(shards.getFirst().getFileName());
        Files.copy(shards.getFirst(), first);
        Files.write(partial.resolve(shards.getLast().getFileName()), new byte[(int) Files.size(shards.getLast())]);
        Object key = Files.getAttribute(first, "unix:ino");
        assertThrows(FileAlreadyExistsException.class, () -> expand(archive, out, false, false));
        expand(archive, out, false, true);
        assertSame(folder, out);
        assertEquals(key, Files.getAttribute(out.resolve(first.getFileName()), "unix:ino"));
    }

    /** The next version of a model: few elements are others, a tensor is new, another one has another shape. */
    @Test
    void whatChangedIsStoredAlone() throws IOException {
        Path old = folder();
        SmallFolder next = model();
        for (int i = 0; i < 1000; i++) {
            next.bytes.get("d")[4 * i * 1000] ^= 1;
        }
        next.add("b", DType.F32, 301, 301).add("new", DType.I8, 50, 60);
        Path changed = next.write(temp.resolve("next"), 2);
        Path whole = temp.resolve("whole.tpa");
        long alone = pack(changed, whole, 2).bytes();
        Path delta = temp.resolve("delta.tpa");
        Packer.Contents base = Archives.find(old, false).contents();
        for (int threads : new int[] {3, 1}) {
            Packer.Packed packed = Packer.pack(Archives.find(changed, false).contents(),
                    new Packer.Settings(null, null, base, threads, MEMORY, null), delta, true);
            assertTrue(packed.bytes() < alone / 8, packed.bytes() + " of " + alone);
            byte[] bytes = Files.readAllBytes(delta);
            Files.write(temp.resolve("delta" + threads), bytes);
        }
        assertEquals(-1, Files.mismatch(temp.resolve("delta1"), temp.resolve("delta3")));
        Path out = temp.resolve("out");
        assertThrows(UnsupportedRequestException.class, () -> expand(delta, out, false, false));
        assertThrows(UnsupportedRequestException.class, () -> Compressor.open(delta));
        Path mounted;
        try (Archive archive = Archive.open(delta)) {
            assertThrows(UnsupportedRequestException.class, () -> archive.useBase(changed));
            assertThrows(UnsupportedRequestException.class, () -> archive.useBase(temp));
            archive.useBase(old);
            // As an archive, in the place of the one before, and again in the place of that.
            Path packed = temp.resolve("old.tpa");
            ArchiveKey key = ArchiveKey.random();
            Packer.pack(Archives.find(old, false).contents(), new Packer.Settings(key, null, null, 1, MEMORY, null), packed, false);
            int files = openIn(old).size();
            assertTrue(files > 0);
            assertThrows(WrongKeyException.class, () -> archive.useBase(packed));
            for (int i = 0; i < 3; i++) {
                archive.useBase(packed, key);
                assertThrows(UnsupportedRequestException.class, () -> archive.useBase(changed));
                assertThrows(UnsupportedRequestException.class, () -> archive.useBase(old, key));
            }
            assertEquals(List.of(), openIn(old));
            List<Path> open = openIn(Path.of(System.getProperty("java.io.tmpdir")).toRealPath());
            open.removeIf(p -> !p.toString().contains("/tensorpress-"));
            assertEquals(files, open.size(), open::toString);
            mounted = open.getFirst();
            Unpacker.expand(archive, out, new Unpacker.Settings(false, false, 2, MEMORY, null));
        }
        assertFalse(Files.exists(mounted.getParent()), mounted::toString);
        assertSame(changed, out);
        Archive closed = Archive.open(delta);
        closed.close();
        assertThrows(IllegalStateException.class, () -> closed.useBase(old));
        assertThrows(UnsupportedRequestException.class, () -> Packer.pack(Archives.find(changed, false).contents(),
                new Packer.Settings(null, null, base, 1, MEMORY, null), old.resolve("config.json"), true));
    }

    /** Files in a folder that this process has open. */
    private static List<Path> openIn(Path folder) throws IOException {
        List<Path> open = new ArrayList<>();
        try (Stream<Path> all = Files.list(Path.of("/proc/self/fd"))) {
            for (Path p : all.toList()) {
                if (Files.isSymbolicLink(p)) {
                    Path to = Files.readSymbolicLink(p);
                    if (to.startsWith(folder)) {
                        open.add(to);
                    }
                }
            }
        }
        return open;
    }

    /** One that is like nothing in its base stands for itself. */
    @Test
    void aBaseThatIsOfNoUseIsNotNeeded() throws IOException {
        byte[] noise = new byte[10_000];
        new Random(1).nextBytes(noise);
        Path file = Files.write(temp.resolve("file"), noise);
        Path old = Files.writeString(temp.resolve("old"), "short");
        Path archive = temp.resolve("m.tpa");
        Packer.pack(Archives.find(file, false).contents(),
                new Packer.Settings(null, null, Archives.find(old, false).contents(), 1, MEMORY, null), archive, false);
        expand(archive, temp.resolve("out"), false, false);
        assertEquals(-1, Files.mismatch(file, temp.resolve("out")));
    }

    @Test
    void anArchiveIsOpenedAsAModel() throws IOException {
        SmallFolder model = model();
        Path folder = model.write(temp.resolve("model"), 2);
        Path archive = temp.resolve("m.tpa");
        pack(folder, archive, 2);
        Path where;
        try (Compressor c = Compressor.open(archive)) {
            where = c.model().path();
            assertEquals(6, c.model().weights().size());
            for (var w : c.model().weights()) {
                assertArrayEquals(model.bytes.get(w.name()), w.tensor().data().toArray(ValueLayout.JAVA_BYTE), w.name());
            }
        }
        assertFalse(Files.exists(where.getParent()));
        Path one = temp.resolve("one.tpa");
        pack(folder.resolve("config.json"), one, 1);
        long before = temporary();
        assertThrows(RuntimeException.class, () -> Compressor.open(one));
        assertEquals(before, temporary());
    }

    private static long temporary() throws IOException {
        try (Stream<Path> all = Files.list(Path.of(System.getProperty("java.io.tmpdir")))) {
            return all.filter(p -> p.getFileName().toString().startsWith("tensorpress-")).count();
        }
    }

    /** What elements of each type are coded as, and why. */
    @Test
    void theReportSaysWhatWasChosen() throws IOException {
        Path folder = new SmallFolder(5).add("bf16", DType.BF16, 1200, 1000).add("i8", DType.I8, 100, 100).add("f32", DType.F32, 100, 100)
                .add("zeros", DType.F32, Shape.of(100, 100), new float[10_000]).write(temp.resolve("model"), 1);
        Map<String, Packer.Stored> found = new TreeMap<>();
        pack(folder, temp.resolve("m.tpa"), 2).arrays().forEach(a -> found.put(a.name(), a));
        assertEquals("bf16", found.get("bf16").way());
        assertTrue(found.get("bf16").stored() < found.get("bf16").bytes() * 0.8);
        assertTrue(found.get("bf16").sizes().get("bf16") < found.get("bf16").sizes().get("zstd"));
        assertEquals(2_400_000, found.get("bf16").planes().stream().mapToLong(Packer.Plane::bytes).sum());
        assertEquals("plain", found.get("i8").way());
        assertEquals("f32", found.get("f32").way());
        assertTrue(found.get("zeros").stored() < 400);
    }

    /** Weights of a codebook, pruned: a value takes what its frequency says; where there are too many values, elements are coded as such. */
    @Test
    void fewValuesTakeFewBits() throws IOException {
        Random r = new Random(7);
        float[] few = new float[400_000];
        float[] later = new float[400_000];
        for (int i = 0; i < few.length; i++) {
            few[i] = r.nextInt(10) > 0 ? 0 : (r.nextInt(31) - 15) * 0.3711f;
            later[i] = i < 300_000 ? few[i] : (float) r.nextGaussian();
        }
        SmallFolder model = new SmallFolder(5).add("few", DType.F32, Shape.of(400_000), few).add("half", DType.BF16, Shape.of(400_000), few)
                .add("later", DType.F32, Shape.of(400_000), later);
        Path folder = model.write(temp.resolve("model"), 1);
        Map<String, Packer.Stored> found = new TreeMap<>();
        pack(folder, temp.resolve("m.tpa"), 2).arrays().forEach(a -> found.put(a.name(), a));
        double bits = 0.469 + 0.1 * Math.log(31) / Math.log(2); // of 0 or not, and of the 31 values
        for (String name : List.of("few", "half")) {
            assertEquals("palette", found.get(name).way());
            assertTrue(found.get(name).stored() < few.length * bits / 8 * 1.03, () -> name + " " + found.get(name).stored());
        }
        assertEquals("palette", found.get("later").way());
        assertTrue(found.get("later").stored() < 450_000, () -> "" + found.get("later").stored());
        expand(temp.resolve("m.tpa"), temp.resolve("out"), false, false);
        assertSame(folder, temp.resolve("out"));
    }

    @Test
    void linksOutOfTheFolderAreNotFollowed() throws IOException {
        Path folder = folder();
        Path secret = Files.writeString(temp.resolve("secret"), "secret");
        Files.createSymbolicLink(folder.resolve("link.json"), secret);
        UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> Archives.find(folder, false));
        assertEquals("allowLinks", e.setting());
        assertTrue(Archives.find(folder, true).contents().files().containsKey("link.json"));
    }

    /** Files of a folder wait for the disk together, each once, before the folder has its name. */
    @Test
    void smallFilesAreForcedOnce() throws Exception {
        Path in = Files.createDirectories(temp.resolve("many/below"));
        for (int i = 0; i < 100; i++) {
            Files.writeString(in.resolve("f" + i), "file " + i);
        }
        Path archive = temp.resolve("many.tpa");
        pack(in.getParent(), archive, 1);
        Path out = temp.resolve("many-out").toAbsolutePath();
        Map<String, Integer> forced = new TreeMap<>();
        try (Recording recording = new Recording()) {
            recording.enable("jdk.FileForce").withThreshold(Duration.ZERO);
            recording.start();
            expand(archive, out, false, false);
            recording.stop();
            Path events = temp.resolve("events.jfr");
            recording.dump(events);
            for (RecordedEvent e : RecordingFile.readAllEvents(events)) {
                if (e.getEventType().getName().equals("jdk.FileForce")) {
                    forced.merge(e.getString("path"), 1, Integer::sum);
                }
            }
        }
        Map<String, Integer> expected = new TreeMap<>(Map.of(out.getParent() + "", 1, out + ".partial", 1, out + ".partial/below", 1));
        for (int i = 0; i < 100; i++) {
            expected.put(out + ".partial/below/f" + i, 1);
        }
        assertEquals(expected, forced);
    }

    @Test
    void allChunksAreVerified() throws Exception {
        byte[] noise = new byte[18 << 20];
        new Random(1).nextBytes(noise);
        Path archive = temp.resolve("noise.tpa");
        pack(Files.write(temp.resolve("noise"), noise), archive, 2);
        List<Long> told = new ArrayList<>();
        Verification v = Verification.of(archive, told::add);
        assertTrue(v.chunks() > 4, v.chunks() + " chunks");
        assertEquals(v.chunks(), told.size());
        assertEquals(told.stream().sorted().toList(), told);
        byte[] good = Files.readAllBytes(archive);
        for (int i = 0; i < v.chunks(); i++) {
            byte[] bad = good.clone();
            bad[told.get(i).intValue() - 1] ^= 1;
            Files.write(archive, bad);
            assertThrows(MalformedModelException.class, () -> Verification.of(archive, null));
        }
    }
}
