package dev.tensorpress;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.kernel.Svd;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.Weight;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.StructuredPruning;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** Reports as JSON; {@code docs/report.md} lists the fields. */
final class Json {
    private Json() {}

    static String report(Report report, int most) {
        Set<Weight> told = largest(report, most);
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            Recipe recipe = report.plan().recipe();
            json.writeStringField("recipe", recipe.name());
            json.writeStringField("target", report.plan().target().name());
            json.writeObjectFieldStart("options");
            // Sorted: the map of a record has no order, and two reports of one compression should differ in times alone.
            for (Map.Entry<String, String> option : new TreeMap<>(recipe.options()).entrySet()) {
                json.writeStringField(option.getKey(), option.getValue());
            }
            json.writeEndObject();
            output(json, report.output(), report.files());
            json.writeNumberField("bytesBefore", report.bytesBefore());
            json.writeNumberField("bytesAfter", report.bytesAfter());
            number(json, "ratio", report.ratio());
            number(json, "relativeError", report.relativeError());
            number(json, "seconds", report.nanos() * 1e-9);
            phases(json, report.phases());
            number(json, "taken", report.plan().taken());
            sparsity(json, report.sparsity());
            json.writeFieldName("structure");
            structure(json, report.plan());
            json.writeArrayFieldStart("weights");
            for (Report.Entry entry : report.entries()) {
                if (!told.contains(entry.planned().weight())) {
                    continue;
                }
                json.writeStartObject();
                weight(json, entry.planned().weight());
                json.writeStringField("form", entry.planned().describe());
                json.writeArrayFieldStart("steps");
                for (Plan.Step step : entry.planned().steps()) {
                    json.writeString(step.name());
                }
                json.writeEndArray();
                json.writeStringField("note", entry.planned().note());
                json.writeNumberField("bytesBefore", entry.planned().bytesBefore());
                json.writeNumberField("bytesAfter", entry.planned().after());
                number(json, "relativeError", entry.relativeError());
                number(json, "sqnr", entry.sqnr());
                number(json, "maxError", entry.maxError());
                number(json, "seconds", entry.nanos() * 1e-9);
                sparsity(json, entry.sparsity());
                lowRank(json, entry.lowRank());
                chain(json, entry.chain());
                if (entry.fixedPoint() != null) {
                    json.writeStringField("fixedPoint", entry.fixedPoint().describe());
                }
                distribution(json, entry.distribution());
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeArrayFieldStart("kept");
            for (Plan.Entry entry : report.plan().entries()) {
                if (!entry.compressed() && told.contains(entry.weight())) {
                    json.writeStartObject();
                    weight(json, entry.weight());
                    json.writeNumberField("bytes", entry.bytesBefore());
                    json.writeStringField("reason", entry.note());
                    json.writeEndObject();
                }
            }
            json.writeEndArray();
            omitted(json, report.plan(), told);
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter throws none
        }
        return text.toString();
    }

