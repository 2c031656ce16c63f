package dev.tensorpress.cli;

import dev.tensorpress.kernel.Workers;
import dev.tensorpress.model.safetensors.SparseFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** {@code tensorpress expand}: makes the ordinary model of a sparse file. */
final class ExpandCommand implements Command {
    @Override
    public Syntax syntax() {
        return new Syntax("expand", "Rebuilds the model that was compressed with --target sparse.", "FILE")
                .option("o", "output", "OUT", "the model to write, which must be given")
                .option("threads", "N", "that kernels use; all processors if left out")
                .flag("force", "replaces OUT if it exists");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o OUT");
        }
        Path from = arguments.path(0);
        long start = System.nanoTime();
        try (SparseFile file = SparseFile.open(from);
                Workers workers = new Workers(arguments.number("threads", 1, 0))) {
            OutputFile.check(arguments, "-o", out, arguments.flag("force"), List.of(from));
            long bytes = file.expand(out, workers);
            console.out().println(out + ": " + Text.count(Files.size(from)) + " -> " + Text.count(bytes) + " bytes, "
                    + Text.plural(file.names().size(), "weight") + " restored, in "
                    + Text.time(System.nanoTime() - start));
        }
    }
}
