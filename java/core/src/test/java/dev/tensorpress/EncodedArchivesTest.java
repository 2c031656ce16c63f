package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.archive.Archive;
import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.KeptEncodings;
import dev.tensorpress.model.archive.Packer;
import dev.tensorpress.model.archive.Unpacker;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Archives of weights that are written decoded, which have what these were decoded from. */
final class EncodedArchivesTest {
    private static final long MEMORY = 64 << 20;
    private static final List<String> ALL = List.of("e.embed_tokens.weight", "m.a.weight", "m.b.weight", "m.c.weight");

    @TempDir
    Path temp;
    private Path in;
    private Path written;
    private Path archive;

    @BeforeEach
    void writeModel() throws IOException {
        SmallFolder model = new SmallFolder(Effort.seed()).add("e.embed_tokens.weight", DType.F32, 500, 64).add("m.a.weight", DType.BF16, 96, 300)
                .add("m.a.norm", DType.BF16, 96).add("m.b.weight", DType.F16, 128, 520);
        float[] smooth = new float[72 * 160]; // else differences of neighbours are larger than these
        for (int i = 1; i < smooth.length; i++) {
            smooth[i] = smooth[i - 1] + (float) model.random.nextGaussian();
        }
        in = model.add("m.c.weight", DType.F32, Shape.of(72, 160), smooth).write(temp.resolve("in"), 2);
        written = temp.resolve("written");
        archive = temp.resolve("m.tpa");
    }

    private static Recipe recipe(String steps) {
        return RecipeYaml.parse("test", "name: test\noptions: {shard-size: 200000}\nsteps:\n" + steps.lines().map(s -> "  - " + s + "\n").reduce("", String::concat));
    }

    /** What became of each array. */
    private Map<String, Packer.Stored> pack(String steps, ArchiveKey key, Path base) throws IOException {
        Compressor.Options options = Compressor.Options.DEFAULT.overwrite(true).memory(MEMORY);
        Map<String, Packer.Stored> found = new TreeMap<>();
        try (Compressor c = Compressor.open(in, options); KeptEncodings kept = new KeptEncodings(temp)) {
            Plan plan = c.plan(recipe(steps));
            c.compress(plan, written, kept);
            Packer.Contents contents = Archives.find(written, false).contents();
            Packer.Contents old = base == null ? null : Archives.find(base, false).contents();
            for (int threads : new int[] {1, 5}) {
                Path to = temp.resolve("threads" + threads);
                Packer.pack(contents, kept, new Packer.Settings(key, null, old, threads, MEMORY, null), to, true).arrays().forEach(a -> found.put(a.name(), a));
            }
            if (key == null) { // else both differ anyway
                assertEquals(-1, Files.mismatch(temp.resolve("threads1"), temp.resolve("threads5")));
            }
            Files.move(temp.resolve("threads5"), archive);
            // Whether anybody keeps them changes nothing.
            c.compress(plan, temp.resolve("plain"));
        }
        ArchivesTest.assertSame(temp.resolve("plain"), written);
        return found;
    }

    private void check(Archive a) throws IOException {
        for (int threads : new int[] {1, 3}) {
            Path out = temp.resolve("out" + threads);
            Unpacker.expand(a, out, new Unpacker.Settings(true, false, threads, MEMORY, null));
            ArchivesTest.assertSame(written, out);
        }
        for (Archive.Member m : a.members()) {
            assertArrayEquals(Files.readAllBytes(written.resolve(m.name())), a.stream(m.name()).readAllBytes(), m.name());
        }
        Map<String, byte[]> elements = new TreeMap<>();
        for (var array : Archives.find(written, false).contents().arrays()) {
            byte[] file = Files.readAllBytes(array.file());
            elements.put(array.name(), Arrays.copyOfRange(file, (int) array.offset(), (int) (array.offset() + array.bytes())));
        }
        try (Arena arena = Arena.ofConfined()) {
            for (Archive.Array array : a.arrays()) {
                MemorySegment out = arena.allocate(array.bytes());
                a.weight(array.name(), out);
                assertArrayEquals(elements.get(array.name()), out.toArray(ValueLayout.JAVA_BYTE), array.name());
            }
        }
    }

    @Test
    void weightsAreStoredAsWhatTheyWereDecodedFrom() throws IOException {
        Map<String, Form.Kind> kinds = new TreeMap<>(Map.ofEntries(
                Map.entry("transform: {bits: 3}", Form.Kind.TRANSFORMED),
                Map.entry("transform: {kind: haar, dimensions: 1, codes: int16, bits: 9}", Form.Kind.TRANSFORMED),
                Map.entry("transform: {kind: cdf97, zone: 0.7, rows: 7}", Form.Kind.TRANSFORMED),
                Map.entry("transform: {kind: cdf53, levels: 2, codes: int16}", Form.Kind.TRANSFORMED),
                Map.entry("hash: {ratio: 16}", Form.Kind.HASHED), Map.entry("hash: {ratio: 12, values: f32, seed: 3}", Form.Kind.HASHED),
                Map.entry("codebook: {bits: 5, per: outputs, block: 8}", Form.Kind.CODEBOOK),
                Map.entry("codebook: {bits: 9, dimension: 4}", Form.Kind.CODEBOOK),
                Map.entry("prune: {sparsity: 0.8}\ncodebook: {bits: 4, per: outputs, block: 4}", Form.Kind.CODEBOOK),
                Map.entry("quantize: {bits: 3, block: 32}", Form.Kind.QUANTIZED),
                Map.entry("quantize: {bits: 6, per: channel, symmetric: false}", Form.Kind.QUANTIZED),
                Map.entry("prune: {sparsity: 0.5}\nquantize: {bits: 5, block: 16}", Form.Kind.QUANTIZED)));
        for (Map.Entry<String, Form.Kind> e : kinds.entrySet()) {
            Map<String, Packer.Stored> found = pack(e.getKey(), null, null);
            try (Archive a = Archive.open(archive)) {
                int n = 0;
                for (String name : ALL) {
                    Packer.Stored s = found.get(name);
                    assertEquals(s.form().map(Form::describe), a.encoding(name).map(Form::describe), name);
                    if (s.form().isEmpty()) {
                        continue;
                    }
                    n++;
                    assertEquals(e.getValue(), s.form().get().kind());
                    assertEquals("encoding: " + s.form().get().describe(), s.way());
                    assertTrue(s.stored() < s.bytes() / 2, e + ": " + s);
                    assertTrue(s.sizes().get("encoding") < s.sizes().values().stream().mapToInt(i -> i).max().orElseThrow(), s.toString());
                }
                assertTrue(n >= 1, () -> e + ": " + found.values());
                assertTrue(a.encoding("m.a.norm").isEmpty());
                check(a);
            }
            for (String name : List.of("out1", "out3", "plain", "written")) {
                Unpacker.delete(temp.resolve(name));
            }
            Files.delete(archive);
        }
    }

