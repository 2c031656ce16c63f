package dev.tensorpress.cli;

import static dev.tensorpress.cli.MainTest.run;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.SigningKey;
import dev.tensorpress.model.archive.VerifyingKey;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Keys on the command line. */
final class KeyTest {
    @TempDir
    Path folder;

    @Test
    void keygenMakesKeysThatAreReadAgain() throws IOException {
        Path key = folder.resolve("k");
        Result r = run("keygen", "-o", key);
        assertEquals(0, r.code(), r.err());
        ArchiveKey.read(key);
        assertFalse(r.out().contains(Files.readString(key).substring(20)), r.out());
        for (String[] names : new String[][] {{"s.pem", "s.pub.pem"}, {"s", "s.pub"}}) {
            r = run("keygen", "--sign", "-o", folder.resolve(names[0]), "--comment", "Release team");
            assertEquals(0, r.code(), r.err());
            VerifyingKey open = VerifyingKey.read(folder.resolve(names[1]));
            assertEquals(open, SigningKey.read(folder.resolve(names[0])).verifying());
            assertTrue(r.out().contains("fingerprint " + open.fingerprint()), r.out());
            assertEquals("Release team", open.comment());
        }
    }

    /** Neither the secret one nor, with the secret one gone, the public one. */
    @Test
    void keygenReplacesNothing() throws IOException {
        Path key = folder.resolve("k");
        assertEquals(0, run("keygen", "-o", key).code());
        byte[] before = Files.readAllBytes(key);
        for (Result r : List.of(run("keygen", "-o", key), run("keygen", "--sign", "-o", key))) {
            assertEquals(Main.USAGE, r.code(), r.err());
            assertTrue(r.line().contains("never replaced"), r.err());
        }
        assertArrayEquals(before, Files.readAllBytes(key));
        assertEquals(0, run("keygen", "--sign", "-o", folder.resolve("s.pem")).code());
        Files.delete(folder.resolve("s.pem"));
        assertEquals(Main.USAGE, run("keygen", "--sign", "-o", folder.resolve("s.pem")).code());
        assertFalse(Files.exists(folder.resolve("s.pem")));
        for (Result r : List.of(run("keygen"), run("keygen", "-o", folder.resolve("n"), "--comment", "x"),
                run("keygen", "-o", folder.resolve("n"), "--sign", "--comment", "-----BEGIN"))) {
            assertEquals(Main.USAGE, r.code(), r.err());
        }
        assertFalse(Files.exists(folder.resolve("n")));
    }

    private static Arguments arguments(Object... options) {
        String[] words = new String[options.length + 1];
        words[0] = "pack";
        for (int i = 0; i < options.length; i++) {
            words[i + 1] = options[i].toString();
        }
        return KeyOptions.declare(new Syntax("pack", "")).parse(words);
    }

    private static Function<String, char[]> typing(String... answers) {
        ArrayDeque<String> left = new ArrayDeque<>(List.of(answers));
        return text -> left.isEmpty() ? null : left.remove().toCharArray();
    }

