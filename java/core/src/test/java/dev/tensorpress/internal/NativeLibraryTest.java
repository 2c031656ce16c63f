package dev.tensorpress.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.bindings.Kernels;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
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

    /** Profilers name functions by it, also those that the library does not export. */
    @Test
    void packedLibraryKeepsItsSymbols() throws Exception {
        String bytes = Files.readString(library(), StandardCharsets.ISO_8859_1);
        assertTrue(bytes.contains("\0tp_quantize__ref\0") && bytes.contains("\0tp_multiply__avx2\0"), "the symbol table was stripped");
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

    /** A copy of the library whose tp_abi_version returns another number. */
    @Test
    void anotherVersionOfTheInterfaceIsRefused() throws Exception {
        Path file = library();
        byte[] bytes = Files.readAllBytes(file);
        int at = offset(file, "tp_abi_version");
        while (bytes[at] != (byte) 0xb8) { // mov eax, the number
            at++;
        }
        int version = Kernels.TP_ABI_VERSION();
        assertEquals(version, bytes[at + 1]);
        bytes[at + 1] = 77;
        Files.delete(file);
        Files.write(file, bytes);
        assertEquals("failed: " + file + " has version 77 of the native interface, but " + version + " is needed: rebuild it, or remove"
                + " -Dtensorpress.library.path", probe("-Dtensorpress.library.path=" + file));
    }

    /** Where in the file the code of a function begins. */
    private static int offset(Path file, String function) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            long address = SymbolLookup.libraryLookup(file, arena).findOrThrow(function).address();
            for (String line : Files.readAllLines(Path.of("/proc/self/maps"))) {
                String[] words = line.split(" +");
                String[] range = words[0].split("-");
                long start = Long.parseUnsignedLong(range[0], 16);
                if (line.endsWith(file.toString()) && start <= address && address < Long.parseUnsignedLong(range[1], 16)) {
                    return Math.toIntExact(address - start + Long.parseUnsignedLong(words[2], 16));
                }
            }
        }
        throw new AssertionError(file + " is not mapped");
    }

    @Test
    void unknownPlatformIsNamed() throws Exception {
        String said = probe("-Dos.arch=vax");
        assertTrue(said.startsWith("failed: no native library for ") && said.contains("vax"), said);
    }
}
