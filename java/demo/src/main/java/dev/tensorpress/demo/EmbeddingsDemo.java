package dev.tensorpress.demo;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.demo.Findings.Plot;
import dev.tensorpress.demo.Findings.Point;
import dev.tensorpress.demo.Findings.Series;
import dev.tensorpress.demo.Findings.Table;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.Comparison;
import dev.tensorpress.runtime.Evaluation;
import dev.tensorpress.runtime.OnnxRunner;
import dev.tensorpress.runtime.SampleReader;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.statistics.Gatherer;
import dev.tensorpress.statistics.Request;
import dev.tensorpress.statistics.Statistics;
import dev.tensorpress.train.Distillation;
import dev.tensorpress.train.Network;
import dev.tensorpress.train.Objective;
import dev.tensorpress.train.Objective.Kind;
import dev.tensorpress.train.Objective.Term;
import dev.tensorpress.train.Reconstruction;
import dev.tensorpress.train.Schedule;
import dev.tensorpress.train.Student;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * all-MiniLM-L6-v2 without a quarter of the neurons of its feed-forward layers and with 4 bits for each weight, trained to make the embeddings and hidden states
 * that it made before: on sentences of speeches, through what its weights are once they are written.
 */
final class EmbeddingsDemo implements Demo {
    /** Sentences that statistics are of; the others measure, and are seen by nothing else. */
    private static final int CALIBRATION = 256;
    private static final Duration TIME = Duration.ofMinutes(20);
    private static final double RATE = 1e-4;
    private static final double HELD_OUT = 0.01;
    private static final String RECIPE = """
            name: embeddings
            structure:
              - name: neurons
                select: {kind: neurons}
                slim: {amount: 0.25}
            steps:
              - name: linear
                select: {role: [linear, head]}
                gptq: {bits: 4, block: 32, symmetric: false, clip: {steps: 20, min: 0.7}}
              - name: embedding
                select: {role: embedding}
                quantize: {bits: 4, block: 32, symmetric: false, clip: {steps: 20, min: 0.7}}
            """;

    @Override
    public String name() {
        return "embeddings";
    }

    @Override
    public String summary() {
        return "all-MiniLM-L6-v2 without a quarter of its neurons and in 4 bits, distilled for 20 minutes: embeddings before and after";
    }

    @Override
    public Findings run(Work work) throws IOException {
        Path original = work.sources().file("all-minilm-l6-v2.onnx");
        Path tokenizer = work.sources().file("all-minilm-l6-v2-tokenizer.json");
        List<String> sentences = work.sources().sentences();
        double part = work.effort().digits() / (double) Effort.FULL.digits();
        int known = (int) Math.max(64, CALIBRATION * part);
        List<String> speeches = Speeches.sentences();
        List<String> texts = speeches.subList(0, (int) Math.round(speeches.size() * part));
        Recipe recipe = Recipe.read(Files.writeString(work.file("embeddings.yaml"), RECIPE));
        Compressor.Options options = Compressor.Options.DEFAULT.threads(work.threads()).overwrite(true);

        Path slim = work.file("embeddings-slim.onnx");
        Path coded = work.file("embeddings-4bit.onnx");
        Path statistics = work.file("embeddings-statistics.safetensors");
        try (Compressor compressor = Compressor.open(original, options);
                Statistics gathered = statistics(work, compressor, Samples.texts(sentences.subList(0, known), tokenizer))) {
            gathered.save(statistics, true);
            compressor.use(gathered);
            compressor.compress(compressor.plan(Recipe.named("prune-neurons")), slim);
            compressor.compress(compressor.plan(recipe), coded);
        }
        Path distilled = work.file("embeddings-4bit-distilled.onnx");
        List<Point> losses = new ArrayList<>();
        train(work, original, recipe, options, statistics, Samples.texts(texts, tokenizer), losses, distilled);

        List<String> others = sentences.subList(CALIBRATION, CALIBRATION + (int) Math.max(16, (sentences.size() - CALIBRATION) * part));
        List<List<String>> rows = new ArrayList<>();
        rows.add(List.of("all-MiniLM-L6-v2", Training.count(Files.size(original)), "100.00 %", "1", "1", "1", "100.00 %"));
        rows.add(row(work, "without a quarter of its neurons", original, slim, others, tokenizer));
        rows.add(row(work, "and in 4 bits", original, coded, others, tokenizer));
        rows.add(row(work, "and distilled", original, distilled, others, tokenizer));
        return new Findings("Cosines are of embeddings, of model and original, of " + others.size() + " sentences that nothing else has seen; statistics are of " + known
                + " others, and training is on " + Training.count(texts.size()) + " more.",
                List.of(new Table("Embeddings", List.of("Model", ">Bytes", ">Of the original", ">Cosine", ">5 % below", ">Least", ">Nearest texts the same"), rows)),
                List.of(new Plot("Loss", "step", false, "loss of a batch, mean of 20", List.of(new Series("training", losses)))));
    }

