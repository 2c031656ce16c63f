package dev.tensorpress.cli;

import dev.tensorpress.Archives;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.archive.Packer;
import dev.tensorpress.model.archive.Unpacker;
import dev.tensorpress.train.Autoencoder;
import dev.tensorpress.train.Network;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** What {@code tensorpress autoencoder} does. */
final class AutoencoderWork {
    private AutoencoderWork() {}

    static void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o CODEC.tpa");
        }
        Path data = arguments.path(0);
        boolean force = arguments.flag("force");
        boolean time = arguments.value("time") != null;
        Autoencoder.Options options = Autoencoder.Options.DEFAULT
                .step(arguments.value("step") == null ? 0 : EditedGraph.real(arguments, AutoencoderCommand.STEP))
                .latents(arguments.number("latents", 1, 0)).width(arguments.number("width", 1, 256))
                .epochs(arguments.number("epochs", 0, time ? 100_000 : 100)).time(arguments.duration("time").orElse(null))
                .batch(arguments.number("batch", 1, 128)).rate(EditedGraph.real(arguments, AutoencoderCommand.RATE))
                .heldOut(EditedGraph.real(arguments, AutoencoderCommand.HELD_OUT)).seed(arguments.number("seed", 0, 1));
        OutputFile.checkModel(arguments, "-o", out, force, List.of(data));
        long start = System.nanoTime();
        Network.threads(arguments.threads());
        Path folder = DurableFile.temporaryFolder(out.toAbsolutePath().getParent(), out.getFileName().toString());
        try {
            console.progress("training", 0, options.epochs(), "principal components");
            Autoencoder.Result result = EncodeCommand.withData(data, array -> {
                try (Autoencoder autoencoder = new Autoencoder(array, options)) {
                    return autoencoder.run(folder, p -> console.progress("training", p.step(), p.steps(), "epoch "
                            + p.epoch() + ", loss " + Text.digits(p.loss()) + ", " + Text.time((long) (1e9 * p.secondsLeft())) + " left"));
                }
            });
            console.clearProgress();
            Packer.pack(Archives.find(folder, false).contents(), new Packer.Settings(null, null, null, arguments.threads(), Destination.DEFAULT_MEMORY, null), out,
                    force);
            console.out().println(Text.plural(result.latents(), "latent") + ", of step " + Text.digits(result.step()));
            Table table = new Table("", ">BITS A SAMPLE", ">SQUARED ERROR");
            table.row("principal components", Text.digits(result.before().bits()), Text.digits(result.before().squaredError()));
            table.row("codec", Text.digits(result.after().bits()), Text.digits(result.after().squaredError()));
            console.out().print(table);
            console.out().println(out + ": " + Text.count(Files.size(out)) + " bytes, "
                    + (result.kept() == 0 ? "no epoch was better than principal components" : "of epoch " + result.kept()) + ", in "
                    + Text.time(System.nanoTime() - start));
        } finally {
            Unpacker.delete(folder);
        }
    }
}
