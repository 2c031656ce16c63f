package dev.tensorpress.model.compressedtensors;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.io.Manifest;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.safetensors.Index;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a model's folder may pull in, and which folders in it belong to it. */
final class LinksTest {
    @TempDir
    Path folder;
    private Path model;
    private Path secret;

    @BeforeEach
    void writeModel() throws IOException {
        model = new SmallFolder(1).add("a.up_proj.weight", DType.F32, 64, 64).add("b.weight", DType.F32, 8)
                .write(folder.resolve("hub/snapshots/main"), 2);
        secret = Files.writeString(Files.createDirectory(folder.resolve("etc")).resolve("secret"), "{}");
    }

    private static SafetensorsModel open(Path path, boolean allowLinks) {
        return assertTimeoutPreemptively(Duration.ofSeconds(30), () -> SafetensorsModel.open(path, Map.of(), allowLinks));
    }

    private void assertRefused(Path link) {
        UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> open(model, false));
        assertTrue(e.getMessage().startsWith(link + " is a link") && e.setting().equals("allowLinks"), e.getMessage());
    }

    /** Moves a file, and leaves a link in its place. */
    private static void link(Path from, Path to) throws IOException {
        Files.createDirectories(to.getParent());
        Files.move(from, to);
        Files.createSymbolicLink(from, from.getParent().relativize(to));
    }

    private static Set<String> tree(Path folder) throws IOException {
        try (Stream<Path> all = Files.walk(folder)) {
            Set<String> names = new TreeSet<>();
            all.filter(p -> Files.isRegularFile(p)).forEach(p -> names.add(folder.relativize(p).toString()));
            return names;
        }
    }

    private void compress(Path out, boolean allowLinks) throws IOException {
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.allowLinks(allowLinks))) {
            c.compress(c.plan(Recipe.named("w8a16").set("min-size", "1")), out);
        }
    }

    @Test
    void whatLeadsOutOfTheFolderIsRefused() throws Exception {
        for (String name : List.of("vocab.txt", "config.json", "modules.json", "extra/../vocab.txt", Index.NAME,
                "model-00002-of-00002.safetensors")) {
            Path file = model.resolve(name).normalize();
            Path away = folder.resolve("away");
            if (Files.exists(file)) {
                Files.move(file, away);
            } else {
                Files.writeString(away, name.equals("modules.json") ? "[]" : "");
            }
            Files.createSymbolicLink(file, away);
            assertRefused(file);
            open(model, true).close();
            if (!name.equals(Index.NAME)) {
                assertThrows(UnsupportedRequestException.class, () -> open(model.resolve(Index.NAME), false));
            }
            Files.delete(file);
            Files.move(away, file);
        }
        open(model, false).close();
    }

    /** One that the user names is meant, wherever it leads. */
    @Test
    void theModelItselfMayBeALink() throws Exception {
        Path link = Files.createSymbolicLink(folder.resolve("link"), model);
        open(link, false).close();
        Path single = new SmallFolder(2).add("a.weight", DType.F32, 4, 4).write(folder.resolve("single"), 1);
        Path file = Files.createSymbolicLink(folder.resolve("x.safetensors"), single.resolve("model.safetensors"));
        open(file, false).close();
    }

    @Test
    void cachesOfModelHubsNeedNoOption() throws Exception {
        Files.writeString(model.resolve("modules.json"), "[{\"idx\": 0, \"path\": \"\"}, {\"idx\": 1, \"path\": \"1_Pooling\"}]");
        Files.writeString(Files.createDirectory(model.resolve("1_Pooling")).resolve("config.json"), "{\"pooling\": 1}");
        Path blobs = folder.resolve("hub/blobs");
        int n = 0;
        for (String name : tree(model)) {
            link(model.resolve(name), blobs.resolve("blob" + n++));
        }
        open(model, false).close();
        open(model.resolve(Index.NAME), false).close();
        Path out = folder.resolve("out");
        compress(out, false);
        assertEquals(Set.of("1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", Manifest.NAME), tree(out));
        assertEquals("{\"pooling\": 1}", Files.readString(out.resolve("1_Pooling/config.json")));
        assertFalse(Files.isSymbolicLink(out.resolve("modules.json")));

        // Blobs that are elsewhere could be anything.
        Files.move(blobs, folder.resolve("elsewhere"));
        Files.createSymbolicLink(blobs, folder.resolve("elsewhere"));
        assertRefused(model.resolve(Index.NAME));
        open(model, true).close();
        Files.delete(blobs);
        Files.move(folder.resolve("elsewhere"), blobs);
        // Nor are the blobs of another model its own, or a folder of that name without a cache around it.
        Files.move(folder.resolve("hub/snapshots"), folder.resolve("hub/pictures"));
        model = folder.resolve("hub/pictures/main");
        assertRefused(model.resolve(Index.NAME));
    }

    @Test
    void linksWithinTheFolderAndHardLinksAreFollowed() throws Exception {
        link(model.resolve("model-00001-of-00002.safetensors"), model.resolve("store/1"));
        Files.createLink(model.resolve("vocab.txt"), secret);
        Path out = folder.resolve("out");
        compress(out, false);
        assertEquals(Set.of("config.json", "model.safetensors", "vocab.txt", Manifest.NAME), tree(out));
    }

    @Test
    void onlyRegularFilesAreRead() throws Exception {
        for (String name : List.of("config.json", "modules.json", Index.NAME, "model-00002-of-00002.safetensors")) {
            Path file = model.resolve(name);
            boolean there = Files.exists(file);
            if (there) {
                Files.move(file, folder.resolve("kept"));
            }
            for (String kind : List.of("fifo", "/dev/zero", "/proc/kmsg", "/sys/kernel/uevent_seqnum")) {
                if (kind.equals("fifo")) {
                    assertEquals(0, new ProcessBuilder("mkfifo", file.toString()).start().waitFor());
                } else {
                    Files.createSymbolicLink(file, Path.of(kind));
                }
                for (boolean allow : new boolean[] {false, true}) {
                    MalformedModelException e = assertThrows(MalformedModelException.class, () -> open(model, allow), kind);
                    assertTrue(e.getMessage().contains("not a regular file"), e.getMessage());
                }
                Files.delete(file);
            }
            if (there) {
                Files.move(folder.resolve("kept"), file);
            }
        }
        // What nothing needs is left out, and said.
        assertEquals(0, new ProcessBuilder("mkfifo", model.resolve("pipe").toString()).start().waitFor());
        Files.createSymbolicLink(model.resolve("zero"), Path.of("/dev/zero"));
        Files.createSymbolicLink(model.resolve("nothing"), Path.of("nowhere"));
        try (SafetensorsModel m = open(model, false)) {
            assertEquals("nothing (a link to nothing), pipe (not a file), zero (not a file)", m.properties().get("left out"));
        }
        assertThrows(MalformedModelException.class, () -> open(model.resolve("pipe"), true));
        Files.move(model.resolve("pipe"), model.resolve("x.safetensors"));
        assertThrows(MalformedModelException.class, () -> open(model.resolve("x.safetensors"), true));
    }

    @Test
    void foldersWithoutWeightsBelongToTheModel() throws Exception {
        for (String name : List.of("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors",
                "2_Dense/.hidden", "templates/a/b/c.jinja", "onnx/config.json", "onnx/model.onnx", "deep/a/b/w.bin",
                "deep/readme.txt", ".git/config")) {
            Files.createDirectories(model.resolve(name).getParent());
            Files.writeString(model.resolve(name), name);
        }
        Files.writeString(model.resolve("modules.json"), "[{\"path\": \"\"}, {\"path\": \"1_Pooling\", \"x\": [1]},"
                + " {\"path\": \"2_Dense\"}, {\"path\": \"3_Normalize\"}]");
        Files.createSymbolicLink(model.resolve("around"), model);
        Files.createDirectory(model.resolve("linked"));
        Files.createSymbolicLink(model.resolve("linked/passwords"), secret);
        Files.createDirectory(model.resolve("many"));
        for (int i = 0; i < 1001; i++) {
            Files.createFile(model.resolve("many/" + i));
        }
        Set<String> expected = new TreeSet<>(Set.of("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors",
                "templates/a/b/c.jinja", "config.json", "modules.json", "model.safetensors", Manifest.NAME));
        Path out = folder.resolve("out");
        compress(out, false);
        assertEquals(expected, tree(out));
        for (String name : List.of("1_Pooling/config.json", "2_Dense/model.safetensors", "templates/a/b/c.jinja")) {
            assertEquals(name, Files.readString(out.resolve(name)));
            assertTrue(Files.readString(out.resolve(Manifest.NAME)).contains("\"" + name + "\""));
        }
        try (SafetensorsModel m = open(model, false)) {
            assertEquals("around/ (a link), deep/ (other weights), linked/ (links, or what is no file), many/ (more than 1000"
                    + " files), onnx/ (other weights)", m.properties().get("left out"));
        }
        // It is replaced, and expanded, with all of it.
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true))) {
            c.compress(c.plan(Recipe.named("w8a16").set("min-size", "1")), out);
        }
        assertEquals(expected, tree(out));
        Path back = folder.resolve("back");
        try (CompressedModel m = CompressedModel.open(out); Executor executor = Executor.cpu(1)) {
            m.expand(Destination.of(back), 1 << 30, executor, (name, bytes) -> { });
        }
        assertEquals(expected, tree(back));
        Files.writeString(out.resolve("1_Pooling/notes.txt"), "mine");
        try (Compressor c = Compressor.open(model, Compressor.Options.DEFAULT.overwrite(true))) {
            UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class,
                    () -> c.compress(c.plan(Recipe.named("w8a16")), out));
            assertTrue(e.getMessage().contains("does not list 1_Pooling/notes.txt"), e.getMessage());
        }
    }

    /** A module is needed, so that it is not left out: it is refused. */
    @Test
    void modulesMustBeReadable() throws Exception {
        Files.writeString(model.resolve("modules.json"), "[{\"path\": \"1_Pooling\"}]");
        Path module = folder.resolve("pooling");
        Files.writeString(Files.createDirectory(module).resolve("config.json"), "{}");
        Files.createSymbolicLink(model.resolve("1_Pooling"), module);
        assertRefused(model.resolve("1_Pooling/config.json"));
        Path out = folder.resolve("out");
        compress(out, true);
        assertTrue(Files.isRegularFile(out.resolve("1_Pooling/config.json")));
        Files.createSymbolicLink(module.resolve("again"), module);
        assertThrows(MalformedModelException.class, () -> open(model, true));
        Files.delete(module.resolve("again"));
        for (int i = 0; i < 1000; i++) {
            Files.createFile(module.resolve("m" + i));
        }
        UnsupportedRequestException e = assertThrows(UnsupportedRequestException.class, () -> open(model, true));
        assertTrue(e.getMessage().contains("more than 1000 files"), e.getMessage());
        for (String text : List.of("", "{}", "[1]", "[] []", "[{\"path\": \"a\", \"path\": \"b\"}]")) {
            Files.writeString(model.resolve("modules.json"), text);
            assertThrows(MalformedModelException.class, () -> open(model, true), text);
        }
    }

    /** What a run was killed in that was about to finish, without its notes: nothing proves whose the files are. */
    @Test
    void withoutNotesAFolderIsNobodys() throws Exception {
        Files.writeString(Files.createDirectory(model.resolve("1_Pooling")).resolve("config.json"), "{}");
        Path out = folder.resolve("out");
        compress(out, false);
        Path partial = Files.move(out, folder.resolve("again.partial"));
        Set<String> names = tree(partial);
        assertThrows(UnsupportedRequestException.class, () -> compress(folder.resolve("again"), false));
        assertEquals(names, tree(partial));
    }
}
