package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.types.DataType;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * What training makes small: a weighted sum of terms. Values are [batch, ...]; of texts [batch, length, ...], where padding does not count.
 *
 * @param terms at least one
 */
public record Objective(List<Term> terms) {
    /** How a value of the student is compared. */
    public enum Kind {
        /** Mean of squared differences, as part of the mean square of the teacher's. */
        MSE,
        /** 1 less the mean cosine of the vectors along the last axis. */
        COSINE,
        /** 1 less the mean cosine of the means over the length: of embeddings of sentences. */
        POOLED_COSINE,
        /** Kullback-Leibler divergence of softmax(student / T) from softmax(teacher / T) along the last axis, times T<sup>2</sup> (Hinton et al. 2015). */
        KL,
        /** Of logits along the last axis, to labels; the teacher has no part in it. */
        CROSS_ENTROPY
    }

    /**
     * @param kind of comparison
     * @param student name of a value
     * @param teacher name of a value; empty for {@link Kind#CROSS_ENTROPY}
     * @param weight above 0
     * @param temperature above 0; only for {@link Kind#KL}
     */
    public record Term(Kind kind, String student, String teacher, double weight, double temperature) {
        public Term {
            if (!(weight > 0 && weight < Double.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("the weight of a term must be above 0, but is " + weight);
            }
            if (!(temperature > 0 && temperature < Double.POSITIVE_INFINITY)) {
                throw new IllegalArgumentException("a temperature must be above 0, but is " + temperature);
            }
        }

        /** Of values of the same name. */
        public static Term of(Kind kind, String value) {
            return new Term(kind, value, kind == Kind.CROSS_ENTROPY ? "" : value, 1, 1);
        }

        public Term weight(double weight) {
            return new Term(kind, student, teacher, weight, temperature);
        }

        public Term temperature(double temperature) {
            return new Term(kind, student, teacher, weight, temperature);
        }
    }

    public Objective {
        terms = List.copyOf(terms);
        if (terms.isEmpty()) {
            throw new IllegalArgumentException("nothing says what is to be learned");
        }
    }

    /**
     * Hidden states: {@link Kind#MSE} of all values inside that products read in both models, by the same names and widths, as a model and what {@code slim} makes of it
     * have them. Empty if there are none.
     *
     * @param weight of all together
     * @throws IOException if constants of a model cannot be read
     */
    public static List<Term> hidden(OnnxModel teacher, OnnxModel student, double weight) throws IOException {
        Map<String, Long> both = read(teacher);
        both.entrySet().retainAll(read(student).entrySet());
        return both.keySet().stream().map(value -> Term.of(Kind.MSE, value).weight(weight / both.size())).toList();
    }

    /** Values that products read, apart from inputs of the model, with how many numbers they sum. */
    private static Map<String, Long> read(OnnxModel model) throws IOException {
        Map<String, Long> widths = new LinkedHashMap<>();
        for (Graph.Feed f : model.graph().orElseThrow().feeds()) {
            if (f.value().producer().isPresent() && f.value().path().isEmpty()) {
                Weight weight = f.products().getFirst().weight();
                widths.put(f.value().name(), weight.tensor().shape().dim(weight.inputAxis()));
            }
        }
        return widths;
    }

    /**
     * Attention: {@link Kind#MSE} of what each Softmax makes, in their order.
     *
     * @param weight of all together
     * @throws UnsupportedRequestException if the models have none, or not as many
     */
    public static List<Term> attention(EditableModel teacher, EditableModel student, double weight) {
        List<String> of = softmax(teacher);
        List<String> value = softmax(student);
        if (of.isEmpty() || of.size() != value.size()) {
            throw new UnsupportedRequestException("nodes of Softmax: " + of.size() + " in the teacher, " + value.size() + " in the student; terms that name values say which belong together");
        }
        List<Term> terms = new ArrayList<>();
        for (int i = 0; i < of.size(); i++) {
            terms.add(new Term(Kind.MSE, value.get(i), of.get(i), weight / of.size(), 1));
        }
        return terms;
    }

    private static List<String> softmax(EditableModel model) {
        return model.graph().nodes().stream().filter(n -> n.is("Softmax")).map(n -> n.outputs().getFirst()).toList();
    }

    /** Whether a teacher has a part in it. */
    public boolean hasTeacher() {
        return !ofTeacher().isEmpty();
    }

    Set<String> ofStudent() {
        Set<String> names = new LinkedHashSet<>();
        terms.forEach(t -> names.add(t.student));
        return names;
    }

