package dev.tensorpress.io;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.safetensors.Config;
import dev.tensorpress.model.safetensors.Header;
import dev.tensorpress.model.safetensors.Index;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.File;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.snakeyaml.engine.v2.api.Load;
import org.snakeyaml.engine.v2.api.LoadSettings;

/** Folders are whole or resumable, and nothing of the user's gets lost. */
final class DurableFolderTest {
    private static final byte[] CONFIG = "{\"made\": true}".getBytes();
    private static final Map<String, byte[]> MADE = Map.of(Config.NAME, CONFIG);
    private static final long SHARD_SIZE = 12345;
    private static final int SHARDS = 4;

    @TempDir
    Path folder;
    private Path in;
    private Path out;
    private Path partial;

    /** Stands for whatever ends a run early. */
    private static final class Stop extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    @BeforeEach
    void writeInput() throws IOException {
        in = Files.createDirectory(folder.resolve("in"));
        out = folder.resolve("out");
        partial = folder.resolve("out.partial");
        StringBuilder map = new StringBuilder();
        for (int i = 1; i <= 2; i++) {
            String name = "model-0000" + i + "-of-00002.safetensors";
            byte[] data = new byte[32];
            try (FileChannel c = FileChannel.open(in.resolve(name), StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW)) {
                new SafetensorsWriter(List.of(new SafetensorsWriter.Item("t" + i, DType.F32, Shape.of(2, 4),
                        SafetensorsWriter.Data.of(MemorySegment.ofArray(data)))), Map.of()).write(c);
            }
            map.append(i == 1 ? "" : ", ").append("\"t" + i + "\": \"" + name + "\"");
        }
        Files.writeString(in.resolve(Index.NAME), "{\"weight_map\": {" + map + "}}");
        Files.writeString(in.resolve(Config.NAME), "{\"hidden_size\": 4}");
        Files.writeString(in.resolve("README.md"), "of the model");
        Files.writeString(in.resolve(".hidden"), "no part of it");
        Files.writeString(in.resolve(Manifest.NAME), "{}");
        // Allowed where the model is opened.
        Path blob = Files.writeString(Files.createDirectory(folder.resolve("blobs")).resolve("0123"), "tokens ".repeat(1000));
        Files.createSymbolicLink(in.resolve("tokenizer.json"), blob);
    }

    private static DurableFolder.Contents contents(String target, List<PlannedFile> shards) {
        return new DurableFolder.Contents(target, SHARD_SIZE, shards, made(shards));
    }

    private static Map<String, byte[]> made(List<PlannedFile> shards) {
        Map<String, byte[]> made = Index.madeFor(shards);
        made.putAll(MADE);
        return made;
    }

