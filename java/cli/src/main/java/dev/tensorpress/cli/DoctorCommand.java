package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.runtime.Evaluation;
import dev.tensorpress.io.DiskSpeed;
import dev.tensorpress.kernel.Cuda;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.kernel.OneDnn;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** {@code tensorpress doctor}: what this machine has, and whether all parts are there. */
final class DoctorCommand implements Command {
    private static final List<String> LIBRARIES =
            List.of("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/cuda/compat", "/usr/lib/wsl/lib");

    private static final double MEGA = 1e6;
    private static final double GIGA = 1e9;
    private static final Path CACHES = Path.of("/sys/devices/system/cpu/cpu0/cache");

    @Override
    public Syntax syntax() {
        return new Syntax("doctor", "Shows what this machine has: Java, processor, kernels, ONNX Runtime, oneDNN, CUDA, speed of memory and"
                + " disk.")
                .option("threads", "N", "that measure the bandwidth; all processors if left out")
                .flag("json", "as JSON");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Map<String, Object> facts = facts(arguments.threads());
        if (arguments.flag("json")) {
            try (JsonGenerator json = Names.json(console.out())) {
                json.writeStartObject();
                for (Map.Entry<String, Object> fact : facts.entrySet()) {
                    String key = camelCase(fact.getKey());
                    switch (fact.getValue()) {
                        case Long n -> json.writeNumberField(key, n);
                        case Size size -> json.writeNumberField(key, size.bytes());
                        case Double n -> json.writeNumberField(key, n);
                        case Cuda.Facts device -> {
                            json.writeFieldName(key);
                            json(device, json);
                        }
                        default -> json.writeStringField(key, fact.getValue().toString());
                    }
                }
                json.writeEndObject();
            }
            console.out().println();
            return;
        }
        int width = 0;
        for (String key : facts.keySet()) {
            width = Math.max(width, key.length());
        }
        for (Map.Entry<String, Object> fact : facts.entrySet()) {
            String value = switch (fact.getValue()) {
                case Double bytesPerSecond -> rate(bytesPerSecond);
                case Cuda.Facts device -> text(device);
                default -> fact.getValue().toString();
            };
            console.out().println(Text.left(fact.getKey(), width + 2) + value);
        }
    }

    private static String rate(double bytesPerSecond) {
        return bytesPerSecond < GIGA ? Text.fixed(bytesPerSecond / MEGA, 0) + " MB/s" : Text.fixed(bytesPerSecond / GIGA, 1) + " GB/s";
    }

    private record Size(long bytes) {
        @Override
        public String toString() {
            return Text.size(bytes);
        }
    }

    /** {@code CUDA driver} becomes {@code cudaDriver}. */
    private static String camelCase(String words) {
        StringBuilder text = new StringBuilder();
        for (String word : words.split(" ")) {
            boolean shout = word.equals(word.toUpperCase(Locale.ROOT));
            String first = text.isEmpty() ? word : word.substring(0, 1).toUpperCase(Locale.ROOT) + word.substring(1);
            text.append(text.isEmpty() && shout ? word.toLowerCase(Locale.ROOT) : first);
        }
        return text.toString();
    }

    /** Numbers are counts ({@code Long}), bytes ({@code Size}) or bytes per second ({@code Double}); the rest are texts and devices. */
    private static Map<String, Object> facts(int threads) throws IOException {
        Map<String, Object> facts = new LinkedHashMap<>();
        facts.put("java", System.getProperty("java.vm.name") + " " + System.getProperty("java.vm.version"));
        facts.put("java home", System.getProperty("java.home"));
        facts.put("system", System.getProperty("os.name") + " " + System.getProperty("os.version") + " "
                + System.getProperty("os.arch"));
        String name = cpuInfo("model name");
        facts.put("processor", name.isEmpty() ? "unknown" : name);
        facts.put("processors", (long) Runtime.getRuntime().availableProcessors());
        List<String> flags = new ArrayList<>(List.of("avx512_vnni", "avx_vnni"));
        flags.retainAll(List.of(cpuInfo("flags").split(" ")));
        facts.put("VNNI", flags.isEmpty() ? "none" : String.join(" ", flags));
        caches(facts);
        boolean kernels = false;
        try {
            facts.put("native library", Machine.library());
            facts.put("native version", Machine.version());
            facts.put("best tier", Machine.bestTier());
            kernels = true;
            facts.put("tier in use", Machine.tier());
        } catch (UnsatisfiedLinkError | KernelException e) {
            facts.put(kernels ? "tier in use" : "native library", "none: " + e.getMessage());
        }
        facts.put("ONNX Runtime", onnxRuntime());
        facts.put("oneDNN", oneDnn());
        facts.put("CUDA driver", cudaDriver());
        facts.put("CUDA toolkit", cudaToolkit());
        if (kernels) {
            cuda(facts);
        }
        if (kernels) {
            try (Executor executor = Executor.cpu(threads)) {
                facts.put("bandwidth threads", (long) executor.threads());
                Machine.Bandwidth bandwidth = Machine.bandwidth(executor);
                facts.put("bandwidth reading", bandwidth.read());
                facts.put("bandwidth f32 to int8", bandwidth.narrow());
            } catch (OutOfMemoryError e) {
                facts.put("bandwidth reading", "not measured: " + e.getMessage());
            }
        }
        disk(facts);
        return facts;
    }