    Set<String> ofTeacher() {
        Set<String> names = new LinkedHashSet<>();
        terms.stream().filter(t -> t.kind != Kind.CROSS_ENTROPY).forEach(t -> names.add(t.teacher));
        return names;
    }

    /**
     * The loss of a batch, a scalar.
     *
     * @param mask [batch, length], 0 where elements do not count; null if all do
     * @param labels [batch]; null if there are none
     * @param projections by name of the teacher's value, what the student's is multiplied with: [student's width, teacher's]
     * @throws UnsupportedRequestException if values do not fit each other, or the labels; the message names them
     */
    NDArray of(Map<String, NDArray> student, Map<String, NDArray> teacher, NDArray mask, NDArray labels, Map<String, NDArray> projections) {
        NDArray sum = null;
        for (Term t : terms) {
            NDArray s = student.get(t.student);
            NDArray one;
            if (t.kind == Kind.CROSS_ENTROPY) {
                one = crossEntropy(t, s, labels);
            } else {
                NDArray p = projections.get(t.teacher);
                NDArray of = teacher.get(t.teacher);
                if (p != null) {
                    s = s.matMul(p);
                }
                if (!s.getShape().equals(of.getShape())) {
                    throw new UnsupportedRequestException("'" + t.student + "' of the student is " + s.getShape() + ", but '" + t.teacher + "' of the teacher "
                            + of.getShape());
                }
                one = compare(t, s, of, mask);
            }
            one = Scalars.times(one, t.weight);
            sum = sum == null ? one : sum.add(one);
        }
        return sum;
    }

    private static NDArray compare(Term t, NDArray s, NDArray of, NDArray mask) {
        // Values without the length are not padded.
        NDArray m = mask != null && s.getShape().dimension() > 2 && s.getShape().get(0) == mask.getShape().get(0)
                && s.getShape().get(1) == mask.getShape().get(1) ? mask : null;
        int last = s.getShape().dimension() - 1;
        return switch (t.kind) {
            case MSE -> mean(s.sub(of).square(), m).div(mean(of.square(), m).add(1e-12));
            case COSINE -> mean(cosine(s, of, last), m).neg().add(1);
            case POOLED_COSINE -> {
                if (last != 2) {
                    throw new UnsupportedRequestException("'" + t.student + "' is " + s.getShape() + ", but a mean is taken over the length of [batch, length, width]");
                }
                yield cosine(pooled(s, m), pooled(of, m), 1).mean().neg().add(1);
            }
            case KL -> {
                NDArray wanted = Scalars.over(of, t.temperature).logSoftmax(last);
                NDArray got = Scalars.over(s, t.temperature).logSoftmax(last);
                NDArray each = wanted.exp().mul(wanted.sub(got)).sum(new int[] {last});
                yield Scalars.times(mean(each, m), t.temperature * t.temperature);
            }
            case CROSS_ENTROPY -> throw new IllegalStateException();
        };
    }

    private static NDArray crossEntropy(Term t, NDArray s, NDArray labels) {
        if (labels == null) {
            throw new UnsupportedRequestException("cross entropy of '" + t.student + "' needs labels");
        }
        int last = s.getShape().dimension() - 1;
        if (last != 1 || s.getShape().get(0) != labels.size()) {
            throw new UnsupportedRequestException("'" + t.student + "' is " + s.getShape() + ", but labels are classes of [" + labels.size() + ", classes]");
        }
        long classes = s.getShape().get(1);
        long largest = labels.max().getLong();
        if (largest >= classes || labels.min().getLong() < 0) {
            throw new UnsupportedRequestException("there are labels up to " + largest + ", but '" + t.student + "' has " + classes + " classes");
        }
        return Scalars.over(s.logSoftmax(1).mul(labels.oneHot((int) classes, DataType.FLOAT32)).sum(), -labels.size());
    }

    private static NDArray cosine(NDArray a, NDArray b, int axis) {
        int[] along = {axis};
        return a.mul(b).sum(along).div(a.square().sum(along).mul(b.square().sum(along)).add(1e-24).sqrt());
    }

    private static NDArray pooled(NDArray x, NDArray mask) {
        return mask == null ? x.mean(new int[] {1}) : x.mul(mask.expandDims(2)).sum(new int[] {1}).div(mask.sum(new int[] {1}, true));
    }

    /** Over all elements [batch, length, ...] that count. */
    private static NDArray mean(NDArray x, NDArray mask) {
        if (mask == null) {
            return x.mean();
        }
        long inner = x.size() / mask.size();
        return x.reshape(mask.getShape().get(0), mask.getShape().get(1), inner).mul(mask.expandDims(2)).sum().div(mask.sum().mul(inner));
    }
}
