package dev.tensorpress.cli;

import dev.tensorpress.model.Option;
import java.io.IOException;

/** {@code tensorpress autoencoder}: trains a codec for samples that are much alike. */
final class AutoencoderCommand implements Command {
    static final Option STEP = new Option("step", new Option.Real(0, false, 1e30, true), "", "of principal components, in units of the data: the larger, the smaller"
            + " the files and the larger the error");
    static final Option RATE = new Option("rate", new Option.Real(0, false, 100, true), "1e-3", "the largest learning rate");
    static final Option HELD_OUT = new Option("held-out", new Option.Real(0, true, 1, false), "0.1", "part of the samples, the last ones, by which the epoch is"
            + " chosen");

    @Override
    public Syntax syntax() {
        return new Syntax("autoencoder", "Trains a codec, by which `encode` makes small files of data that are like these, such as images or embeddings.", "DATA")
                .option("o", "output", "CODEC.tpa", "the archive of the codec to write; must be given")
                .option(STEP.name(), "S", STEP.meaning() + "; the deviation from the means if left out")
                .option("latents", "N", "numbers that a sample becomes; as many as are worth it if left out")
                .option("width", "N", "of hidden layers; 256 if left out")
                .option("epochs", "N", "how often samples are seen, at most; 0 for principal components alone; 100 if left out")
                .option("time", "T", "to stop after, such as 90s, 5m or 1h; the rate follows the clock then")
                .option("batch", "N", "samples of a step; 128 if left out")
                .option(RATE.name(), "R", RATE.meaning() + "; " + RATE.fallback() + " if left out")
                .option(HELD_OUT.name(), "PART", HELD_OUT.meaning() + "; " + HELD_OUT.fallback() + " if left out")
                .option("seed", "N", "of the order of samples, of noise and of layers; 1 if left out")
                .option("threads", "N", "of kernels and of PyTorch; all processors if left out")
                .flag("force", "replaces CODEC.tpa if it exists");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        AutoencoderWork.run(arguments, console); // with classes that other commands, which list this one, do without
    }
}