    private Path secret(String name, String text) throws IOException {
        Path file = Files.createFile(folder.resolve(name), PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        return Files.writeString(file, text);
    }

    @Test
    void secretsComeFromFilesTheEnvironmentOrAreTyped() throws IOException {
        Path key = folder.resolve("k");
        run("keygen", "-o", key);
        Path phrase = secret("p", "open sesame\n");
        Map<String, String> set = Map.of("TENSORPRESS_PASSPHRASE", "open sesame");
        Map<String, String> unset = Map.of();
        Function<String, char[]> nobody = typing();
        assertEquals("a key", KeyOptions.given(arguments("--key", key), set, nobody, true).toString());
        assertEquals("a passphrase", KeyOptions.given(arguments("--passphrase-file", phrase), unset, nobody, true).toString());
        assertEquals("a passphrase", KeyOptions.given(arguments("--passphrase"), set, nobody, true).toString());
        assertEquals("a passphrase", KeyOptions.given(arguments("--passphrase"), unset, typing("x", "x"), true).toString());
        assertEquals("a passphrase", KeyOptions.given(arguments("--passphrase"), unset, typing("x"), false).toString());
        assertEquals(null, KeyOptions.given(arguments(), set, nobody, true)); // encrypted only where it is said
    }

    @Test
    void secretsThatAreNoneAreRefused() throws IOException {
        Path phrase = secret("p", "open sesame\n");
        Arguments asks = arguments("--passphrase");
        Map<String, String> unset = Map.of();
        String message = assertThrows(UsageException.class, () -> KeyOptions.given(asks, unset, typing(), true)).getMessage();
        assertTrue(message.contains("no terminal"), message);
        message = assertThrows(UsageException.class, () -> KeyOptions.given(asks, unset, typing(""), true)).getMessage();
        assertTrue(message.contains("empty"), message);
        for (Function<String, char[]> typing : List.of(typing("x", "y"), typing("x"))) {
            message = assertThrows(UsageException.class, () -> KeyOptions.given(asks, unset, typing, true)).getMessage();
            assertTrue(message.contains("differ"), message);
        }
        for (Arguments two : List.of(arguments("--passphrase", "--passphrase-file", phrase), arguments("--key", phrase, "--passphrase"),
                arguments("--key", phrase, "--passphrase-file", phrase))) {
            message = assertThrows(UsageException.class, () -> KeyOptions.given(two, unset, typing(), false)).getMessage();
            assertTrue(message.contains("exclude"), message);
        }
    }

    /** A folder with two files, packed, and what came of it with a key and without. */
    @Test
    void archivesAreEncryptedSignedAndVerified() throws IOException {
        Path in = Files.createDirectory(folder.resolve("in"));
        Files.writeString(in.resolve("a.txt"), "one\n");
        Files.writeString(in.resolve("b.txt"), "two\n");
        Path key = folder.resolve("k");
        Path sign = folder.resolve("s.pem");
        Path open = folder.resolve("s.pub.pem");
        run("keygen", "-o", key);
        run("keygen", "--sign", "-o", sign, "--comment", "Release team");
        String fingerprint = VerifyingKey.read(open).fingerprint();
        run("keygen", "--sign", "-o", folder.resolve("other.pem"));
        Path other = folder.resolve("other.pub.pem");
        Path archive = folder.resolve("m.tpa");
        Path out = folder.resolve("out");
        Result r = run("pack", in, "-o", archive, "--key", key, "--sign", sign);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("encrypted with a key, signed by " + fingerprint + " (Release team)"), r.out());
        r = run("verify", archive);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("\nencrypted\nsigned by " + fingerprint + ";") && !r.out().contains("Release team"), r.out());
        r = run("verify", archive, "--signed-by", open, "--key", key);
        assertTrue(r.out().endsWith("\nencrypted\nsigned by " + fingerprint + " (Release team)\n"), r.out());
        r = run("verify", archive, "--signed-by", other);
        assertEquals(Main.MALFORMED, r.code());
        assertTrue(r.line().contains("it is signed by " + fingerprint), r.err());
        run("keygen", "-o", folder.resolve("wrong"));
        for (Object[] wrong : new Object[][] {{"expand", archive, "-o", out}, {"expand", archive, "-o", out, "--key", folder.resolve("wrong")},
            {"verify", archive, "--key", folder.resolve("wrong")}}) {
            r = run(wrong);
            assertEquals(Main.UNSUPPORTED, r.code(), r.err());
            assertTrue(r.line().contains("is encrypted with a"), r.err());
        }
        r = run("expand", archive, "-o", out, "--key", key, "--signed-by", other);
        assertEquals(Main.MALFORMED, r.code());
        assertFalse(Files.exists(out));
        r = run("expand", archive, "-o", out, "--key", key, "--signed-by", open);
        assertEquals(0, r.code(), r.err());
        assertEquals(-1, Files.mismatch(in.resolve("b.txt"), out.resolve("b.txt")));

