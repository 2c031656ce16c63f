package dev.tensorpress.cli;

import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.SigningKey;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** {@code tensorpress keygen}: makes a key that archives are encrypted with, or a pair that they are signed with. */
final class KeygenCommand implements Command {
    private static final String PEM = ".pem";

    @Override
    public Syntax syntax() {
        return new Syntax("keygen", "Makes a key to encrypt archives with, or with --sign a pair of keys to sign them with. Replaces no file.")
                .option("o", "output", "KEY", "the file to write, which must be given, and which only its owner may read; with --sign the public"
                        + " key goes to another one beside it, KEY.pub, or KEY.pub.pem for KEY.pem")
                .flag("sign", "makes keys of signatures")
                .option("comment", "TEXT", "with --sign: who signs with it, which the files begin with");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o KEY");
        }
        String comment = arguments.value("comment");
        if (!arguments.flag("sign")) {
            if (comment != null) {
                throw arguments.wrong("--comment is for keys of signatures; add --sign");
            }
            ArchiveKey.random().write(absent(arguments, out));
            console.out().println(out + ": a key; without it, nobody reads what it encrypted");
            return;
        }
        SigningKey key;
        try {
            key = SigningKey.random(comment == null ? "" : comment);
        } catch (IllegalArgumentException e) {
            throw arguments.wrong("--comment: " + e.getMessage());
        }
        String name = out.getFileName().toString();
        Path open = absent(arguments, out.resolveSibling(name.endsWith(PEM)
                ? name.substring(0, name.length() - PEM.length()) + ".pub" + PEM : name + ".pub"));
        key.write(absent(arguments, out));
        try {
            key.verifying().write(open);
        } catch (IOException | RuntimeException | Error e) {
            Files.delete(out); // of no use alone
            throw e;
        }
        console.out().println(out + ": a key that signs; keep it secret");
        console.out().println(open + ": the key that tells its signatures; give it to others");
        console.out().println("fingerprint " + key.verifying().fingerprint());
    }

    private static Path absent(Arguments arguments, Path file) {
        if (Files.exists(file)) {
            throw arguments.wrong(file + " exists, and keys are never replaced: what they encrypted or signed may be in use");
        }
        return file;
    }
}