    /** Of a codebook for the whole of a weight the values and their numbers say all. */
    @Test
    void elementsThatAreSmallerStay() throws IOException {
        Map<String, Packer.Stored> found = pack("codebook: {bits: 4}", null, null);
        for (String name : ALL.subList(0, 3)) { // of the last one numbers of values repeat each other
            assertEquals("palette", found.get(name).way(), found.get(name).toString());
            assertTrue(found.get(name).sizes().get("palette") < found.get(name).sizes().get("encoding"));
        }
        try (Archive a = Archive.open(archive)) {
            check(a);
        }
    }

    @Test
    void whatIsKeptIsCheckedAgainstTheFiles() throws IOException {
        Path small = new SmallFolder(Effort.seed()).add("m.a.weight", DType.F32, 64, 80).write(temp.resolve("small"), 1);
        try (Compressor c = Compressor.open(small); KeptEncodings kept = new KeptEncodings(temp)) {
            c.compress(c.plan(recipe("transform: {}")), written, kept);
            Path file = written.resolve("model.safetensors");
            byte[] bytes = Files.readAllBytes(file);
            bytes[bytes.length - 3] ^= 1;
            Files.write(file, bytes);
            Packer.Packed packed = Packer.pack(Archives.find(written, false).contents(), kept, new Packer.Settings(null, null, null, 2, MEMORY, null),
                    archive, false);
            assertTrue(packed.arrays().getFirst().form().isEmpty());
        }
        try (Archive a = Archive.open(archive)) {
            check(a);
        }
    }

    /** Each part has an encoding of its own, and the last few rows, of which nothing is kept, are elements. */
    @Test
    void rowsHaveEncodingsOfTheirOwn() throws IOException {
        in = new SmallFolder(Effort.seed()).add("x.weight", DType.BF16, 40_000, 256).write(temp.resolve("rows"), 1);
        Packer.Stored s = pack("quantize: {bits: 3, block: 32}", null, null).get("x.weight");
        assertEquals(Form.Kind.QUANTIZED, s.form().orElseThrow().kind());
        assertTrue(s.stored() < s.bytes() / 4, s.toString());
        try (Archive a = Archive.open(archive)) {
            check(a);
        }
    }

    @Test
    void archivesOfEncodingsAreEncrypted() throws IOException {
        ArchiveKey key = ArchiveKey.random();
        assertTrue(pack("transform: {}", key, null).get("m.c.weight").form().isPresent());
        try (Archive a = Archive.open(archive, key)) {
            check(a);
        }
    }

    /** Of a weight that is as it was nothing is stored; of another one its encoding. */
    @Test
    void archivesOfEncodingsHaveABase() throws IOException {
        pack("transform: {}", null, null);
        Path old = temp.resolve("old");
        Files.move(written, old);
        Files.delete(archive);
        Unpacker.delete(temp.resolve("plain"));
        in = new SmallFolder(Effort.seed()).add("e.embed_tokens.weight", DType.F32, 500, 64).add("m.a.weight", DType.BF16, 96, 300)
                .add("new.weight", DType.F16, 128, 520).write(temp.resolve("next"), 2);
        Map<String, Packer.Stored> found = pack("transform: {}", null, old);
        assertTrue(found.get("e.embed_tokens.weight").form().isEmpty());
        assertTrue(found.get("e.embed_tokens.weight").stored() < 1000);
        assertTrue(found.get("new.weight").form().isPresent());
        try (Archive a = Archive.open(archive)) {
            a.useBase(old);
            check(a);
        }
    }

    /** Files that are there already are left out, and with them what is decoded of these alone. */
    @Test
    void expandingGoesOnWhereItWasInterrupted() throws IOException {
        pack("transform: {}", null, null);
        List<Path> files;
        try (Stream<Path> all = Files.list(written)) {
            files = all.filter(p -> p.toString().endsWith(".safetensors")).sorted().toList();
        }
        assertEquals(2, files.size());
        for (Path there : files) {
            Path out = temp.resolve("resumed");
            Path first = Files.createDirectory(temp.resolve("resumed.partial")).resolve(there.getFileName());
            Files.copy(there, first);
            Object key = Files.getAttribute(first, "unix:ino");
            try (Archive a = Archive.open(archive)) {
                Unpacker.expand(a, out, new Unpacker.Settings(false, true, 2, MEMORY, null));
            }
            ArchivesTest.assertSame(written, out);
            assertEquals(key, Files.getAttribute(out.resolve(there.getFileName()), "unix:ino"));
            Unpacker.delete(out);
        }
    }
}