        // Neither encrypted nor signed: what demands either refuses it.
        Path plain = folder.resolve("p.tpa");
        assertEquals(0, run("pack", in, "-o", plain).code());
        r = run("verify", plain);
        assertTrue(r.out().endsWith("\nnot encrypted\nnot signed: anybody can have made it\n"), r.out());
        assertEquals(Main.UNSUPPORTED, run("expand", plain, "-o", folder.resolve("o"), "--key", key).code());
        assertEquals(Main.IO, run("expand", folder.resolve("nothing"), "-o", folder.resolve("o"), "--key", key).code());
        assertEquals(Main.MALFORMED, run("expand", plain, "-o", folder.resolve("o"), "--signed-by", open).code());
        assertEquals(Main.MALFORMED, run("verify", plain, "--signed-by", open).code());
        // What is no archive has neither.
        for (Object[] option : new Object[][] {{"--signed-by", open}, {"--key", key}}) {
            r = run("expand", in.resolve("a.txt"), "-o", folder.resolve("o"), option[0], option[1]);
            assertEquals(Main.USAGE, r.code(), r.err());
            assertTrue(r.line().contains("is no archive"), r.err());
        }
        assertEquals(Main.MALFORMED, run("verify", in.resolve("a.txt")).code());
        assertEquals(Main.IO, run("verify", folder.resolve("none")).code());
        assertFalse(Files.exists(folder.resolve("o")));
    }

    private List<String> names() throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }

    private Path pair(String name) {
        assertEquals(0, run("keygen", "--sign", "-o", folder.resolve(name + ".pem")).code());
        return folder.resolve(name + ".pub.pem");
    }

    @Test
    void archivesAreSignedLater() throws IOException {
        Path in = Files.createDirectory(folder.resolve("in"));
        Files.writeString(in.resolve("a.txt"), "one\n");
        Path key = folder.resolve("k");
        run("keygen", "-o", key);
        Path open = pair("s");
        Path other = pair("t");
        Path archive = folder.resolve("m.tpa");
        assertEquals(0, run("pack", in, "-o", archive, "--key", key).code());
        byte[] unsigned = Files.readAllBytes(archive);
        // To another place, which leaves the archive as it is.
        Path copy = folder.resolve("c.tpa");
        Result r = run("sign", archive, "--sign", folder.resolve("s.pem"), "-o", copy);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("whole") && r.out().contains("signed by " + VerifyingKey.read(open).fingerprint()), r.out());
        assertArrayEquals(unsigned, Files.readAllBytes(archive));
        assertEquals(0, run("verify", copy, "--signed-by", open, "--key", key).code());
        // In its own place, behind a link too, without what encrypts it.
        Path link = Files.createSymbolicLink(folder.resolve("link.tpa"), archive);
        Files.setPosixFilePermissions(archive, PosixFilePermissions.fromString("r--r-----"));
        assertEquals(0, run("sign", link, "--sign", folder.resolve("s.pem")).code());
        assertTrue(Files.isSymbolicLink(link));
        assertEquals("r--r-----", PosixFilePermissions.toString(Files.getPosixFilePermissions(archive)));
        assertEquals(-1, Files.mismatch(copy, archive));
        // Signed already: only when asked to.
        r = run("sign", archive, "--sign", folder.resolve("t.pem"));
        assertEquals(Main.UNSUPPORTED, r.code(), r.err());
        assertTrue(r.line().contains("signed already") && r.line().contains("(--force)"), r.err());
        assertEquals(-1, Files.mismatch(copy, archive));
        assertEquals(0, run("sign", archive, "--sign", folder.resolve("t.pem"), "--force").code());
        assertEquals(0, run("verify", archive, "--signed-by", other).code());
        assertEquals(Main.MALFORMED, run("verify", archive, "--signed-by", open).code());
        assertEquals(unsigned.length + 96, Files.size(archive));
        r = run("sign", archive, "--sign", folder.resolve("s.pem"), "-o", copy);
        assertEquals(Main.IO, r.code(), r.err());
        assertTrue(r.line().contains("(--force)"), r.err());
        assertEquals(0, run("sign", archive, "--sign", folder.resolve("s.pem"), "-o", copy, "--force").code());
        assertEquals(0, run("verify", copy, "--signed-by", open).code());
        assertEquals(0, run("expand", copy, "-o", folder.resolve("out"), "--key", key, "--signed-by", open).code());
    }

    /** What is damaged is not signed, and nothing is left of the attempt. */
    @Test
    void whatIsNoWholeArchiveIsNotSigned() throws IOException {
        Path in = Files.writeString(folder.resolve("in"), "one\n".repeat(1000));
        pair("s");
        Path sign = folder.resolve("s.pem");
        Path archive = folder.resolve("m.tpa");
        assertEquals(0, run("pack", in, "-o", archive).code());
        byte[] good = Files.readAllBytes(archive);
        List<String> before = names();
        for (int at = 0; at < good.length; at += 3) {
            byte[] bad = good.clone();
            bad[at] ^= 0x20;
            Files.write(archive, bad);
            int code = run("sign", archive, "--sign", sign).code();
            assertTrue(code == Main.MALFORMED || code == Main.UNSUPPORTED, "byte " + at + ": " + code);
            assertArrayEquals(bad, Files.readAllBytes(archive), "byte " + at);
        }
        Files.write(archive, Arrays.copyOf(good, good.length - 1));
        assertEquals(Main.MALFORMED, run("sign", archive, "--sign", sign, "-o", folder.resolve("c.tpa")).code());
        Files.write(archive, good);
        for (Object[] wrong : new Object[][] {{"sign", archive}, {"sign", "--sign", sign}, {"sign", archive, "--sign", sign, "-o", archive},
            {"sign", archive, "--sign", sign, "-o", folder}}) {
            Result r = run(wrong);
            assertEquals(Main.USAGE, r.code(), r.err());
        }
        assertEquals(Main.MALFORMED, run("sign", in, "--sign", sign).code());
        assertEquals(Main.UNSUPPORTED, run("sign", archive, "--sign", folder.resolve("s.pub.pem")).code()); // which is no secret
        assertEquals(Main.IO, run("sign", folder.resolve("none"), "--sign", sign).code());
        assertEquals(Main.IO, run("sign", archive, "--sign", folder.resolve("none")).code());
        assertArrayEquals(good, Files.readAllBytes(archive));
        assertEquals(before, names());
    }

    /** Wherever an archive stands for a model. */
    @Test
    void modelsHaveToBeSigned() throws IOException {
        Path model = SmallModel.write(folder.resolve("small.onnx"));
        Path open = pair("s");
        Path other = pair("t");
        Path archive = folder.resolve("m.tpa");
        Path out = folder.resolve("out");
        assertEquals(0, run("pack", model, "-o", archive, "--sign", folder.resolve("s.pem")).code());
        Set<String> tested = new HashSet<>();
        for (Object[] command : new Object[][] {{"inspect", archive}, {"plan", archive}, {"compress", archive, "-o", out}, {"profile", archive},
            {"clean", archive, "-o", out}, {"slim", archive, "-o", out}, {"distill", archive, "-o", out, "--random", "2"},
            {"pack", archive, "--recipe", "int8", "-o", out}, {"pack", model, "--base", archive, "-o", out},
            {"calibrate", archive, "-o", out, "--random", "2"}, {"evaluate", archive, archive, "--random", "2"},
            {"merge", archive, archive, "-o", out}, {"search", archive, "-o", out, "--bytes", "50%", "--random", "8"}}) {
            Object[] with = Arrays.copyOf(command, command.length + 2);
            with[command.length] = "--signed-by";
            with[command.length + 1] = other;
            Result r = run(with);
            assertEquals(Main.MALFORMED, r.code(), command[0] + ": " + r.err());
            assertTrue(r.line().contains("it is signed by " + VerifyingKey.read(open).fingerprint()), command[0] + ": " + r.err());
            assertFalse(Files.exists(out), command[0].toString());
            tested.add(command[0].toString());
        }
        for (String command : Main.COMMANDS) {
            String usage = run("help", command).out().lines().findFirst().orElseThrow();
            assertTrue(tested.contains(command) || !usage.contains("MODEL") && !usage.contains("REFERENCE"), usage);
        }
        assertEquals(0, run("inspect", archive, "--signed-by", open).code());
        assertEquals(0, run("compress", archive, "-o", out, "--signed-by", open).code());
        // In the place of the archive somebody may have put what has no signature.
        Result r = run("inspect", model, "--signed-by", open);
        assertEquals(Main.UNSUPPORTED, r.code(), r.err());
        assertTrue(r.line().contains("is no archive"), r.err());
        assertEquals(Main.USAGE, run("pack", model, "-o", folder.resolve("p.tpa"), "--signed-by", open).code());
        assertEquals(Main.IO, run("inspect", folder.resolve("none"), "--signed-by", open).code());
    }

    @Test
    void basesHaveKeysOfTheirOwn() throws IOException {
        Path old = Files.writeString(folder.resolve("old"), "one, two, three and four\n".repeat(1000));
        Path changed = Files.writeString(folder.resolve("changed"), "one, two, three and five\n".repeat(1000));
        Path key = folder.resolve("k");
        Path second = folder.resolve("k2");
        run("keygen", "-o", key);
        run("keygen", "-o", second);
        Path base = folder.resolve("old.tpa");
        Path delta = folder.resolve("m.tpa");
        Path out = folder.resolve("out");
        assertEquals(0, run("pack", old, "-o", base, "--key", key).code());
        assertEquals(Main.UNSUPPORTED, run("pack", changed, "--base", base, "-o", delta).code());
        assertEquals(Main.UNSUPPORTED, run("pack", changed, "--base", base, "--base-key", second, "-o", delta).code());
        Result r = run("pack", changed, "--base", base, "--base-key", key, "-o", delta, "--key", second);
        assertEquals(0, r.code(), r.err());
        assertEquals("", r.err());
        assertEquals(Main.UNSUPPORTED, run("expand", delta, "--key", second, "--base", base, "--base-key", second, "-o", out).code());
        r = run("expand", delta, "--key", second, "--base", base, "--base-key", key, "-o", out);
        assertEquals(0, r.code(), r.err());
        assertEquals(-1, Files.mismatch(changed, out));
        // Written plain, it tells of what is secret.
        r = run("pack", changed, "--base", base, "--base-key", key, "-o", delta, "--force");
        assertEquals(0, r.code(), r.err());
        assertTrue(r.err().contains("note: " + base + " is encrypted, and " + delta + " will not be"), r.err());
        for (Object[] wrong : new Object[][] {{"pack", changed, "-o", folder.resolve("x"), "--base-key", key},
            {"expand", delta, "-o", folder.resolve("x"), "--base-key", key}}) {
            r = run(wrong);
            assertEquals(Main.USAGE, r.code(), r.err());
        }
        r = run("pack", changed, "-o", folder.resolve("x"), "--base", old, "--base-key", key);
        assertEquals(Main.UNSUPPORTED, r.code(), r.err());
        assertTrue(r.line().contains("is no archive"), r.err());
        assertFalse(Files.exists(folder.resolve("x")));
    }

    /** Compressing can take long. */
    @Test
    void keysAreReadBeforeAnyWork() throws IOException {
        Path model = SmallModel.write(folder.resolve("small.onnx"));
        for (String option : new String[] {"--key", "--sign", "--passphrase-file"}) {
            Result r = run("pack", model, "-o", folder.resolve("m.tpa"), "--recipe", "int8", option, folder.resolve("none"));
            assertEquals(Main.IO, r.code(), r.err());
            assertTrue(r.line().contains("no such file"), r.err()); // and nothing of a recipe
        }
    }
}