    static String structure(Plan plan) {
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.useDefaultPrettyPrinter();
            structure(json, plan);
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter throws none
        }
        return text.toString();
    }

    private static void structure(JsonGenerator json, Plan plan) throws IOException {
        json.writeStartArray();
        for (Plan.Restructuring change : plan.structure()) {
            json.writeStartObject();
            json.writeStringField("step", change.step());
            json.writeArrayFieldStart("groups");
            for (StructuredPruning.Pruned group : change.groups()) {
                json.writeStartObject();
                json.writeStringField("name", group.name());
                json.writeStringField("kind", group.kind().id());
                json.writeNumberField("size", group.size());
                json.writeNumberField("kept", group.kept());
                if (group.loss().isPresent()) {
                    number(json, "loss", group.loss().get());
                }
                json.writeStringField("note", group.note());
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeArrayFieldStart("cleaned");
            for (Cleanup.Done one : change.cleaned()) {
                json.writeStartObject();
                json.writeStringField("step", one.step().id());
                json.writeNumberField("nodes", one.nodes());
                json.writeNumberField("constants", one.constants());
                json.writeArrayFieldStart("notes");
                for (String note : one.notes()) {
                    json.writeString(note);
                }
                json.writeEndArray();
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        }
        json.writeEndArray();
    }

    static String merged(Merger.Report report) {
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            Merger.Settings settings = report.settings();
            json.writeStringField("method", settings.method().id());
            json.writeArrayFieldStart("weights");
            for (double w : settings.weights()) {
                json.writeNumber(w);
            }
            json.writeEndArray();
            if (settings.method().drops()) {
                json.writeNumberField("density", settings.density());
            }
            if (settings.method().based()) {
                json.writeNumberField("scale", settings.scale());
            }
            if (settings.method().random()) {
                json.writeNumberField("seed", settings.seed());
            }
            output(json, report.output(), report.files());
            json.writeNumberField("bytes", report.bytes());
            json.writeNumberField("merged", report.merged());
            json.writeNumberField("alike", report.alike());
            json.writeNumberField("kept", report.kept());
            json.writeNumberField("excluded", report.excluded());
            json.writeArrayFieldStart("notes");
            for (String note : report.notes()) {
                json.writeString(note);
            }
            json.writeEndArray();
            number(json, "seconds", report.nanos() * 1e-9);
            phases(json, report.phases());
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter throws none
        }
        return text.toString();
    }

    private static void output(JsonGenerator json, Path output, Iterable<Path> files) throws IOException {
        json.writeStringField("output", output.toString());
        json.writeArrayFieldStart("files");
        for (Path file : files) {
            json.writeString(file.toString());
        }
        json.writeEndArray();
    }

    private static void phases(JsonGenerator json, Map<Phases.Phase, Phases.Spent> phases) throws IOException {
        json.writeObjectFieldStart("phases");
        for (Map.Entry<Phases.Phase, Phases.Spent> phase : phases.entrySet()) {
            json.writeObjectFieldStart(phase.getKey().id());
            number(json, "seconds", phase.getValue().nanos() * 1e-9);
            json.writeNumberField("bytes", phase.getValue().bytes());
            number(json, "bytesPerSecond", phase.getValue().bytesPerSecond());
            json.writeEndObject();
        }
        json.writeEndObject();
    }

    private static Set<Weight> largest(Report report, int most) {
        return report.plan().entries().stream().sorted(Comparator.comparing(entry -> -entry.bytesBefore())).limit(most)
                .map(Plan.Entry::weight).collect(Collectors.toSet());
    }

    private static void omitted(JsonGenerator json, Plan plan, Set<Weight> told) throws IOException {
        if (told.size() == plan.entries().size()) {
            return;
        }
        long before = 0;
        long after = 0;
        for (Plan.Entry entry : plan.entries()) {
            if (!told.contains(entry.weight())) {
                before += entry.bytesBefore();
                after += entry.after();
            }
        }
        json.writeObjectFieldStart("omitted");
        json.writeNumberField("weights", plan.entries().size() - told.size());
        json.writeNumberField("bytesBefore", before);
        json.writeNumberField("bytesAfter", after);
        json.writeEndObject();
    }

    private static void distribution(JsonGenerator json, Report.Distribution distribution) throws IOException {
        if (distribution == null) {
            return;
        }
        json.writeObjectFieldStart("distribution");
        json.writeNumberField("elements", distribution.elements());
        json.writeNumberField("least", distribution.least());
        json.writeNumberField("largest", distribution.largest());
        json.writeNumberField("from", distribution.from());
        json.writeNumberField("width", distribution.width());
        json.writeNumberField("below", distribution.below());
        counts(json, "counts", distribution.counts());
        json.writeNumberField("above", distribution.above());
        if (!distribution.codes().isEmpty()) {
            json.writeNumberField("firstCode", distribution.firstCode());
            counts(json, "codes", distribution.codes());
        }
        json.writeEndObject();
    }

    private static void counts(JsonGenerator json, String name, List<Long> counts) throws IOException {
        json.writeArrayFieldStart(name);
        for (long count : counts) {
            json.writeNumber(count);
        }
        json.writeEndArray();
    }

    private static void sparsity(JsonGenerator json, Report.Sparsity sparsity) throws IOException {
        if (sparsity == null) {
            return;
        }
        json.writeObjectFieldStart("sparsity");
        json.writeNumberField("elements", sparsity.elements());
        json.writeNumberField("zerosAsked", sparsity.zerosAsked());
        json.writeNumberField("zerosReached", sparsity.zerosReached());
        json.writeNumberField("bytesDense", sparsity.bytesDense());
        json.writeObjectFieldStart("bytesStored");
        for (Map.Entry<String, Long> layout : sparsity.layouts().entrySet()) {
            if (layout.getValue() == null) {
                json.writeNullField(layout.getKey());
            } else {
                json.writeNumberField(layout.getKey(), layout.getValue());
            }
        }
        json.writeEndObject();
        json.writeNumberField("bytesSmallest", sparsity.bytesSmallest());
        if (!sparsity.smallest().isEmpty()) {
            json.writeStringField("smallest", sparsity.smallest());
            json.writeStringField("why", sparsity.why());
        }
        json.writeNumberField("bytesWritten", sparsity.bytesWritten());
        json.writeEndObject();
    }

    private static void lowRank(JsonGenerator json, Report.LowRank factors) throws IOException {
        if (factors == null) {
            return;
        }
        json.writeObjectFieldStart("lowRank");
        json.writeStringField("of", factors.correction() ? "residual" : "weight");
        json.writeNumberField("rank", factors.rank());
        json.writeNumberField("rankOf", factors.of());
        number(json, "energy", factors.energy());
        json.writeNumberField("bytes", factors.bytes());
        json.writeObjectFieldStart("certificate");
        Svd.Certificate c = factors.certificate();
        number(json, "norm", c.norm());
        number(json, "residual", c.error());
        number(json, "bound", c.bound());
        number(json, "optimum", c.optimum());
        number(json, "nearness", factors.nearness());
        number(json, "leftOrthogonality", c.left());
        number(json, "rightOrthogonality", c.right());
        json.writeEndObject();
        json.writeEndObject();
    }

    private static void chain(JsonGenerator json, Report.Chain chain) throws IOException {
        if (chain == null) {
            return;
        }
        json.writeObjectFieldStart("chain");
        json.writeStringField("by", chain.form().depthwise() ? "cp" : "tucker");
        json.writeNumberField("outputs", chain.form().after());
        json.writeNumberField("inputs", chain.form().before());
        number(json, "norm", chain.result().norm());
        number(json, "residual", chain.result().error());
        json.writeNumberField("iterations", chain.result().iterations());
        json.writeBooleanField("converged", chain.result().converged());
        json.writeEndObject();
    }

    private static void weight(JsonGenerator json, Weight weight) throws IOException {
        json.writeStringField("name", weight.name());
        json.writeStringField("role", weight.role().id());
        json.writeArrayFieldStart("shape");
        for (long dim : weight.tensor().shape().dims()) {
            json.writeNumber(dim);
        }
        json.writeEndArray();
        json.writeStringField("dtype", weight.tensor().dtype().name().toLowerCase(Locale.ROOT));
    }

    /** JSON has no infinity: the SQNR of an exact weight is null. */
    private static void number(JsonGenerator json, String name, double value) throws IOException {
        if (Double.isFinite(value)) {
            json.writeNumberField(name, value);
        } else {
            json.writeNullField(name);
        }
    }
}