    /** Of the current folder, if files can be made there; else of that for temporary ones. */
    private static void disk(Map<String, Object> facts) throws IOException {
        Path here = Path.of("").toAbsolutePath();
        Path folder = Files.isWritable(here) ? here : Path.of(System.getProperty("java.io.tmpdir"));
        facts.put("disk", folder.toString());
        try {
            DiskSpeed disk = DiskSpeed.measure(folder);
            facts.put("disk writing", disk.write());
            facts.put("disk reading", disk.read());
        } catch (IOException e) {
            if (Thread.currentThread().isInterrupted()) {
                throw e;
            }
            facts.put("disk writing", "not measured: " + e.getMessage());
        }
    }

    /** Of the first processor; empty if there is none, as on other systems than Linux. */
    static String cpuInfo(String key) {
        try {
            for (String line : Files.readAllLines(Path.of("/proc/cpuinfo"), StandardCharsets.ISO_8859_1)) {
                int colon = line.indexOf(':');
                if (colon > 0 && line.substring(0, colon).strip().equals(key)) {
                    return line.substring(colon + 1).strip();
                }
            }
        } catch (IOException e) {
            // not Linux
        }
        return "";
    }

    /** Sizes of the caches that data pass, of the first processor; none where the system does not say. */
    private static void caches(Map<String, Object> facts) {
        for (int i = 0; Files.isDirectory(CACHES.resolve("index" + i)); i++) {
            Path cache = CACHES.resolve("index" + i);
            try {
                String type = Files.readString(cache.resolve("type")).strip();
                String size = Files.readString(cache.resolve("size")).strip();
                if (!type.equals("Instruction") && size.endsWith("K")) {
                    facts.put("cache L" + Files.readString(cache.resolve("level")).strip() + (type.equals("Data") ? "d" : ""),
                            new Size(Long.parseLong(size.substring(0, size.length() - 1)) << 10));
                }
            } catch (IOException | NumberFormatException e) {
                // A virtual machine may hide it.
            }
        }
    }

    private static String onnxRuntime() {
        try {
            return Evaluation.runtime();
        } catch (LinkageError | RuntimeException e) {
            return "none: " + e.getMessage();
        }
    }

    private static String oneDnn() {
        try {
            return OneDnn.version();
        } catch (LinkageError | RuntimeException e) {
            String message = e.getMessage() == null ? e.toString() : e.getMessage();
            return message.startsWith("oneDNN is not on the class path")
                    ? "not installed (optional); TENSORPRESS_JAVA_OPTS=-Dtensorpress.onednn.path=FOLDER points to it"
                    : "none: " + message;
        }
    }

    private static void cuda(Map<String, Object> facts) {
        String none = Cuda.none();
        try {
            facts.put("CUDA kernels", Cuda.library());
        } catch (UnsatisfiedLinkError e) {
            facts.put("CUDA kernels", "none: " + none);
            return;
        }
        List<Cuda.Facts> devices = Cuda.devices();
        for (Cuda.Facts device : devices) {
            facts.put("CUDA device " + device.device().index(), device);
        }
        if (devices.isEmpty()) {
            facts.put("CUDA devices", "none: " + none);
        }
    }

    private static String text(Cuda.Facts d) {
        return d.name() + ", " + (d.unusable().isEmpty() ? "compute capability " + d.major() + "." + d.minor() + ", "
                + d.multiprocessors() + " multiprocessors, " + Text.size(d.freeBytes()) + " of " + Text.size(d.memoryBytes()) + " free, CUDA "
                + d.runtime() + " on a driver for " + d.driver() : "cannot be used: " + d.unusable());
    }

    private static void json(Cuda.Facts d, JsonGenerator json) throws IOException {
        json.writeStartObject();
        json.writeStringField("device", d.device().toString());
        json.writeStringField("name", d.name());
        json.writeStringField("unusable", d.unusable());
        json.writeStringField("computeCapability", d.major() + "." + d.minor());
        json.writeNumberField("multiprocessors", d.multiprocessors());
        json.writeNumberField("memoryBytes", d.memoryBytes());
        json.writeNumberField("freeBytes", d.freeBytes());
        json.writeNumberField("l2Bytes", d.l2Bytes());
        json.writeStringField("driver", d.driver());
        json.writeStringField("runtime", d.runtime());
        json.writeEndObject();
    }

    private static String cudaDriver() {
        Path driver = find("libcuda.so.1", System.getenv("LD_LIBRARY_PATH"), LIBRARIES);
        if (driver == null) {
            return "none";
        }
        try {
            String version = Files.readString(Path.of("/proc/driver/nvidia/version"), StandardCharsets.ISO_8859_1);
            return driver + ", " + version.lines().findFirst().orElse("").strip();
        } catch (IOException e) {
            return driver.toString(); // the library alone; the kernel module may be elsewhere, as in WSL
        }
    }

    private static String cudaToolkit() {
        String home = System.getenv("CUDA_HOME");
        List<String> folders = new ArrayList<>();
        if (home != null && !home.isEmpty()) {
            folders.add(home + "/bin");
        }
        folders.add("/usr/local/cuda/bin");
        Path nvcc = find("nvcc", System.getenv("PATH"), folders);
        return nvcc == null ? "none" : nvcc.toString();
    }

    private static Path find(String file, String path, List<String> more) {
        List<String> folders = new ArrayList<>(path == null ? List.of() : List.of(path.split(":")));
        folders.addAll(more);
        for (String folder : folders) {
            Path candidate = Path.of(folder, file);
            if (!folder.isEmpty() && Files.exists(candidate)) {
                return candidate;
            }
        }
        return null;
    }
}
