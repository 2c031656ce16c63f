package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.IOException;
import java.io.InputStream;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.classfile.constantpool.ClassEntry;
import java.lang.classfile.constantpool.PoolEntry;
import java.lang.classfile.constantpool.Utf8Entry;
import java.lang.module.ModuleDescriptor;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Which package knows which: what is compiled refers to no class of any other. */
final class ArrowsTest {
    private static final String ROOT = "dev/tensorpress";
    private static final Pattern CLASS = Pattern.compile(ROOT + "/([a-z/]*)[A-Z]");

    /** Below {@code dev.tensorpress}; the façade, which has no name here, may know all. */
    private static final Map<String, Set<String>> KNOWS = Map.ofEntries(
            Map.entry("tensor", Set.of()),
            Map.entry("internal", Set.of("bindings")),
            Map.entry("kernel", Set.of("tensor", "internal", "bindings", "bindings/onednn")),
            Map.entry("encoding", Set.of("tensor", "kernel")),
            Map.entry("model", Set.of("tensor", "encoding")),
            Map.entry("io", Set.of("tensor", "kernel", "model", "bindings")),
            Map.entry("model/onnx", Set.of("tensor", "encoding", "io", "model")),
            Map.entry("model/gguf", Set.of("model")),
            Map.entry("model/safetensors", Set.of("tensor", "internal", "io", "model")),
            Map.entry("model/compressedtensors", Set.of("tensor", "kernel", "encoding", "io", "model", "model/safetensors")),
            Map.entry("model/archive", Set.of("tensor", "kernel", "encoding", "io", "model")),
            Map.entry("statistics", Set.of("tensor", "kernel", "io", "model", "model/gguf", "model/safetensors")),
            Map.entry("structure", Set.of("tensor", "internal", "kernel", "model", "model/onnx", "statistics")),
            Map.entry("method", Set.of("tensor", "kernel", "encoding", "model", "statistics")));

    @Test
    void packagesKnowWhatIsBelowThem() throws IOException, URISyntaxException {
        Path classes = classes();
        Map<String, Set<String>> known = new TreeMap<>();
        List<Path> files;
        try (Stream<Path> all = Files.walk(classes.resolve(ROOT))) {
            files = all.filter(p -> p.toString().endsWith(".class")).toList();
        }
        for (Path file : files) {
            String name = name(classes.resolve(ROOT).relativize(file.getParent()).toString().replace('\\', '/'));
            Set<String> all = known.computeIfAbsent(name, n -> new TreeSet<>());
            ClassModel model = ClassFile.of().parse(file);
            for (PoolEntry entry : model.constantPool()) {
                // Names of classes, and signatures, which stand in plain texts.
                String text = entry instanceof ClassEntry c ? c.asInternalName() : entry instanceof Utf8Entry u ? u.stringValue() : "";
                Matcher m = CLASS.matcher(text);
                while (m.find()) {
                    all.add(name(m.group(1)));
                }
            }
            all.remove(name);
        }
        assertFalse(known.remove("").isEmpty());
        assertEquals(KNOWS.keySet(), known.keySet());
        // An arrow that nothing needs any more goes, so that it does not come back unseen.
        known.forEach((name, packages) -> assertEquals(KNOWS.get(name), packages, name));
    }

    /** What only this module calls is nobody's to build on. */
    @Test
    void exportedIsAllButWhatIsInside() throws IOException, URISyntaxException {
        Set<String> exported = new TreeSet<>();
        try (InputStream in = Files.newInputStream(classes().resolve("module-info.class"))) {
            ModuleDescriptor.read(in).exports().forEach(e -> exported.add(e.source().replace('.', '/')));
        }
        Set<String> expected = new TreeSet<>(Set.of(ROOT));
        for (String name : KNOWS.keySet()) {
            if (!name.equals("io") && !name.equals("internal")) {
                expected.add(ROOT + "/" + name);
            }
        }
        assertEquals(expected, exported);
    }

    private static Path classes() throws URISyntaxException {
        return Path.of(Compressor.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    }

    private static String name(String path) {
        return path.endsWith("/") ? path.substring(0, path.length() - 1) : path;
    }
}
