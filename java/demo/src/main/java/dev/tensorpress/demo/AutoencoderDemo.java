package dev.tensorpress.demo;

import dev.tensorpress.demo.Findings.Plot;
import dev.tensorpress.demo.Findings.Point;
import dev.tensorpress.demo.Findings.Series;
import dev.tensorpress.demo.Findings.Table;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.runtime.LatentCodec;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import dev.tensorpress.train.Autoencoder;
import dev.tensorpress.train.Network;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Variational autoencoders that make small files of digits, beside principal components and cosines of the same bytes. */
final class AutoencoderDemo implements Demo {
    private static final int[] STEPS = {400, 200, 100};
    private static final int EPOCHS = 25;
    private static final int[] BLOCKS = {4, 7, 14, 28};

    @Override
    public String name() {
        return "autoencoder";
    }

    @Override
    public String summary() {
        return "files of digits by variational autoencoders, beside principal components and cosines (DCT) of the same bytes";
    }

    @Override
    public Findings run(Work work) throws IOException {
        Digits training = Digits.training(work.effort());
        Digits test = Digits.test(work.effort());
        Network.threads(work.threads());
        List<List<String>> rows = new ArrayList<>();
        List<Point> learned = new ArrayList<>();
        List<Point> components = new ArrayList<>();
        List<Point> cosines = new ArrayList<>();
        try (Executor executor = Executor.cpu(work.threads())) {
            work.progress().at("principal components", 0, 1, "");
            TransformCoding pca = TransformCoding.components(floats(training), floats(test), executor);
            List<TransformCoding> dct = new ArrayList<>();
            for (int block : BLOCKS) {
                dct.add(TransformCoding.cosines(block, floats(training), floats(test), executor));
            }
            for (int step : STEPS) {
                Path codec = work.file("codec-" + step);
                Files.createDirectories(codec);
                LatentCodec.Coded found = trained(work, training, test, step, codec);
                learned.add(add(rows, "autoencoder, step " + step, found.bytes(), test, found.squaredError()));
                work.progress().at("principal components", 0, 1, "of " + Training.count(found.bytes()) + " bytes");
                TransformCoding.Coded own = pca.within(found.bytes());
                components.add(add(rows, String.format(Locale.ROOT, "principal components, step %.0f", own.step()), own.bytes(), test, own.squaredError()));
                TransformCoding.Coded best = null;
                int block = 0;
                for (int i = 0; i < BLOCKS.length; i++) {
                    work.progress().at("cosines", i, BLOCKS.length, "of " + Training.count(found.bytes()) + " bytes");
                    TransformCoding.Coded coded = dct.get(i).within(found.bytes());
                    if (best == null || coded.squaredError() < best.squaredError()) {
                        best = coded;
                        block = BLOCKS[i];
                    }
                }
                cosines.add(add(rows, String.format(Locale.ROOT, "cosines, %d x %d, step %.0f", block, block, best.step()), best.bytes(), test, best.squaredError()));
            }
        }
        long bytes = 0;
        for (String name : List.of(LatentCodec.DECODER, LatentCodec.PRIOR)) {
            bytes += Files.size(work.file("codec-" + STEPS[STEPS.length - 1]).resolve(name));
        }
        return new Findings("Learned from " + Training.count(training.size()) + " digits, measured on one file of " + Training.count(test.size())
                + " others, of which one takes 784 bytes as pixels from 0 to 255. Decoders have to be there besides: that of the last autoencoder takes " + Training.count(bytes)
                + " bytes, all components in f32 " + Training.count(4L * Digits.PIXELS * (Digits.PIXELS + 1)) + ", without the tables.",
                List.of(new Table("Error at equal bytes", List.of("Coded by", ">Bytes", ">Bytes of a digit", ">Squared error", ">PSNR"), rows)),
                List.of(new Plot("Quality against bytes", "bytes of a digit", true, "PSNR, dB", List.of(new Series("autoencoder", learned),
                        new Series("principal components", components), new Series("cosines", cosines)))));
    }

    private static LatentCodec.Coded trained(Work work, Digits training, Digits test, int step, Path codec) throws IOException {
        Autoencoder.Options options = Autoencoder.Options.DEFAULT.step(step).epochs(work.effort().epochs(EPOCHS));
        try (Autoencoder autoencoder = new Autoencoder(tensor(training), options)) {
            autoencoder.run(codec, p -> work.progress().at("training, step " + step, p.step(), p.steps(),
                    String.format(Locale.ROOT, "epoch %d, loss %.4f", p.epoch(), p.loss())));
        }
        try (LatentCodec open = LatentCodec.open(codec, work.threads())) {
            return open.encode(tensor(test), work.file("digits-" + step + ".latents"), true);
        }
    }

    private static Tensor tensor(Digits digits) {
        float[] pixels = floats(digits);
        byte[] bytes = new byte[pixels.length];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) pixels[i];
        }
        return new Tensor(DType.U8, Shape.of(digits.size(), Digits.SIDE, Digits.SIDE), MemorySegment.ofArray(bytes));
    }

    /** From 0 to 255. */
    private static float[] floats(Digits digits) {
        float[] pixels = digits.pixels();
        for (int i = 0; i < pixels.length; i++) {
            pixels[i] = Math.round(255 * pixels[i]);
        }
        return pixels;
    }

    private static Point add(List<List<String>> rows, String what, long bytes, Digits test, double squaredError) {
        double each = (double) bytes / test.size();
        double decibels = 10 * Math.log10(255 * 255 / squaredError);
        rows.add(List.of(what, Training.count(bytes), String.format(Locale.ROOT, "%.2f", each), String.format(Locale.ROOT, "%.1f", squaredError),
                String.format(Locale.ROOT, "%.2f dB", decibels)));
        return new Point(each, decibels, "");
    }
}
