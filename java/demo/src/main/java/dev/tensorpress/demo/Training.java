package dev.tensorpress.demo;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import dev.tensorpress.Archives;
import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.demo.Demo.Work;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.archive.Archive;
import dev.tensorpress.model.archive.Packer;
import dev.tensorpress.model.archive.Unpacker;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.runtime.Comparison;
import dev.tensorpress.runtime.Evaluation;
import dev.tensorpress.runtime.SampleReader;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.train.Distillation;
import dev.tensorpress.train.Network;
import dev.tensorpress.train.Objective;
import dev.tensorpress.train.Objective.Kind;
import dev.tensorpress.train.Objective.Term;
import dev.tensorpress.train.Schedule;
import dev.tensorpress.train.Student;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Trains and measures classifiers of digits. */
final class Training {
    /** Labels alone. */
    static final Objective LABELS = new Objective(List.of(Term.of(Kind.CROSS_ENTROPY, Layers.OUTPUT)));
    /** What a teacher takes for likely, and labels. */
    static final Objective TEACHER = new Objective(List.of(Term.of(Kind.KL, Layers.OUTPUT).temperature(4).weight(0.7),
            Term.of(Kind.CROSS_ENTROPY, Layers.OUTPUT).weight(0.3)));

    /** For archives. */
    private static final long MEMORY = 64 << 20;

    private Training() {}

    /**
     * Trains a classifier.
     *
     * @param what it is, for who watches
     * @param teacher null if the objective has none
     * @param from model that is trained
     * @param recipe by which it will be stored, which training sees; zeros that it prunes stay. Null for none
     * @param zeros whether those that are there stay
     * @param out file of the model as it is trained, not yet stored by the recipe
     */
    static Distillation.Result train(Work work, String what, Path teacher, Path from, Recipe recipe, boolean zeros, Samples samples, int[] labels,
            Objective objective, Distillation.Options options, Path out) throws IOException {
        try (Student student = Student.open(from, recipe, Compressor.Options.DEFAULT.threads(work.threads()).overwrite(true), null, work.file("zeros.onnx"));
                OnnxModel teacherModel = teacher == null ? null : OnnxModel.open(teacher, false); Arena arena = Arena.ofShared()) {
            EditableModel editable = EditableModel.of(student.model(), arena);
            try (Network teaching = teacher == null ? null : Network.of(EditableModel.of(teacherModel, arena)); Network network = Network.of(editable);
                    Distillation distillation = Distillation.of(teaching, network, SampleReader.open(student.model().path(), samples), labels,
                            network.parameters(), objective, options)) {
                if (zeros) {
                    distillation.holdZeros();
                }
                distillation.by(student);
                Distillation.Result result = distillation.run(p -> work.progress().at(what, p.step(), p.steps(),
                        String.format(Locale.ROOT, "epoch %d, loss %.4f", p.epoch(), p.loss())));
                network.store(arena);
                editable.write(Destination.replacing(out));
                return result;
            }
        }
    }

    /** Options for classifiers of digits: all samples are trained on, since they are few, and other ones measure. */
    static Distillation.Options options(Work work, int epochs, double rate) {
        return Distillation.Options.DEFAULT.batch(64).epochs(work.effort().epochs(epochs)).heldOut(0)
                .schedule(new Schedule(Schedule.Shape.COSINE, rate, 0.05));
    }

    /** Compares two classifiers on digits that neither has seen: accuracy is the first task. */
    static Comparison measure(Work work, Path reference, Path candidate, Samples samples, Digits digits) throws IOException {
        return Evaluation.samples(reference, candidate, samples, Evaluation.Options.DEFAULT.threads(1).tasks(digits.tasks()).progress(
                (model, done, total) -> work.progress().at("running " + model.getFileName(), done, total, "")));
    }

    /** Compresses a model by a recipe. */
    static void compress(Work work, Path model, Recipe recipe, Path out) throws IOException {
        try (Compressor compressor = Compressor.open(model, Compressor.Options.DEFAULT.threads(work.threads()).overwrite(true))) {
            compressor.compress(compressor.plan(recipe), out);
        }
    }

    /** Makes an archive of a model, and tells its bytes. */
    static long pack(Work work, Path model, Path archive) throws IOException {
        return Packer.pack(Archives.find(model, false).contents(), null, new Packer.Settings(null, null, null, work.threads(), MEMORY, null), archive, true).bytes();
    }

    /** Makes of an archive the model that it was made of. */
    static void expand(Work work, Path archive, Path model) throws IOException {
        try (Archive a = Archive.open(archive)) {
            Unpacker.expand(a, model, new Unpacker.Settings(true, false, work.threads(), MEMORY, null));
        }
    }

    /** Part of digits that a classifier tells, in ONNX Runtime. */
    static double accuracy(Path model, Samples samples, Digits digits) throws IOException {
        return Evaluation.samples(model, model, samples, Evaluation.Options.DEFAULT.threads(1).tasks(digits.tasks())).tasks().getFirst().candidate();
    }

    /** The part of the elements of weights, as the model computes them, that is not 0. */
    static double kept(Path file, List<String> weights) throws IOException {
        try (OnnxModel model = OnnxModel.open(file, false); Arena arena = Arena.ofShared(); Network network = Network.of(EditableModel.of(model, arena));
                NDManager scope = network.scope()) {
            long kept = 0;
            long all = 0;
            for (NDArray weight : network.run(scope, Map.of(), weights).values()) {
                kept += weight.countNonzero().getLong();
                all += weight.size();
            }
            return (double) kept / all;
        }
    }

    /** In percent, with two digits. */
    static String percent(double part) {
        return String.format(Locale.ROOT, "%.2f %%", 100 * part);
    }

    static String count(long n) {
        return String.format(Locale.ROOT, "%,d", n);
    }
}
