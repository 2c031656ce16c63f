package dev.tensorpress.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.kernel.Device;
import dev.tensorpress.kernel.DeviceException;
import dev.tensorpress.kernel.Executor;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Where the CUDA library comes from, and why a device cannot be used. Both are settled once in a process, so each case has its own. */
class CudaLibraryTest {
    private static final Path EMULATED = Path.of(System.getProperty(CudaLibrary.PROPERTY));

    @TempDir
    Path folder;

    /** Prints where the library was loaded from, or why the device cannot be used. */
    static final class Probe {
        private Probe() {
        }

        public static void main(String[] args) {
            try (Executor executor = Executor.on(Device.of(args[0]), 1)) {
                System.out.println(executor.device() + " by " + CudaLibrary.path());
            } catch (DeviceException e) {
                System.out.println("failed: " + e.getMessage());
            }
        }
    }

    private static String probe(String device, Map<String, String> environment, String... options)
            throws IOException, InterruptedException {
        List<String> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of("-Xshare:auto", "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED"));
        command.addAll(List.of(options));
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), Probe.class.getName(), device));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().remove("CUDA_VISIBLE_DEVICES");
        builder.environment().putAll(environment);
        Process process = builder.start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), output);
        return output.lines().toList().getLast();
    }

    private static String emulated(String device, String variable, String value) throws IOException, InterruptedException {
        return probe(device, Map.of(variable, value), "-D" + CudaLibrary.PROPERTY + "=" + EMULATED);
    }

    private static Path library(Path folder) throws IOException {
        return Files.copy(EMULATED.resolve("libtensorpress_cuda.so"), folder.resolve("libtensorpress_cuda.so"));
    }

    @Test
    void propertyNamesFileOrFolderAndHasNoFallback() throws Exception {
        Path file = library(folder);
        assertEquals("cuda:0 by " + file, probe("cuda", Map.of(), "-Dtensorpress.cuda.library.path=" + file));
        assertEquals("cuda:0 by " + file, probe("cuda", Map.of(), "-Dtensorpress.cuda.library.path=" + folder));
        assertEquals("failed: cuda:0 cannot be used: no native library at " + folder.resolve("none")
                + ", which -Dtensorpress.cuda.library.path names", probe("cuda", Map.of(), "-Dtensorpress.cuda.library.path="
                + folder.resolve("none")));
    }

    @Test
    void itLiesBesideTheLibraryThatIsNamed() throws Exception {
        Path other = folder.resolve("libtensorpress.so");
        try (var in = NativeLibrary.class.getClassLoader().getResourceAsStream(NativeLibrary.FOLDER + "/libtensorpress.so")) {
            Files.copy(in, other);
        }
        assertEquals("failed: cuda:0 cannot be used: there is no libtensorpress_cuda.so beside " + other + ": build Tensorpress with the"
                + " CUDA toolkit, or name the library with -Dtensorpress.cuda.library.path",
                probe("cuda", Map.of(), "-Dtensorpress.library.path=" + other));
        Path file = library(folder);
        assertEquals("cuda:0 by " + file, probe("cuda", Map.of(), "-Dtensorpress.library.path=" + other));
        assertEquals("cuda:0 by " + file, probe("cuda", Map.of(), "-Dtensorpress.library.path=" + folder));
    }

    @Test
    void anotherLibraryIsRefused() throws Exception {
        Path file = folder.resolve("libtensorpress_cuda.so");
        try (var in = NativeLibrary.class.getClassLoader().getResourceAsStream(NativeLibrary.FOLDER + "/libtensorpress.so")) {
            Files.copy(in, file);
        }
        assertEquals("failed: cuda:0 cannot be used: " + file + " is no library of CUDA kernels: it has no tp_cuda_abi_version",
                probe("cuda", Map.of(), "-Dtensorpress.cuda.library.path=" + file));
    }

    @Test
    void aDeviceThatCannotBeUsedSaysWhy() throws Exception {
        assertEquals("failed: cuda:0 cannot be used: there is no NVIDIA driver", emulated("cuda", "TENSORPRESS_EMULATOR", "driver=0"));
        assertEquals("failed: cuda:0 cannot be used: the NVIDIA driver is older than the CUDA that the kernels were built with: update it",
                emulated("cuda", "TENSORPRESS_EMULATOR", "driver=old"));
        assertEquals("failed: cuda:0 cannot be used: there is no CUDA device", emulated("cuda", "TENSORPRESS_EMULATOR", "devices=0"));
        assertEquals("failed: cuda:0 cannot be used: there is no CUDA device that CUDA_VISIBLE_DEVICES='' lets through",
                emulated("cuda", "CUDA_VISIBLE_DEVICES", ""));
        assertEquals("failed: cuda:2 cannot be used: there is no CUDA device 2, the last one is 1",
                emulated("cuda:2", "TENSORPRESS_EMULATOR", "devices=2"));
        String old = emulated("cuda", "TENSORPRESS_EMULATOR", "cc=7.5");
        assertTrue(old.startsWith("failed: cuda:0 cannot be used: ")
                && old.endsWith(" has compute capability 7.5, but at least 8.0 is needed"), old);
        assertTrue(emulated("cuda:1", "TENSORPRESS_EMULATOR", "devices=2").startsWith("cuda:1 by "));
    }

    /** Each of the first calls of the runtime fails once: never a crash, and always a reason. */
    @Test
    void aDeviceThatFailsWhileItIsOpenedSaysWhy() throws Exception {
        for (int call = 1; call <= 12; call++) {
            String said = emulated("cuda", "TENSORPRESS_EMULATOR", "lost=" + call + ",print=0");
            assertTrue(said.matches("failed: cuda:0 cannot be used: \\S.*|cuda:0 by .*"), call + ": " + said);
        }
        assertTrue(emulated("cuda", "TENSORPRESS_EMULATOR", "lost=3").startsWith("failed: "));
    }
}
