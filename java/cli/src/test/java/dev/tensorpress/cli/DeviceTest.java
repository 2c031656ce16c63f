package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Commands on the emulated device, in processes of their own where it does something else than usual, which is settled once in each. */
class DeviceTest {
    private static final String EMULATED = "-Dtensorpress.cuda.library.path=" + System.getProperty("tensorpress.cuda.library.path");

    @TempDir
    Path folder;

    private record Result(int code, String out) {}

    /** @param emulator what the device does, as the emulator's variable says it; null for nothing in particular */
    private static Result run(String emulator, List<String> jvm, Object... args) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED"));
        command.addAll(jvm);
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), "dev.tensorpress.cli.Main"));
        for (Object arg : args) {
            command.add(arg.toString());
        }
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().remove("CUDA_VISIBLE_DEVICES");
        if (emulator != null) {
            builder.environment().put("TENSORPRESS_EMULATOR", emulator);
        }
        Process process = builder.start();
        String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Result(process.waitFor(), out);
    }

    private static Result run(String emulator, Object... args) throws IOException, InterruptedException {
        return run(emulator, List.of(EMULATED), args);
    }

    /** In this process, with the usual device. */
    private static Result here(Object... args) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        PrintStream both = new PrintStream(out, true, StandardCharsets.UTF_8);
        int code = Main.run(Stream.of(args).map(Object::toString).toArray(String[]::new), both, both);
        return new Result(code, out.toString(StandardCharsets.UTF_8));
    }

    private static void succeeds(Result result) {
        assertEquals(0, result.code, result.out);
    }

    private List<String> files() throws IOException {
        try (Stream<Path> all = Files.list(folder)) {
            return all.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }

    @Test
    void filesAreThoseOfTheProcessor() throws Exception {
        Path model = SmallModel.write(folder.resolve("model.onnx"));
        for (String recipe : List.of("int8", "int4", "prune50-int8")) {
            Path expected = folder.resolve(recipe + ".onnx");
            succeeds(here("compress", model, "-o", expected, "--recipe", recipe, "--set", "min-size=0"));
            for (String device : List.of("cuda", "cuda:0")) {
                Path out = folder.resolve(recipe + device + ".onnx");
                succeeds(here("compress", model, "-o", out, "--recipe", recipe, "--set", "min-size=0", "--device", device));
                assertArrayEquals(Files.readAllBytes(expected), Files.readAllBytes(out), recipe + " on " + device);
            }
            assertEquals(here("plan", model, "--recipe", recipe).out, here("plan", model, "--recipe", recipe, "--device", "cuda").out);
        }
        Path tensors = SmallModel.writeSafetensors(folder.resolve("model.safetensors"));
        succeeds(here("compress", tensors, "-o", folder.resolve("small"), "--recipe", "w4a16", "--set", "min-size=0", "--device", "cuda"));
        for (String device : List.of("cpu", "cuda")) {
            succeeds(here("expand", folder.resolve("small"), "-o", folder.resolve("large-" + device), "--device", device));
        }
        assertArrayEquals(Files.readAllBytes(folder.resolve("large-cpu/model.safetensors")),
                Files.readAllBytes(folder.resolve("large-cuda/model.safetensors")));
    }

    @Test
    void aDeviceThatIsNotThereIsRefusedBeforeAnythingIsWritten() throws Exception {
        Path model = SmallModel.write(folder.resolve("model.onnx"));
        Path tensors = SmallModel.writeSafetensors(folder.resolve("model.safetensors"));
        succeeds(run(null, "compress", tensors, "-o", folder.resolve("small"), "--recipe", "w8a16", "--set", "min-size=0"));
        Path out = Files.writeString(folder.resolve("out.onnx"), "old");
        List<String> before = files();
        for (String[] because : new String[][] {{"driver=0", "there is no NVIDIA driver"}, {"devices=0", "there is no CUDA device"}}) {
            for (Object[] command : new Object[][] {{"compress", model, "-o", out, "--force"}, {"compress", tensors, "-o", folder.resolve("folder")},
                {"expand", folder.resolve("small"), "-o", folder.resolve("large")}, {"plan", model, "--recipe", "prune50"}}) {
                List<Object> args = new ArrayList<>(List.of(command));
                args.addAll(List.of("--device", "cuda"));
                assertEquals(new Result(4, "tensorpress: cuda:0 cannot be used: " + because[1] + "\n"), run(because[0], args.toArray()));
            }
        }
        Result none = run(null, List.of("-Dtensorpress.cuda.library.path=" + folder), "compress", model, "-o", out, "--force", "--device", "cuda");
        assertEquals(new Result(4, "tensorpress: cuda:0 cannot be used: no native library at " + folder.resolve("libtensorpress_cuda.so")
                + ", which -Dtensorpress.cuda.library.path names\n"), none);
        assertEquals(before, files());
        assertEquals("old", Files.readString(out));
    }

    @Test
    void aWrongNameIsWrongUsage() throws Exception {
        Result r = here("compress", folder.resolve("model.onnx"), "-o", folder.resolve("out.onnx"), "--device", "gpu");
        assertEquals(2, r.code);
        assertTrue(r.out.startsWith("tensorpress: --device: a device is cpu, cuda, or cuda:0, cuda:1 and so on, not 'gpu'"), r.out);
    }

    private Result prune(String emulator, Path model, Path out) throws IOException, InterruptedException {
        return run(emulator, "compress", model, "-o", out, "--recipe", "prune50-int8", "--set", "min-size=0", "--device", "cuda");
    }

    @Test
    void aDeviceThatIsLostEndsTheCommandAndNothingIsLeft() throws Exception {
        Path model = SmallModel.write(folder.resolve("model.onnx"));
        Path out = folder.resolve("out.onnx");
        List<String> before = files();
        int lost = 0;
        for (int call : new int[] {30, 100, 300, 1000}) {
            Result r = prune("lost=" + call, model, out);
            if (r.code == 0) {
                Files.delete(out); // it was over before
            } else {
                assertEquals(4, r.code, r.out);
                lost += r.out.contains(" on cuda:0: the device is lost: cuda") ? 1 : 0;
            }
            assertEquals(before, files());
        }
        assertTrue(lost > 0);
    }

    @Test
    void littleMemoryMakesSmallPiecesAndTooLittleIsAnError() throws Exception {
        Path model = SmallModel.write(folder.resolve("model.onnx"), 300);
        Path expected = folder.resolve("expected.onnx");
        succeeds(here("compress", model, "-o", expected, "--recipe", "prune50-int8", "--set", "min-size=0"));
        Path out = folder.resolve("out.onnx");
        succeeds(prune("memory=120K", model, out)); // a third of the weight
        assertArrayEquals(Files.readAllBytes(expected), Files.readAllBytes(out));
        Files.delete(out);
        List<String> before = files();
        Result r = prune("memory=2K", model, out);
        assertEquals(4, r.code, r.out);
        assertTrue(r.out.contains(" on cuda:0: too little device memory: ") && r.out.lines().count() == 1, r.out);
        assertEquals(before, files());
    }

    /** Singular vectors depend on what computes them in their last bits, so what is made of them says what it was. */
    @Test
    void aFolderWithFactorsNamesTheDevice() throws Exception {
        Path model = SmallModel.writeSafetensors(folder.resolve("model.safetensors"));
        for (String recipe : List.of("lowrank", "w8a16")) {
            Path out = folder.resolve(recipe);
            List<Object> args = new ArrayList<>(List.of("compress", model, "-o", out, "--recipe", recipe, "--device", "cuda", "--set", "min-size=0"));
            if (recipe.equals("lowrank")) {
                args.addAll(List.of("--set", "rank=4", "--force-scheme"));
            }
            succeeds(here(args.toArray()));
            String manifest = Files.readString(out.resolve("tensorpress-manifest.json"));
            assertEquals(recipe.equals("lowrank"), manifest.contains("\"device\" : \"cuda\""), manifest);
        }
    }

    /** What refuses a weight says so as it does on the processor. */
    @Test
    void aWeightThatIsNotFiniteIsRefusedAlike() throws Exception {
        Path model = SmallModel.write(folder.resolve("model.onnx"), Float.NaN);
        Path out = folder.resolve("out.onnx");
        for (String recipe : List.of("int8", "prune50")) {
            Result cpu = here("compress", model, "-o", out, "--recipe", recipe, "--set", "min-size=0");
            assertEquals(4, cpu.code, cpu.out);
            assertEquals(cpu, here("compress", model, "-o", out, "--recipe", recipe, "--set", "min-size=0", "--device", "cuda"));
        }
        assertEquals(List.of("model.onnx"), files());
    }

    /** Classes of CUDA cost nothing where they are not asked for. */
    @Test
    void withoutADeviceNothingOfCudaIsLoaded() throws Exception {
        Path model = SmallModel.write(folder.resolve("model.onnx"));
        for (String device : List.of("cpu", "cuda")) {
            Result r = run(null, List.of(EMULATED, "-Xlog:class+load"), "compress", model, "-o", folder.resolve(device + ".onnx"), "--device", device);
            succeeds(r);
            for (String name : List.of("kernel.Cuda", "kernel.CudaExecutor", "kernel.DeviceException", "kernel.DeviceMemory",
                    "internal.CudaLibrary")) {
                assertEquals(device.equals("cuda"), r.out.contains("dev.tensorpress." + name + " "), name + " with " + device);
            }
        }
    }

    private static Map<String, String> doctor(String emulator) throws IOException, InterruptedException {
        Result r = run(emulator, "doctor", "--json", "--threads", 1);
        succeeds(r);
        Map<String, String> facts = new HashMap<>();
        try (JsonParser json = new JsonFactory().createParser(r.out.substring(r.out.indexOf('{')))) {
            String parent = "";
            for (JsonToken t = json.nextToken(); t != null; t = json.nextToken()) {
                if (t == JsonToken.START_OBJECT) {
                    parent = json.currentName() == null ? "" : json.currentName() + ".";
                } else if (t == JsonToken.END_OBJECT) {
                    parent = "";
                } else if (t.isScalarValue()) {
                    facts.put(parent + json.currentName(), json.getText());
                }
            }
        }
        return facts;
    }

    @Test
    void doctorShowsDevicesOrWhyThereAreNone() throws Exception {
        Map<String, String> two = doctor("devices=2,memory=1G");
        assertTrue(two.get("cudaKernels").endsWith("libtensorpress_cuda.so"), two.toString());
        assertEquals("cuda:1", two.get("cudaDevice1.device"), two.toString());
        assertEquals("", two.get("cudaDevice1.unusable"), two.toString());
        assertEquals("" + (1 << 30), two.get("cudaDevice1.memoryBytes"), two.toString());
        assertFalse(two.containsKey("cudaDevices") || two.containsKey("cudaDevice2.device"), two.toString());
        assertEquals("none: there is no NVIDIA driver", doctor("driver=0").get("cudaDevices"));
        assertTrue(doctor("cc=7.5").get("cudaDevice0.unusable").endsWith(" has compute capability 7.5, but at least 8.0 is needed"));
        Result text = run("cc=9.0", "doctor", "--threads", 1);
        assertTrue(text.out.lines().anyMatch(line -> line.matches("CUDA device 0 +.+, compute capability 9.0, \\d+ multiprocessors, "
                + "[\\d.]+ .?i?B of [\\d.]+ .?i?B free, CUDA \\d+\\.\\d on a driver for \\d+\\.\\d")), text.out);
        Result none = run(null, List.of("-Dtensorpress.cuda.library.path=" + folder), "doctor", "--threads", 1);
        assertTrue(none.out.lines().anyMatch(line -> line.startsWith("CUDA kernels") && line.contains("none: no native library at")), none.out);
    }
}
