package dev.tensorpress.runtime;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.List;

/**
 * What an evaluation found.
 *
 * @param runtime version of ONNX Runtime
 * @param threads inside an operator
 * @param items number of inputs
 * @param inputs {@code texts}, {@code images}, {@code files}, {@code arrays} or {@code random}
 * @param shapes of random inputs, else empty
 * @param outputs what was compared
 * @param neighbours mean part of the ten nearest other texts (of the nearer half, where there are fewer than 21 texts)
 *     that are the same for both models; NaN without texts, or with fewer than three
 * @param tasks how well each model does what it is for, if that was asked for
 */
public record Comparison(Side reference, Side candidate, String runtime, int threads, int items, String inputs,
        List<Input> shapes, List<Output> outputs, double neighbours, List<Task> tasks) {

    /**
     * One of the two models.
     *
     * @param bytes of the model's files, external data included
     * @param medianMillis wall time of one run
     * @param p95Millis 95 of 100 runs took no longer
     */
    public record Side(Path path, long bytes, double medianMillis, double p95Millis) {}

    /**
     * An input of the models.
     *
     * @param chosen whether the model leaves dimensions open, and no shape was given
     */
    public record Input(String name, Shape shape, boolean chosen) {}

    /**
     * One output, or the embedding made of it; all but the last NaN where a model returned NaN.
     *
     * @param cosineMean mean over the inputs of the cosine between the two models
     * @param cosineP5 95 of 100 inputs have at least this
     * @param cosineMin the worst
     * @param relativeError norm of the difference by norm of the reference, over all inputs
     * @param maxError largest difference of one element
     * @param sameArgmax part of the positions along all axes but the last at which both models have the largest element in the
     *     same place; the first of equals counts, and NaN is nowhere the same. NaN if the last axis is shorter than 2, and for
     *     embeddings
     */
    public record Output(String name, double cosineMean, double cosineP5, double cosineMin, double relativeError,
            double maxError, double sameArgmax) {}

    /**
     * A measure of which more is better, at most 1.
     *
     * @param name {@code accuracy}, {@code macroF1}, {@code spearman}, {@code recall@10} or {@code recall@10 of the reference's}, with
     *     another number if so asked
     * @param samples labels, pairs or queries
     * @param reference of that model; NaN, as of the candidate, if there is no rank correlation since all values are equal
     */
    public record Task(String name, int samples, double reference, double candidate) {}

    Comparison shapes(List<Input> shapes) {
        return new Comparison(reference, candidate, runtime, threads, items, inputs, shapes, outputs, neighbours, tasks);
    }

    /** Size of the candidate as a part of the reference's. */
    public double ratio() {
        return (double) candidate.bytes / reference.bytes;
    }

    /** How many times as fast the candidate is; below 1, it is slower. */
    public double speedup() {
        return reference.medianMillis / candidate.medianMillis;
    }

    /** False for random inputs: a model that answers real ones wrong may still answer noise as the reference does. */
    public boolean measuresQuality() {
        return !inputs.equals("random");
    }

    /** The comparison as one JSON object; {@code docs/report.md} lists the fields. */
    public String toJson() {
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            side(json, "reference", reference);
            side(json, "candidate", candidate);
            number(json, "ratio", ratio());
            number(json, "speedup", speedup());
            json.writeStringField("runtime", runtime);
            json.writeNumberField("threads", threads);
            json.writeNumberField("items", items);
            json.writeStringField("inputs", inputs);
            json.writeBooleanField("measuresQuality", measuresQuality());
            json.writeArrayFieldStart("shapes");
            for (Input input : shapes) {
                json.writeStartObject();
                json.writeStringField("name", input.name);
                json.writeFieldName("shape");
                json.writeArray(input.shape.dims(), 0, input.shape.rank());
                json.writeBooleanField("chosen", input.chosen);
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeArrayFieldStart("outputs");
            for (Output output : outputs) {
                json.writeStartObject();
                json.writeStringField("name", output.name);
                number(json, "cosineMean", output.cosineMean);
                number(json, "cosineP5", output.cosineP5);
                number(json, "cosineMin", output.cosineMin);
                number(json, "relativeError", output.relativeError);
                number(json, "maxError", output.maxError);
                number(json, "sameArgmax", output.sameArgmax);
                json.writeEndObject();
            }
            json.writeEndArray();
            number(json, "neighbours", neighbours);
            json.writeArrayFieldStart("tasks");
            for (Task task : tasks) {
                json.writeStartObject();
                json.writeStringField("name", task.name);
                json.writeNumberField("samples", task.samples);
                number(json, "reference", task.reference);
                number(json, "candidate", task.candidate);
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter throws none
        }
        return text.toString();
    }

    private static void side(JsonGenerator json, String name, Side side) throws IOException {
        json.writeObjectFieldStart(name);
        json.writeStringField("path", side.path.toString());
        json.writeNumberField("bytes", side.bytes);
        number(json, "medianMillis", side.medianMillis);
        number(json, "p95Millis", side.p95Millis);
        json.writeEndObject();
    }

    private static void number(JsonGenerator json, String name, double value) throws IOException {
        if (Double.isFinite(value)) {
            json.writeNumberField(name, value);
        } else {
            json.writeNullField(name);
        }
    }
}
