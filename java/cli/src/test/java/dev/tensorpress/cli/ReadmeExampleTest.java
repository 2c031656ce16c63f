package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Runs the first Java example of README.md as it stands there, in a folder that holds {@code model.onnx}. An example
 * without a {@code main} is the body of one.
 */
class ReadmeExampleTest {
    private static final Path README = Path.of("../../README.md");

    @Test
    void runsAsWritten(@TempDir Path folder) throws Exception {
        String example = example(Files.readAllLines(README));
        SmallModel.write(folder.resolve("model.onnx"));
        Path source = Files.writeString(folder.resolve("Example.java"), example);
        Path output = folder.resolve("output.txt");
        Process java = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--enable-native-access=ALL-UNNAMED", "-cp", System.getProperty("java.class.path"), source.toString())
                .directory(folder.toFile()).redirectErrorStream(true).redirectOutput(output.toFile()).start();
        int code = java.waitFor();
        String said = Files.readString(output, StandardCharsets.UTF_8);
        assertEquals(0, code, () -> said + "\n" + example);
        long models;
        try (var files = Files.list(folder)) {
            models = files.filter(file -> file.toString().endsWith(".onnx")).count();
        }
        assertTrue(models > 1, () -> "wrote no model:\n" + example + "\n" + said);
    }

    private static String example(List<String> readme) throws IOException {
        int begin = readme.indexOf("```java") + 1;
        assertTrue(begin > 0, "README.md has no Java example");
        List<String> lines = readme.subList(begin, begin + readme.subList(begin, readme.size()).indexOf("```"));
        StringBuilder imports = new StringBuilder();
        StringBuilder body = new StringBuilder();
        for (String line : lines) {
            (line.startsWith("import ") ? imports : body).append(line).append('\n');
        }
        String main = body.indexOf("void main(") >= 0 ? body.toString() : "void main() throws Exception {\n" + body + "}\n";
        return imports + main;
    }
}
