package dev.tensorpress.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Where the native library comes from. A process loads it once, so each case has a process of its own. */
class NativeLibraryTest {
    @TempDir
    Path folder;

    /** Prints where the library was loaded from, or why it was not. */
    static final class Probe {
        private Probe() {
        }

        public static void main(String[] args) {
            for (int i = 0; i < 2; i++) {
                try {
                    System.out.println(NativeLibrary.path());
                } catch (UnsatisfiedLinkError e) {
                    System.out.println("failed: " + e.getMessage());
                }
            }
        }
    }

    private String probe(String... options) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of("-Xshare:auto", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED"));
        command.add("-Djava.io.tmpdir=" + folder);
        command.addAll(List.of(options));
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), Probe.class.getName()));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), output);
        // The last two lines: the JVM itself may warn before them.
        List<String> lines = output.lines().toList();
        String said = lines.getLast();
        assertEquals(said, lines.get(lines.size() - 2), "each call says the same");
        return said;
    }

    private Path library() throws IOException {
        String resource = "dev-tensorpress-natives/" + NativeFiles.PLATFORM + "/libtensorpress.so";
        Path file = folder.resolve("libtensorpress.so");
        try (InputStream in = NativeLibrary.class.getClassLoader().getResourceAsStream(resource)) {
            Files.copy(in, file);
        }
        return file;
    }

    @Test
    void packedLibraryLeavesNothingBehind() throws Exception {
        assertTrue(probe().endsWith("libtensorpress.so"));
        try (Stream<Path> left = Files.list(folder)) {
            assertEquals(List.of(), left.filter(file -> file.getFileName().toString().startsWith("tensorpress")).toList());
        }
    }

    @Test
    void propertyNamesFileOrFolder() throws Exception {
        String file = library().toString();
        assertEquals(file, probe("-Dtensorpress.library.path=" + file));
        assertEquals(file, probe("-Dtensorpress.library.path=" + folder));
    }

    @Test
    void propertyHasNoFallback() throws Exception {
        Path missing = folder.resolve("none.so");
        assertEquals("failed: no native library at " + missing + ", which -Dtensorpress.library.path names",
                probe("-Dtensorpress.library.path=" + missing));
        Path empty = Files.createDirectory(folder.resolve("empty"));
        assertTrue(probe("-Dtensorpress.library.path=" + empty).startsWith("failed: no native library at"));
    }

    @Test
    void fileThatIsNoLibraryIsNamed() throws Exception {
        Path file = Files.writeString(folder.resolve("libtensorpress.so"), "not a library");
        String said = probe("-Dtensorpress.library.path=" + file);
        assertTrue(said.startsWith("failed: ") && said.contains(file.toString()), said);
    }

    @Test
    void unknownPlatformIsNamed() throws Exception {
        String said = probe("-Dos.arch=vax");
        assertTrue(said.startsWith("failed: no native library for ") && said.contains("vax"), said);
    }
}
