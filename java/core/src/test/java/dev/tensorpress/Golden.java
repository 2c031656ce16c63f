package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Predicate;
import java.util.stream.Stream;

/**
 * SHA-256 of outputs, against those in a file of the tests' resources: a change of bytes is a decision, made in the commit that changes
 * them. {@code -Dtensorpress.golden=FOLDER} writes what is found to files there instead.
 */
public final class Golden {
    private final String name;
    private final Map<String, String> found = new TreeMap<>();

    /** @param name of the resource {@code /golden/NAME.sha256}, with lines of a hash, two spaces, and what it is of */
    public Golden(String name) {
        this.name = name;
    }

    /**
     * Adds what a folder holds: names and contents.
     *
     * @param which files, by name
     * @param factors that the output holds floating-point factors, which differ between instruction sets in their last bits: then sizes
     *     take the place of contents
     */
    public void add(String what, Path folder, Predicate<String> which, boolean factors) throws IOException {
        MessageDigest digest = sha256();
        List<Path> files;
        try (Stream<Path> all = Files.list(folder)) {
            files = all.filter(p -> which.test(p.getFileName().toString())).sorted().toList();
        }
        for (Path file : files) {
            digest.update((file.getFileName() + "\n").getBytes(StandardCharsets.UTF_8));
            digest.update(factors ? Long.toString(Files.size(file)).getBytes(StandardCharsets.UTF_8) : Files.readAllBytes(file));
        }
        found.put(what, HexFormat.of().formatHex(digest.digest()));
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Compares all that was added with what the resource has. */
    public void check() throws IOException {
        String folder = System.getProperty("tensorpress.golden");
        if (folder != null) {
            Files.writeString(Path.of(folder).resolve(name + ".sha256"), text());
            return;
        }
        assertEquals(expected(), text());
    }

    /** Compares what was added with what the resource has of it, as for outputs made in another way that have to be the same. */
    public void checkPart() throws IOException {
        StringBuilder part = new StringBuilder();
        expected().lines().filter(line -> found.containsKey(line.substring(line.indexOf("  ") + 2)))
                .forEach(line -> part.append(line).append('\n'));
        assertEquals(part.toString(), text());
    }

    private String text() {
        StringBuilder text = new StringBuilder();
        found.forEach((what, hash) -> text.append(hash).append("  ").append(what).append('\n'));
        return text.toString();
    }

    private String expected() throws IOException {
        try (InputStream in = Golden.class.getResourceAsStream("/golden/" + name + ".sha256")) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