    private static Statistics statistics(Work work, Compressor compressor, Samples samples) throws IOException {
        Graph graph = compressor.model().graph().orElseThrow();
        try (Executor executor = Executor.cpu(work.threads())) {
            return Gatherer.gather(compressor.model().path(), Statistics.hash(compressor.model()), Request.feeds(graph, true), OnnxRunner.of(samples, work.threads()),
                    executor, (done, total) -> work.progress().at("gathering statistics", done, total, ""));
        }
    }

    /** What statistics have chosen is what it begins with. */
    private static void train(Work work, Path original, Recipe recipe, Compressor.Options compression, Path statistics, Samples samples, List<Point> losses, Path out)
            throws IOException {
        Distillation.Options options = Distillation.Options.DEFAULT.schedule(new Schedule(Schedule.Shape.COSINE, RATE, 0.05)).heldOut(HELD_OUT).epochs(1);
        if (work.effort().equals(Effort.FULL)) {
            options = options.epochs(1000).time(TIME);
        }
        Network.threads(work.threads());
        try (Student student = Student.open(original, recipe, compression, statistics, work.file("zeros.onnx")); OnnxModel teacherModel = OnnxModel.open(original, false);
                Arena arena = Arena.ofShared()) {
            EditableModel editable = EditableModel.of(student.model(), arena);
            String output = editable.graph().outputs().keySet().iterator().next();
            List<Term> terms = new ArrayList<>(List.of(Term.of(Kind.POOLED_COSINE, output), Term.of(Kind.MSE, output)));
            terms.addAll(Objective.hidden(teacherModel, student.model(), 1));
            Objective objective = new Objective(terms);
            try (Network teaching = Network.of(EditableModel.of(teacherModel, arena)); Network network = Network.of(editable);
                    Distillation distillation = Distillation.of(teaching, network, SampleReader.open(original, samples), null, Reconstruction.parameters(editable), objective, options)) {
                distillation.by(student);
                double[] sum = {0, 0};
                distillation.run(p -> {
                    work.progress().at("distilling", p.step(), p.steps(), String.format(Locale.ROOT, "loss %.4f, %.0f s left", p.loss(), p.secondsLeft()));
                    sum[0] += p.loss();
                    sum[1]++;
                    if (sum[1] == 20) {
                        losses.add(new Point(p.step() - 10, sum[0] / 20, ""));
                        sum[0] = 0;
                        sum[1] = 0;
                    }
                });
                network.store(arena);
                Path floats = work.file("embeddings-trained.onnx");
                editable.write(Destination.replacing(floats));
                try (Compressor compressor = Compressor.open(floats, compression)) {
                    compressor.compress(compressor.plan(student.recipe()), out, distillation.codes(arena));
                }
            }
        }
    }

    private static List<String> row(Work work, String what, Path original, Path model, List<String> texts, Path tokenizer) throws IOException {
        Comparison c = Evaluation.texts(original, model, texts, tokenizer, Evaluation.Options.DEFAULT.threads(work.threads()).warmup(1).runs(1)
                .progress((file, done, total) -> work.progress().at("running " + file.getFileName(), done, total, "")));
        Comparison.Output o = c.outputs().getFirst();
        return List.of(what, Training.count(c.candidate().bytes()), Training.percent(c.ratio()), cosine(o.cosineMean()), cosine(o.cosineP5()), cosine(o.cosineMin()),
                Training.percent(c.neighbours()));
    }

    private static String cosine(double x) {
        return String.format(Locale.ROOT, "%.4f", x);
    }
}
