package dev.tensorpress.cli;

import dev.tensorpress.runtime.ArrayFile;
import dev.tensorpress.runtime.LatentCodec;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** {@code tensorpress decode}: makes data of what {@code encode} has written. */
final class DecodeCommand implements Command {
    @Override
    public Syntax syntax() {
        return EncodeCommand.declare(new Syntax("decode", "Makes an array (.npy) of a file of `encode`, by the same codec.", "FILE"));
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        long start = System.nanoTime();
        try (LatentCodec codec = EncodeCommand.open(arguments)) {
            Path file = arguments.path(0);
            Path out = arguments.path("output");
            Tensor data = SampleOptions.run(() -> codec.decode(file));
            ArrayFile.write(data, out, arguments.flag("force"));
            console.out().println(out + ": " + Text.count(Files.size(file)) + " -> " + Text.count(Files.size(out)) + " bytes, " + data.dtype() + " " + data.shape()
                    + ", in " + Text.time(System.nanoTime() - start));
        }
    }
}