    private static List<PlannedFile> plan() {
        List<PlannedFile> shards = new ArrayList<>();
        for (int s = 0; s < SHARDS; s++) {
            List<PlannedFile.Tensor> items = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                items.add(Header.tensor("tensor." + s + "." + i, DType.I32, Shape.of(i, 1000 + s)));
            }
            shards.add(Header.plan("model-0000" + (s + 1) + "-of-0000" + SHARDS + ".safetensors", items,
                    Map.of("format", "pt")));
        }
        return shards;
    }

    private static byte[] data(PlannedFile.Tensor item) {
        byte[] b = new byte[(int) item.bytes()];
        new Random(item.name().hashCode()).nextBytes(b);
        return b;
    }

    private Destination to(boolean overwrite, boolean resume) {
        return to("recipe", overwrite, resume);
    }

    private Destination to(String recipe, boolean overwrite, boolean resume) {
        return new Destination(out, overwrite, resume, 1 << 20, Map.of("recipe", recipe, "tool", "1", "kernels", "2"));
    }

    /**
     * Writes the folder.
     *
     * @param stop before the end of which shard, counted from those that are there
     * @return which shards were made
     */
    private static List<Integer> write(Path in, Destination to, String target, int stop) throws IOException {
        List<Integer> made = new ArrayList<>();
        List<PlannedFile> shards = plan();
        try (SafetensorsModel input = SafetensorsModel.open(in, Map.of(), true); Buffers buffers = new Buffers(0);
                DurableFolder f = DurableFolder.begin(to, contents(target, shards), input.source(), buffers)) {
            for (int i = 0; i < shards.size(); i++) {
                if (f.finished(i)) {
                    continue;
                }
                try (StreamFile file = f.shard(i)) {
                    for (PlannedFile.Tensor t : shards.get(i).tensors()) {
                        file.tensor(t.name());
                        file.write(MemorySegment.ofArray(data(t)));
                        if (i == stop) {
                            throw new Stop();
                        }
                    }
                    f.done(i, file);
                }
                made.add(i);
            }
            if (stop == SHARDS) {
                throw new Stop();
            }
            Set<Path> written = f.commit();
            assertEquals(Manifest.NAME, List.copyOf(written).getLast().getFileName().toString());
        }
        return made;
    }

    private List<Integer> write(Destination to) throws IOException {
        return write(in, to, "target", -1);
    }

    private static String sha256(byte[] bytes) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    }

    private static Map<String, String> contents(Path folder) throws Exception {
        Map<String, String> all = new TreeMap<>();
        try (Stream<Path> files = Files.list(folder)) {
            for (Path p : files.toList()) {
                all.put(p.getFileName().toString(), Files.isDirectory(p) ? contents(p).toString() : sha256(Files.readAllBytes(p)));
            }
        }
        return all;
    }

    private static Set<String> names(Path folder) throws IOException {
        Set<String> names = new TreeSet<>();
        try (Stream<Path> files = Files.list(folder)) {
            files.forEach(p -> names.add(p.getFileName().toString()));
        }
        return names;
    }

    private void assertOnly(String... more) throws IOException {
        Set<String> expected = new TreeSet<>(List.of("in", "blobs"));
        expected.addAll(List.of(more));
        assertEquals(expected, names(folder));
    }

    @Test
    void everythingIsThereAndListed() throws Exception {
        assertEquals(List.of(0, 1, 2, 3), write(to(false, false)));
        assertOnly("out");
        Set<String> expected = new TreeSet<>(List.of(Config.NAME, "README.md", "tokenizer.json", Index.NAME, Manifest.NAME));
        plan().forEach(s -> expected.add(s.name()));
        Map<String, String> there = contents(out);
        assertEquals(expected, there.keySet());
        assertArrayEquals(CONFIG, Files.readAllBytes(out.resolve(Config.NAME)));
        assertFalse(Files.isSymbolicLink(out.resolve("tokenizer.json")));
        assertEquals(-1, Files.mismatch(in.resolve("tokenizer.json"), out.resolve("tokenizer.json")));

        // JSON is YAML.
        Map<?, ?> manifest = (Map<?, ?>) new Load(LoadSettings.builder().build()).loadFromString(
                Files.readString(out.resolve(Manifest.NAME)));
        assertEquals(List.of("files", "format", "inputs", "options", "provenance", "target", "tensors"),
                List.copyOf(manifest.keySet()));
        Map<String, String> listed = new TreeMap<>();
        for (Object o : (List<?>) manifest.get("files")) {
            Map<?, ?> f = (Map<?, ?>) o;
            listed.put((String) f.get("name"), (String) f.get("sha256"));
            assertEquals(Files.size(out.resolve((String) f.get("name"))), ((Number) f.get("bytes")).longValue());
        }
        there.remove(Manifest.NAME);
        assertEquals(there, listed);
        assertEquals(1, manifest.get("format"));
        assertEquals("target", manifest.get("target"));
        assertEquals(Map.of("shardSize", 12345), manifest.get("options"));
        assertEquals(Map.of("kernels", "2", "recipe", "recipe", "tool", "1"), manifest.get("provenance"));
        List<String> inputs = new ArrayList<>();
        for (Object o : (List<?>) manifest.get("inputs")) {
            Map<?, ?> f = (Map<?, ?>) o;
            inputs.add((String) f.get("name"));
            byte[] bytes = Files.readAllBytes(in.resolve(inputs.getLast()));
            assertEquals(bytes.length, f.get("bytes"));
            boolean whole = !inputs.getLast().endsWith(".safetensors");
            assertEquals(sha256(whole ? bytes : Arrays.copyOf(bytes, bytes.length - 32)), f.get("sha256"));
        }
        assertEquals(List.of(Config.NAME, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", Index.NAME), inputs);
        List<Object> tensors = new ArrayList<>();
        try (SafetensorsModel m = SafetensorsModel.open(out, Map.of())) {
            assertEquals(3 * SHARDS, m.weights().size());
            for (PlannedFile s : plan()) {
                for (PlannedFile.Tensor i : s.tensors()) {
                    tensors.add(Map.of("dtype", "I32", "file", s.name(), "name", i.name(), "sha256", sha256(data(i)), "shape",
                            List.of((int) i.shape().dim(0), (int) i.shape().dim(1))));
                }
            }
        }
        assertEquals(tensors, manifest.get("tensors"));
        String text = Files.readString(out.resolve(Manifest.NAME));
        assertFalse(text.contains(folder.getFileName().toString()), "paths of this machine");
    }

    @Test
    void resumedFromAnywhereGivesTheSameBytes() throws Exception {
        write(to(false, false));
        Map<String, String> expected = contents(out);
        for (int k = 0; k <= SHARDS; k++) {
            out = folder.resolve("out" + k);
            partial = folder.resolve("out" + k + ".partial");
            int stop = k;
            assertThrows(Stop.class, () -> write(in, to(false, false), "target", stop));
            assertFalse(Files.exists(out));
            assertEquals(k > 0, Files.exists(partial), "nothing finished, nothing kept");
            List<Integer> rest = new ArrayList<>();
            for (int i = k; i < SHARDS; i++) {
                rest.add(i);
            }
            if (k > 0) {
                Set<String> left = new TreeSet<>(Set.of(Checkpoint.NAME, ".tensorpress-lock"));
                plan().subList(0, k).forEach(s -> left.add(s.name()));
                assertEquals(left, names(partial));
                Exception e = assertThrows(FileAlreadyExistsException.class, () -> write(to(false, false)));
                assertTrue(e.getMessage().contains("holds " + k + " of 4 files of an interrupted run"), e.getMessage());
                assertEquals(left, names(partial));
            }
            assertEquals(rest, write(to(false, true)));
            assertEquals(expected, contents(out));
            assertFalse(Files.exists(partial));
        }
    }

    /** Also if the second run ends early. */
    @Test
    void resumedTwice() throws Exception {
        write(to(false, false));
        Map<String, String> expected = contents(out);
        out = folder.resolve("again");
        assertThrows(Stop.class, () -> write(in, to(false, false), "target", 1));
        assertThrows(Stop.class, () -> write(in, to(false, true), "target", 3));
        assertThrows(Stop.class, () -> write(in, to(false, true), "target", SHARDS));
        assertEquals(List.of(), write(to(false, true)));
        assertEquals(expected, contents(out));
    }

    @Test
    void damagedShardsAreMadeAgain() throws Exception {
        write(to(false, false));
        Map<String, String> expected = contents(out);
        out = folder.resolve("again");
        Path shard = folder.resolve("again.partial").resolve(plan().get(1).name());
        for (String damage : List.of("truncated", "flipped", "missing", "longer")) {
            assertThrows(Stop.class, () -> write(in, to(false, false), "target", 3));
            byte[] bytes = Files.readAllBytes(shard);
            switch (damage) {
                case "truncated" -> bytes = Arrays.copyOf(bytes, bytes.length - 1);
                case "flipped" -> bytes[bytes.length / 2] ^= 1;
                case "longer" -> bytes = Arrays.copyOf(bytes, bytes.length + 1);
                default -> { }
            }
            Files.delete(shard);
            if (!damage.equals("missing")) {
                Files.write(shard, bytes);
            }
            // What a process that was killed leaves besides.
            Files.writeString(shard.resolveSibling(".x.tensorpress-01234567.tmp"), "half");
            assertEquals(List.of(1, 3), write(to(false, true)), damage);
            assertEquals(expected, contents(out));
            try (Stream<Path> files = Files.list(out)) {
                for (Path p : files.toList()) {
                    Files.delete(p);
                }
            }
            Files.delete(out);
        }
    }

    @Test
    void anotherWorkIsNotResumed() throws Exception {
        assertThrows(Stop.class, () -> write(in, to(false, false), "target", 2));
        Map<String, String> left = contents(partial);
        List<Map.Entry<Destination, String>> others = List.of(Map.entry(to("other", false, true),
                "recipe is not the same (recipe then, other now)"),
                Map.entry(new Destination(out, false, true, 1, Map.of("recipe", "recipe", "tool", "2", "kernels", "2")),
                        "tool is not the same (1 then, 2 now)"),
                Map.entry(new Destination(out, false, true, 1, Map.of("recipe", "recipe", "tool", "1", "kernels", "3")),
                        "kernels is not the same (2 then, 3 now)"),
                Map.entry(new Destination(out, false, true, 1,
                        Map.of("recipe", "recipe", "tool", "1", "kernels", "2", "instructionSet", "ref")),
                        "instructionSet is not the same"));
        for (Map.Entry<Destination, String> e : others) {
            Exception x = assertThrows(UnsupportedRequestException.class, () -> write(e.getKey()));
            assertTrue(x.getMessage().contains(e.getValue() + "; it has to be started over"), x.getMessage());
            assertEquals(left, contents(partial));
        }
        try (SafetensorsModel input = SafetensorsModel.open(in, Map.of(), true); Buffers buffers = new Buffers(0)) {
            Exception x = assertThrows(UnsupportedRequestException.class, () -> DurableFolder.begin(to(false, true),
                    new DurableFolder.Contents("target", 54321, plan(), made(plan())), input.source(), buffers));
            assertTrue(x.getMessage().contains("shard size is not the same (12345 then, 54321 now)"), x.getMessage());
        }
        Exception x = assertThrows(UnsupportedRequestException.class, () -> write(in, to(false, true), "other", -1));
        assertTrue(x.getMessage().contains("target is not the same"), x.getMessage());

        Path shard = in.resolve("model-00001-of-00002.safetensors");
        FileTime time = Files.getLastModifiedTime(shard);
        Files.setLastModifiedTime(shard, FileTime.fromMillis(time.toMillis() - 5000));
        x = assertThrows(UnsupportedRequestException.class, () -> write(to(false, true)));
        assertTrue(x.getMessage().contains("input model-00001-of-00002.safetensors is not the same"), x.getMessage());
        byte[] bytes = Files.readAllBytes(shard);
        bytes[new String(bytes, "ISO-8859-1").indexOf("t1")] = 'x';
        Files.write(shard, bytes);
        Files.writeString(in.resolve(Index.NAME), Files.readString(in.resolve(Index.NAME)).replace("t1", "x1"));
        Files.setLastModifiedTime(shard, time);
        x = assertThrows(UnsupportedRequestException.class, () -> write(to(false, true)));
        assertTrue(x.getMessage().contains("input model-00001-of-00002.safetensors is not the same"), x.getMessage());
        assertEquals(left, contents(partial));

        assertEquals(List.of(0, 1, 2, 3), write(to("other", true, false)), "--force starts over");
        assertOnly("out");
    }

    @Test
    void progressThatCannotBeReadStays() throws Exception {
        assertThrows(Stop.class, () -> write(in, to(false, false), "target", 2));
        String whole = Files.readString(partial.resolve(Checkpoint.NAME));
        for (String text : List.of("", "{", "[]", "{\"shards\": {\"a\": {}}}", "{\"shards\": {\"a\": {\"bytes\": 1}}}",
                "{\"more\": 1}", whole.substring(0, whole.length() / 2))) {
            Files.writeString(partial.resolve(Checkpoint.NAME), text);
            Map<String, String> left = contents(partial);
            assertThrows(MalformedModelException.class, () -> write(to(false, true)), text);
            assertEquals(left, contents(partial));
        }
    }

    @Test
    void oneRunAtATime() throws Exception {
        List<PlannedFile> shards = plan();
        try (SafetensorsModel input = SafetensorsModel.open(in, Map.of(), true); Buffers buffers = new Buffers(0);
                DurableFolder f = DurableFolder.begin(to(false, false), contents("target", shards), input.source(), buffers)) {
            for (Destination d : List.of(to(false, false), to(true, false), to(false, true))) {
                IOException e = assertThrows(IOException.class, () -> write(d));
                assertTrue(e.getMessage().contains("another run is writing " + partial), e.getMessage());
            }
            for (int i = 0; i < SHARDS; i++) {
                try (StreamFile file = f.shard(i)) {
                    for (PlannedFile.Tensor t : shards.get(i).tensors()) {
                        file.tensor(t.name());
                        file.write(MemorySegment.ofArray(data(t)));
                    }
                    f.done(i, file);
                }
            }
            f.commit();
        }
        assertOnly("out");
    }

    @Test
    void whatIsThereIsReplacedOnlyIfItIsOurs() throws Exception {
        Files.createDirectory(out);
        assertThrows(FileAlreadyExistsException.class, () -> write(to(false, false)));
        write(to(true, false)); // empty
        Map<String, String> expected = contents(out);
        assertThrows(FileAlreadyExistsException.class, () -> write(to(false, true)));
        write(to(true, false));
        assertEquals(expected, contents(out));

        Files.writeString(out.resolve("notes.txt"), "mine");
        Exception e = assertThrows(UnsupportedRequestException.class, () -> write(to(true, false)));
        assertTrue(e.getMessage().contains("does not list notes.txt"), e.getMessage());
        Files.delete(out.resolve("notes.txt"));
        Files.createDirectory(out.resolve("original"));
        assertThrows(UnsupportedRequestException.class, () -> write(to(true, false)));
        Files.delete(out.resolve("original"));
        Files.delete(out.resolve(Manifest.NAME));
        e = assertThrows(UnsupportedRequestException.class, () -> write(to(true, false)));
        assertTrue(e.getMessage().contains("no " + Manifest.NAME), e.getMessage());
        assertOnly("out");

        out = Files.writeString(folder.resolve("file"), "mine");
        assertThrows(UnsupportedRequestException.class, () -> write(to(true, false)));
        assertEquals("mine", Files.readString(out));
        out = Files.createSymbolicLink(folder.resolve("link"), folder.resolve("nothing"));
        e = assertThrows(IOException.class, () -> write(to(true, false)));
        assertTrue(e.getMessage().contains("a link to nothing"), e.getMessage());
    }

    /** If the folder that was there stays until the new one is whole. */
    @Test
    void oldFolderStaysIfTheWorkFails() throws Exception {
        write(to(false, false));
        Map<String, String> expected = contents(out);
        assertThrows(Stop.class, () -> write(in, to("other", true, false), "target", 2));
        assertEquals(expected, contents(out));
        assertEquals(List.of(2, 3), write(to("other", true, true)));
        assertTrue(Files.readString(out.resolve(Manifest.NAME)).contains("\"other\""));
        assertOnly("out");
    }

    @Test
    void linkToAnOutputIsFollowed() throws Exception {
        write(to(false, false));
        Map<String, String> expected = contents(out);
        Path real = out;
        out = Files.createSymbolicLink(folder.resolve("link"), out);
        write(to(true, false));
        assertTrue(Files.isSymbolicLink(out));
        assertEquals(expected, contents(real));
        assertOnly("out", "link");
    }

    @Test
    void inputIsNeverReplaced() throws Exception {
        Map<String, String> before = contents(in);
        for (String name : List.of("in", "in/../in", "link")) {
            out = folder.resolve(name);
            if (name.equals("link")) {
                Files.createSymbolicLink(out, in);
            }
            Exception e = assertThrows(UnsupportedRequestException.class, () -> write(to(true, false)));
            assertTrue(e.getMessage().contains("would take the place of"), e.getMessage());
        }
        // The files behind links count as well.
        out = folder.resolve("blobs");
        assertThrows(UnsupportedRequestException.class, () -> write(to(true, false)));
        out = folder;
        assertThrows(UnsupportedRequestException.class, () -> write(to(true, false)));
        Files.move(in, folder.resolve("x.partial"));
        in = folder.resolve("x.partial");
        out = folder.resolve("x");
        assertThrows(UnsupportedRequestException.class, () -> write(to(true, true)));
        assertEquals(before, contents(in));

        out = in.resolve("compressed"); // beside the model's files is no harm
        write(to(false, false));
        assertTrue(Files.exists(out.resolve(Manifest.NAME)));
    }

    @Test
    void aFolderThatOnlyHasTheNameIsLeftAlone() throws Exception {
        Files.createDirectory(partial);
        Files.writeString(partial.resolve("thesis.tex"), "mine");
        for (boolean b : new boolean[] {false, true}) {
            Exception e = assertThrows(UnsupportedRequestException.class, () -> write(to(b, !b)));
            assertTrue(e.getMessage().contains("is not what an interrupted run leaves"), e.getMessage());
        }
        assertEquals("mine", Files.readString(partial.resolve("thesis.tex")));
        assertEquals(Set.of("thesis.tex"), names(partial));
    }

    @Test
    void placesThatCannotBeWritten() throws Exception {
        out = folder.resolve("none/out");
        IOException e = assertThrows(IOException.class, () -> write(to(false, false)));
        assertTrue(e.getMessage().startsWith("cannot write " + out + ": its folder does not exist"), e.getMessage());
        out = folder.resolve("blobs/0123/out");
        e = assertThrows(IOException.class, () -> write(to(false, false)));
        assertTrue(e.getMessage().startsWith("cannot write " + out + ": its folder"), e.getMessage());
        Path locked = Files.createDirectory(folder.resolve("locked"));
        Files.setPosixFilePermissions(locked, PosixFilePermissions.fromString("r-xr-xr-x"));
        Assumptions.assumeFalse(Files.isWritable(locked), "this user may write everywhere");
        out = locked.resolve("out");
        e = assertThrows(IOException.class, () -> write(to(false, false)));
        assertTrue(e.getMessage().contains("no permission to write in its folder"), e.getMessage());
    }

    @Test
    void tooLargeForTheDisk() throws Exception {
        List<PlannedFile> shards = List.of(Header.plan("model.safetensors", List.of(Header.tensor("t", DType.I8,
                Shape.of(1L << 60))), Map.of()));
        try (SafetensorsModel input = SafetensorsModel.open(in, Map.of(), true); Buffers buffers = new Buffers(0)) {
            IOException e = assertThrows(IOException.class, () -> DurableFolder.begin(to(false, false), contents("target", shards), input.source(),
                    buffers));
            assertTrue(e.getMessage().matches("cannot write .*out: it needs 11529215046\\d* bytes, and \\d+ are free on its disk"),
                    e.getMessage());
        }
        assertOnly();
    }

    @Test
    void inputThatChangesIsNoticed() throws Exception {
        for (String name : List.of("model-00002-of-00002.safetensors", Index.NAME, Config.NAME, "README.md")) {
            List<PlannedFile> shards = plan().subList(0, 1);
            try (SafetensorsModel input = SafetensorsModel.open(in, Map.of(), true); Buffers buffers = new Buffers(0);
                    DurableFolder f = DurableFolder.begin(to(false, false), contents("target", shards), input.source(), buffers)) {
                try (StreamFile file = f.shard(0)) {
                    for (PlannedFile.Tensor t : shards.get(0).tensors()) {
                        file.tensor(t.name());
                        file.write(MemorySegment.ofArray(data(t)));
                    }
                    f.done(0, file);
                }
                FileTime time = Files.getLastModifiedTime(in.resolve(name));
                Files.setLastModifiedTime(in.resolve(name), FileTime.fromMillis(time.toMillis() + 1000));
                IOException e = assertThrows(IOException.class, f::commit);
                assertTrue(e.getMessage().startsWith(in.resolve(name) + " changed while it was read"), e.getMessage());
            }
            assertOnly(); // shards of a mix are worth nothing
        }
    }

    @Test
    void tensorThatWasForgotten() throws Exception {
        List<PlannedFile> shards = plan().subList(0, 1);
        try (SafetensorsModel input = SafetensorsModel.open(in, Map.of(), true); Buffers buffers = new Buffers(0);
                DurableFolder f = DurableFolder.begin(to(false, false), contents("target", shards), input.source(), buffers);
                StreamFile file = f.shard(0)) {
            file.tensor("another");
            for (PlannedFile.Tensor t : shards.get(0).tensors()) {
                file.write(MemorySegment.ofArray(data(t)));
            }
            assertThrows(IllegalStateException.class, () -> f.done(0, file));
            assertThrows(IllegalStateException.class, f::commit);
        }
        assertOnly();
    }

    /** What somebody put beside the files of an interrupted run stays, and is said, whatever is asked for. */
    @Test
    void foreignFilesInPartialStay() throws Exception {
        assertThrows(Stop.class, () -> write(in, to(false, false), "target", 2));
        for (String name : List.of("notes.txt", "model-00007-of-00009.safetensors", "sub/notes.txt", "1_Pooling/")) {
            Path mine = partial.resolve(name);
            if (name.endsWith("/")) {
                Files.createDirectory(mine);
            } else {
                Files.createDirectories(mine.getParent());
                Files.writeString(mine, "mine");
            }
            for (Destination to : List.of(to(false, true), to(true, false), to(true, true))) {
                Exception e = assertThrows(UnsupportedRequestException.class, () -> write(to));
                assertTrue(e.getMessage().contains("holds " + name.replace("sub/notes.txt", "sub/")), e.getMessage());
            }
            assertTrue(Files.exists(mine));
            Files.delete(mine);
            Files.deleteIfExists(partial.resolve("sub"));
        }
        assertEquals(List.of(2, 3), write(to(false, true)));
        assertOnly("out");
    }

    /** Put there while a run is at work that ends early. */
    @Test
    void foreignFilesOutliveAFailure() throws Exception {
        Path mine = partial.resolve("notes.txt");
        try (SafetensorsModel input = SafetensorsModel.open(in, Map.of(), true); Buffers buffers = new Buffers(0);
                DurableFolder f = DurableFolder.begin(to(false, false), contents("target", plan()), input.source(), buffers)) {
            Files.writeString(mine, "mine");
            assertThrows(IllegalStateException.class, f::commit);
        }
        assertEquals(Set.of("notes.txt"), names(partial));
        assertEquals("mine", Files.readString(mine));
    }

    /** A run that was killed while it removed the old folder, at any file. */
    @Test
    void theRestOfAnOldFolderIsRemoved() throws Exception {
        Files.writeString(Files.createDirectory(in.resolve("1_Pooling")).resolve("config.json"), "{}");
        write(to(false, false));
        Map<String, String> expected = contents(out);
        List<String> files = new ArrayList<>(names(out));
        files.remove(Manifest.NAME);
        for (int left = 0; left <= files.size() + 1; left++) {
            Path old = Files.createDirectory(folder.resolve(".out.tensorpress-0123abc" + left % 10 + ".old"));
            for (String name : files.subList(0, Math.max(0, left - 1))) {
                if (name.equals("1_Pooling")) {
                    Files.createDirectory(old.resolve(name));
                    Files.copy(out.resolve(name).resolve("config.json"), old.resolve(name).resolve("config.json"));
                } else {
                    Files.copy(out.resolve(name), old.resolve(name));
                }
            }
            if (left > 0) {
                Files.copy(out.resolve(Manifest.NAME), old.resolve(Manifest.NAME));
            }
            write(to(true, false));
            assertOnly("out");
            assertEquals(expected, contents(out));
        }
        // What is not proven to be ours stays.
        Path other = Files.createDirectory(folder.resolve(".out.tensorpress-01234567.old"));
        Files.writeString(other.resolve("notes.txt"), "mine");
        Path damaged = Files.createDirectory(folder.resolve(".out.tensorpress-01234568.old"));
        Files.writeString(damaged.resolve(Manifest.NAME), "{");
        Path another = Files.createDirectory(folder.resolve(".out2.tensorpress-01234567.old"));
        write(to(true, false));
        assertOnly("out", other.getFileName().toString(), damaged.getFileName().toString(), another.getFileName().toString());
        assertEquals("mine", Files.readString(other.resolve("notes.txt")));
    }

    /** A run that was killed between both renames: the old folder is there again. */
    @Test
    void anOldFolderIsPutBack() throws Exception {
        write(to(false, false));
        Map<String, String> expected = contents(out);
        assertThrows(Stop.class, () -> write(in, to("other", true, false), "target", SHARDS));
        Files.move(out, folder.resolve(".out.tensorpress-01234567.old"));
        Exception e = assertThrows(FileAlreadyExistsException.class, () -> write(to("other", false, true)));
        assertTrue(e.getMessage().contains("exists"), e.getMessage());
        assertEquals(expected, contents(out));
        assertEquals(List.of(), write(to("other", true, true)));
        assertTrue(Files.readString(out.resolve(Manifest.NAME)).contains("\"other\""));
        assertOnly("out");
    }

    /** A process that writes shards and then waits to be killed, in the midst of one. */
    static final class Victim {
        private Victim() {}

        public static void main(String[] args) throws Exception {
            Destination to = new Destination(Path.of(args[1]), false, false, 1 << 20, Map.of("recipe", "recipe", "tool", "1",
                    "kernels", "2"));
            List<PlannedFile> shards = plan();
            try (SafetensorsModel input = SafetensorsModel.open(Path.of(args[0]), Map.of(), true); Buffers buffers = new Buffers(0);
                    DurableFolder f = DurableFolder.begin(to, contents("target", shards), input.source(), buffers)) {
                for (int i = 0; i < 3; i++) {
                    try (StreamFile file = f.shard(i)) {
                        for (PlannedFile.Tensor t : shards.get(i).tensors()) {
                            file.tensor(t.name());
                            file.write(MemorySegment.ofArray(data(t)));
                        }
                        if (i == 2) {
                            Files.createFile(Path.of(args[2]));
                            Thread.sleep(60_000);
                        }
                        f.done(i, file);
                    }
                }
            }
        }
    }

    @Test
    void killed() throws Exception {
        write(to(false, false));
        Map<String, String> expected = contents(out);
        out = folder.resolve("killed");
        partial = folder.resolve("killed.partial");
        Path ready = folder.resolve("ready");
        Process process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"), Victim.class.getName(),
                in.toString(), out.toString(), ready.toString()).redirectErrorStream(true)
                .redirectOutput(new File(folder.resolve("log").toString())).start();
        try {
            for (int i = 0; i < 600 && !Files.exists(ready) && process.isAlive(); i++) {
                Thread.sleep(100);
            }
            assertTrue(Files.exists(ready), () -> {
                try {
                    return Files.readString(folder.resolve("log"));
                } catch (IOException e) {
                    return e.toString();
                }
            });
            // The lock of a process that lives holds against another one.
            IOException e = assertThrows(IOException.class, () -> write(to(false, true)));
            assertTrue(e.getMessage().contains("another run is writing"), e.getMessage());
        } finally {
            process.destroyForcibly();
        }
        assertTrue(process.waitFor(60, TimeUnit.SECONDS));
        assertTrue(names(partial).stream().anyMatch(n -> n.endsWith(".tmp")), names(partial).toString());
        assertThrows(FileAlreadyExistsException.class, () -> write(to(false, false)));
        assertEquals(List.of(2, 3), write(to(false, true)));
        assertEquals(expected, contents(out));
    }
}
