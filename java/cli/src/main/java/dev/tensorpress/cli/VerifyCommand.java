package dev.tensorpress.cli;

import dev.tensorpress.model.archive.Archive;
import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.Verification;
import dev.tensorpress.model.archive.VerifyingKey;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** {@code tensorpress verify}: whether an archive is whole, and who signed it. */
final class VerifyCommand implements Command {
    @Override
    public Syntax syntax() {
        return KeyOptions.declare(KeyOptions.declareSigner(new Syntax("verify",
                "Checks all hashes of an archive, and its signature, which takes no key; with a key that it is the archive's.", "ARCHIVE")));
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path file = arguments.path(0);
        VerifyingKey expected = KeyOptions.signer(arguments);
        ArchiveKey key = KeyOptions.toOpen(arguments);
        long start = System.nanoTime();
        if (key != null) {
            Archive.open(file, key).close(); // which it does with its own key alone
        }
        console.begin("verifying", Files.exists(file) ? Files.size(file) : 0);
        Verification v = Verification.of(file, done -> console.reached(done, ""));
        console.clearProgress();
        if (expected != null) {
            v.requireSigner(file, expected);
        }
        console.out().println(file + ": " + Text.count(v.bytes()) + " bytes in " + Text.plural(v.chunks(), "chunk") + ", whole, in "
                + Text.time(System.nanoTime() - start));
        console.out().println("root " + v.root());
        console.out().println(v.encrypted() ? "encrypted" : "not encrypted");
        console.out().println(v.signer().map(s -> "signed by " + (expected == null ? s : expected)
                + (expected == null ? "; --signed-by tells whether that is whom you mean" : "")).orElse("not signed: anybody can have made it"));
    }
}
