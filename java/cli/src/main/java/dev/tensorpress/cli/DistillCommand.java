package dev.tensorpress.cli;

import dev.tensorpress.model.Option;
import java.io.IOException;
import java.util.List;

/** {@code tensorpress distill}: trains a student to compute what a teacher does. */
final class DistillCommand implements Command {
    static final Option RATE = new Option("rate", new Option.Real(0, false, 100, true), "5e-5", "the largest learning rate");
    static final Option WARMUP = new Option("warmup", new Option.Real(0, true, 1, false), "0.1", "part of training in which the rate rises");
    static final Option MOMENTUM = new Option("momentum", new Option.Real(0, true, 1, false), "0.9", "of sgd");
    static final Option DECAY = new Option("decay", new Option.Real(0, true, 1, true), "0.01", "of matrices, times the rate, with each step");
    static final Option CLIP = new Option("clip", new Option.Real(0, true, 1e9, true), "1", "to which the norm of all gradients is brought; 0 for any");
    static final Option HELD_OUT = new Option("held-out", new Option.Real(0, true, 1, false), "0.1", "part of the samples, the last ones, that is not trained on");
    static final Option TEMPERATURE = new Option("temperature", new Option.Real(0, false, 1000, true), "1", "of kl");
    static final Option HIDDEN = new Option("hidden", new Option.Real(0, false, 1e6, true), "", "weight of what products read in both models");
    static final Option ATTENTION = new Option("attention", new Option.Real(0, false, 1e6, true), "", "weight of what Softmax makes in both models");
    // Words of enumerations, whose module other commands do without.
    static final List<String> LOSSES = List.of("mse", "cosine", "pooled-cosine", "kl", "cross-entropy");
    static final List<String> ROUNDINGS = List.of("nearest", "learned");
    static final List<String> SCHEDULES = List.of("constant", "cosine", "step");

    @Override
    public Syntax syntax() {
        return KeyOptions.declareSigner(SampleOptions.add(new Syntax("distill", "Trains a model in ONNX to compute what another does, as it is or as a recipe will"
                + " store it.", "TEACHER")))
                .option("o", "output", "OUT", "the file to write; must be given")
                .option("student", "FILE", "the model that is trained; the teacher itself if left out")
                .option("recipe", "R", "by which the student is written, a preset or a .yaml file: it is trained with what its weights are then")
                .option("set", "KEY=VALUE", "changes an option of the recipe (may be repeated)")
                .option("statistics", "FILE", "of what products are multiplied with, which calibrate writes, for a recipe that takes neurons or heads out,"
                        + " or chooses codes by them, with which training begins")
                .option("labels", "FILE", "a class for each sample, a number from 0, for --loss cross-entropy")
                .option("loss", "KIND[:VALUE[=OF]][*W]", "what is made small: " + Option.any(LOSSES) + " of a value of the student, and of a"
                        + " value of the teacher if that has another name, times a weight; the first output if none is named (may be repeated; mse if left"
                        + " out, of texts pooled-cosine and mse)")
                .option(HIDDEN.name(), "W", "mse too, times W, of all that products read in both models, by the same names and widths")
                .option(ATTENTION.name(), "W", "mse too, times W, of all that Softmax makes in both, in order")
                .option(TEMPERATURE.name(), "T", TEMPERATURE.meaning() + "; " + TEMPERATURE.fallback() + " if left out")
                .flag("layerwise", "trains one block after the other to make what the teacher's makes, in the memory of one")
                .option("rounding", "R", "with --layerwise: " + Option.any(ROUNDINGS) + ", which way elements go where they become integer codes; nearest if left out")
                .flag("learn-scales", "with --layerwise: trains scales of integer codes")
                .option("steps", "N", "with --layerwise: of each block; 200 if left out")
                .option("train", "GLOB", "trains parameters of this name alone (may be repeated)")
                .option("freeze", "GLOB", "leaves parameters of this name as they are (may be repeated)")
                .flag("hold-zeros", "leaves the zeros of matrices, as pruning has made them")
                .option("epochs", "N", "how often samples are seen, at most; 10 if left out")
                .option("time", "T", "to stop after, such as 90s, 5m or 1h; the rate follows the clock then")
                .option("batch", "N", "samples of a step; 16 if left out")
                .option("optimizer", "O", "adamw or sgd; adamw if left out")
                .option("schedule", "S", "of the rate, " + Option.any(SCHEDULES) + "; cosine if left out")
                .option(RATE.name(), "R", RATE.meaning() + "; " + RATE.fallback() + " if left out, 5e-4 with --layerwise")
                .option(WARMUP.name(), "PART", WARMUP.meaning() + "; " + WARMUP.fallback() + " if left out")
                .option(MOMENTUM.name(), "M", MOMENTUM.meaning() + "; " + MOMENTUM.fallback() + " if left out")
                .option(DECAY.name(), "D", DECAY.meaning() + "; " + DECAY.fallback() + " if left out")
                .option(CLIP.name(), "NORM", CLIP.meaning() + "; " + CLIP.fallback() + " if left out")
                .option(HELD_OUT.name(), "PART", HELD_OUT.meaning() + "; " + HELD_OUT.fallback() + " if left out")
                .option("patience", "N", "epochs in a row that may be no better on what is held out")
                .option("augment", "KEY=N,...", "changes images before each step: shift=0.1, of width and height, scale=0.1, rotate=10, in degrees, each way at most;"
                        + " noise=0.05, its standard deviation")
                .option("seed", "N", "of the order of samples and of what changes images; 1 if left out")
                .option("checkpoint", "FILE", "written after each epoch; training goes on from it if it is there")
                .option("threads", "N", "of kernels and of PyTorch; all processors if left out")
                .option("report", "FILE", "writes losses: as a page to look at if FILE ends with .html, else as JSON")
                .flag("force", "replaces OUT and the report if they exist")
                .flag("allow-links", RecipeOptions.LINKS);
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        DistillWork.run(arguments, console); // with classes that other commands, which list this one, do without
    }
}
