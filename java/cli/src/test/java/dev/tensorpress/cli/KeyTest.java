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
import java.util.List;
import java.util.Map;
import java.util.function.Function;
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
        Function<String, char[]> nobody = typing();
        assertEquals("a key", KeyOptions.toSeal(arguments("--key", key), set, nobody).toString());
        assertEquals("a passphrase", KeyOptions.toSeal(arguments("--passphrase-file", phrase), Map.of(), nobody).toString());
        assertEquals("a passphrase", KeyOptions.toSeal(arguments("--passphrase"), set, nobody).toString());
        assertEquals("a passphrase", KeyOptions.toSeal(arguments("--passphrase"), Map.of(), typing("x", "x")).toString());
        assertEquals("a passphrase", KeyOptions.toOpen(arguments("--passphrase"), Map.of(), typing("x")).toString());
        // A new archive is encrypted only where it is said, one that is read with what is there.
        assertEquals(null, KeyOptions.toSeal(arguments(), set, nobody));
        assertEquals("a passphrase", KeyOptions.toOpen(arguments(), set, nobody).toString());
        assertEquals("a key", KeyOptions.toOpen(arguments(), Map.of("TENSORPRESS_KEY_FILE", key.toString()), nobody).toString());
        assertEquals(null, KeyOptions.toOpen(arguments(), Map.of(), nobody));
    }

    @Test
    void secretsThatAreNoneAreRefused() throws IOException {
        Path phrase = secret("p", "open sesame\n");
        Arguments asks = arguments("--passphrase");
        Map<String, String> unset = Map.of();
        String message = assertThrows(UsageException.class, () -> KeyOptions.toSeal(asks, unset, typing())).getMessage();
        assertTrue(message.contains("no terminal"), message);
        message = assertThrows(UsageException.class, () -> KeyOptions.toSeal(asks, unset, typing(""))).getMessage();
        assertTrue(message.contains("empty"), message);
        for (Function<String, char[]> typing : List.of(typing("x", "y"), typing("x"))) {
            message = assertThrows(UsageException.class, () -> KeyOptions.toSeal(asks, unset, typing)).getMessage();
            assertTrue(message.contains("differ"), message);
        }
        for (Arguments two : List.of(arguments("--passphrase", "--passphrase-file", phrase), arguments("--key", phrase, "--passphrase"),
                arguments("--key", phrase, "--passphrase-file", phrase))) {
            message = assertThrows(UsageException.class, () -> KeyOptions.toOpen(two, unset, typing())).getMessage();
            assertTrue(message.contains("exclude"), message);
        }
        assertThrows(UsageException.class, () -> KeyOptions.toOpen(arguments(),
                Map.of("TENSORPRESS_KEY_FILE", "k", "TENSORPRESS_PASSPHRASE", "p"), typing()));
    }
}
