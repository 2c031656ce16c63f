package dev.tensorpress.cli;

import dev.tensorpress.runtime.ArrayFile;
import dev.tensorpress.runtime.InputException;
import dev.tensorpress.runtime.LatentCodec;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** {@code tensorpress encode}: makes a small file of data, by a codec. */
final class EncodeCommand implements Command {
    @Override
    public Syntax syntax() {
        return declare(new Syntax("encode", "Makes a small file of data by a codec of `autoencoder`, with an error.", "DATA"));
    }

    static Syntax declare(Syntax syntax) {
        return KeyOptions.declareSigner(syntax)
                .option("o", "output", "OUT", "the file to write; must be given")
                .option("codec", "CODEC", "the archive that `autoencoder` has written, or the folder that was in it; must be given")
                .option("threads", "N", "of ONNX Runtime; all processors if left out")
                .flag("force", "replaces OUT if it exists");
    }

    /** Work on the array of a file. */
    @FunctionalInterface
    interface Work<T> {
        T on(Tensor data) throws IOException;
    }

    /** What does not fit is the fault of the file, which is named. */
    static <T> T withData(Path file, Work<T> work) throws IOException {
        Tensor data = SampleOptions.run(() -> ArrayFile.read(file));
        return SampleOptions.run(() -> {
            try {
                return work.on(data);
            } catch (InputException e) {
                throw new UsageException(file + ": " + e.getMessage(), e);
            }
        });
    }

    /** Opens the codec, after looking at the output. */
    static LatentCodec open(Arguments arguments) throws IOException {
        Path codec = arguments.path("codec");
        if (arguments.path("output") == null || codec == null) {
            throw arguments.wrong(codec == null ? "missing --codec CODEC" : "missing -o OUT");
        }
        OutputFile.checkModel(arguments, "-o", arguments.path("output"), arguments.flag("force"), List.of(arguments.path(0), codec));
        return LatentCodec.open(arguments.mount(codec, null, KeyOptions.signer(arguments)).model(), arguments.threads());
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        long start = System.nanoTime();
        try (LatentCodec codec = open(arguments)) {
            Path data = arguments.path(0);
            Path out = arguments.path("output");
            LatentCodec.Coded coded = withData(data, array -> codec.encode(array, out, arguments.flag("force")));
            console.out().println(out + ": " + Text.count(Files.size(data)) + " -> " + Text.count(coded.bytes()) + " bytes, "
                    + Text.plural(Math.toIntExact(coded.samples()), "sample") + ", squared error " + Text.digits(coded.squaredError()) + ", in "
                    + Text.time(System.nanoTime() - start));
        }
    }
}
