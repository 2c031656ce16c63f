package dev.tensorpress.cli;

import dev.tensorpress.model.archive.SigningKey;
import dev.tensorpress.model.archive.Verification;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** {@code tensorpress sign}: signs an archive that there is, for which its secret is not needed. */
final class SignCommand implements Command {
    @Override
    public Syntax syntax() {
        return new Syntax("sign", "Signs an archive, encrypted or not, after all of its hashes are checked.",
                "ARCHIVE")
                .option("sign", "KEY.pem", "the key of keygen --sign, which must be given")
                .option("o", "output", "FILE.tpa", "writes the signed archive there, and leaves ARCHIVE as it is")
                .flag("force", "replaces the signature that ARCHIVE has, or FILE.tpa if it exists");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path archive = arguments.path(0);
        if (arguments.value("sign") == null) {
            throw arguments.wrong("missing --sign KEY.pem");
        }
        Path out = arguments.path("output");
        boolean force = arguments.flag("force");
        if (out != null) {
            OutputFile.checkModel(arguments, "-o", out, force, List.of(archive));
        }
        SigningKey key = SigningKey.read(arguments.path("sign"));
        long start = System.nanoTime();
        console.begin("signing", Files.exists(archive) ? Files.size(archive) : 0);
        Verification v = key.sign(archive, out == null ? archive : out, force, done -> console.reached(done, ""));
        console.clearProgress();
        console.out().println((out == null ? archive : out) + ": " + Text.count(v.bytes()) + " bytes in " + Text.plural(v.chunks(), "chunk") + ", whole, in "
                + Text.time(System.nanoTime() - start) + ", signed by " + key.verifying());
    }
}
