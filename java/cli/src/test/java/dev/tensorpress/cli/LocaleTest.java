package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.Attributes;
import java.util.jar.JarOutputStream;
import java.util.jar.Manifest;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Names that are not ASCII, where the locale is. The JVM of these tests may be in such a locale itself: a shell makes the names,
 * and looks for them.
 */
class LocaleTest {
    private static final String NAMES = "top=$'t\\xc3\\xb6p.safetensors'; letter=$'\\xe5\\x90\\x8d.txt'; sub=$'gr\\xc3\\xb6\\xc3\\x9fe'\n";

    @TempDir
    Path folder;

    private record Ended(int code, String said) {}

    @BeforeEach
    void writeModel() throws Exception {
        Path model = Files.createDirectory(folder.resolve("model"));
        byte[] header = "{\"a.up_proj.weight\":{\"dtype\":\"F32\",\"shape\":[64,64],\"data_offsets\":[0,16384]}}"
                .getBytes(StandardCharsets.UTF_8);
        ByteBuffer b = ByteBuffer.allocate(8 + header.length + 16384).order(ByteOrder.LITTLE_ENDIAN).putLong(header.length).put(header);
        Files.write(model.resolve("x.safetensors"), b.array());
        Files.writeString(model.resolve("model.safetensors.index.json"),
                "{\"weight_map\": {\"a.up_proj.weight\": \"t\u00f6p.safetensors\"}}");
        assertEquals(0, bash("C", NAMES + "cd model && mv x.safetensors \"$top\" && echo 1 >\"$letter\" && mkdir \"$sub\" &&"
                + " echo 2 >\"$sub/$letter\"").code);
    }

    private Ended bash(String locale, String script) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(List.of("bash", "-c", script));
        ProcessBuilder builder = new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true);
        builder.environment().keySet().removeIf(name -> name.startsWith("LC_") || name.equals("LANG"));
        if (locale != null) {
            builder.environment().put("LC_ALL", locale);
        }
        builder.environment().put("JAVA_HOME", System.getProperty("java.home"));
        Process p = builder.start();
        String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        return new Ended(p.waitFor(), said);
    }

    /** The launcher in a folder of its own, with a jar that names the class path of these tests. */
    private void install() throws IOException {
        Path root = folder.resolve("root");
        Path project = Path.of("../..").toRealPath();
        Path lib = Files.createDirectories(root.resolve("java/cli/target/dist/lib"));
        Path dist = lib.getParent();
        Files.copy(project.resolve("tensorpress"), root.resolve("tensorpress"));
        Files.createDirectory(root.resolve(".mvn"));
        Files.copy(project.resolve(".mvn/jdk.sh"), root.resolve(".mvn/jdk.sh"));
        Manifest manifest = new Manifest();
        manifest.getMainAttributes().put(Attributes.Name.MANIFEST_VERSION, "1.0");
        StringBuilder urls = new StringBuilder();
        for (String entry : System.getProperty("java.class.path").split(":")) {
            urls.append(Path.of(entry).toUri()).append(' ');
        }
        manifest.getMainAttributes().put(Attributes.Name.CLASS_PATH, urls.toString().strip());
        new JarOutputStream(Files.newOutputStream(lib.resolve("classes.jar")), manifest).close();
        String library = "libtensorpress.so";
        try (InputStream in = LocaleTest.class.getResourceAsStream("/dev-tensorpress-natives/linux-x86_64/" + library)) {
            Files.copy(in, Files.createDirectory(dist.resolve("native")).resolve(library));
        }
        Files.createFile(dist.resolve("warmup.onnx"));
        // As if no cache could be made.
        Path cache = Files.createFile(dist.resolve(System.getProperty("java.runtime.version") + ".aot"));
        Files.setLastModifiedTime(cache, FileTime.from(Instant.now().plusSeconds(60)));
    }

    @Test
    void theLauncherReadsUtf8() throws Exception {
        install();
        for (String locale : new String[] {null, "C", "POSIX", "C.UTF-8", "xx_XX.UTF-8"}) {
            Ended e = bash(locale, NAMES + """
                    set -e
                    cp -r model "$sub"
                    bash root/tensorpress compress "$sub" -o "out$sub"
                    [ -s "out$sub/model.safetensors" ]
                    cmp "$sub/$letter" "out$sub/$letter"
                    cmp "$sub/$sub/$letter" "out$sub/$sub/$letter"
                    bash root/tensorpress inspect --json "$sub" | grep -q "$top"
                    rm -r "$sub" "out$sub"
                    """);
            assertEquals(0, e.code, locale + ": " + e.said);
        }
    }

    /** Java has no such names. */
    @Test
    void namesThatAreNoUtf8() throws Exception {
        String main = "'" + System.getProperty("java.home") + "/bin/java' -cp '" + System.getProperty("java.class.path")
                + "' --enable-native-access=ALL-UNNAMED dev.tensorpress.cli.Main ";
        Ended e = bash("C.UTF-8", "mv model/$'t\\xc3\\xb6p.safetensors' $'x\\xff.safetensors'; " + main + "inspect $'x\\xff.safetensors'");
        assertEquals(Main.USAGE, e.code, e.said);
        assertTrue(e.said.contains("rename it, so that its name is UTF-8") && !e.said.contains("locale"), e.said);
        e = bash("C.UTF-8", "mv $'x\\xff.safetensors' model; " + main + "pack model -o m.tpa");
        assertEquals(Main.UNSUPPORTED, e.code, e.said);
        assertTrue(e.said.contains("rename it, so that its name is UTF-8") && !e.said.contains("locale"), e.said);
        assertEquals("model\n", bash("C", "ls").said);
    }

    /** Without the launcher the JVM is what it is: it says so, and writes nothing. */
    @Test
    void theLibraryRefusesSuchNamesBeforeTheWork() throws Exception {
        String main = "'" + System.getProperty("java.home") + "/bin/java' -cp '" + System.getProperty("java.class.path")
                + "' --enable-native-access=ALL-UNNAMED dev.tensorpress.cli.Main ";
        Ended e = bash("C", main + "compress model -o out");
        assertEquals(Main.UNSUPPORTED, e.code, e.said);
        assertTrue(e.said.contains(" in a UTF-8 locale, such as LC_ALL=C.UTF-8"), e.said);
        e = bash("C", NAMES + "mv model/\"$top\" model/x.safetensors; rm -r model/\"$sub\" model/*.json; " + main
                + "compress model -o out");
        assertEquals(Main.UNSUPPORTED, e.code, e.said);
        assertTrue(e.said.contains(" in a UTF-8 locale, such as LC_ALL=C.UTF-8"), e.said);
        assertEquals("model\n", bash("C", "ls").said);
        e = bash("C", NAMES + main + "compress model -o \"$sub\"");
        assertEquals(Main.USAGE, e.code, e.said);
        assertTrue(e.said.contains(" in a UTF-8 locale, such as LC_ALL=C.UTF-8"), e.said);
        e = bash("C", NAMES + "rm model/\"$letter\"; " + main + "compress model -o out && [ -s out/model.safetensors ]");
        assertEquals(0, e.code, e.said);
    }
}
