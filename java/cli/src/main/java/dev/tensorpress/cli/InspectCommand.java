package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.Compressor;
import dev.tensorpress.Selector;
import dev.tensorpress.model.Format;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.onnx.OnnxModel;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** {@code tensorpress inspect}: what is in a model. */
final class InspectCommand implements Command {
    @Override
    public Syntax syntax() {
        return RecipeOptions.declareModel(
                new Syntax("inspect", "Shows the weights of a model: role, shape, type, bytes.", "MODEL"))
                .flag("all", "small weights too, one by one")
                .flag("graph", "what products read, which share an input, what normalizes it, the operators, and what goes together")
                .flag("json", "as JSON, all weights");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Compressor.Options options = RecipeOptions.model(arguments);
        try (Compressor compressor = Compressor.open(arguments.model(0), options)) {
            Format format = compressor.format();
            Model model = compressor.model();
            Graph graph = arguments.flag("graph") ? graph(format, model) : null;
            if (arguments.flag("json")) {
                json(format, model, graph, console.out());
            } else {
                head(format, model, console.out());
                if (graph != null) {
                    GraphListing.print(graph, console.out());
                    if (model instanceof OnnxModel onnx) {
                        GroupListing.print(onnx, console.out());
                    }
                } else {
                    print(model, arguments.flag("all"), console.out());
                }
            }
        }
    }

    private static Graph graph(Format format, Model model) throws IOException {
        return model.graph().orElseThrow(() -> new UnsupportedRequestException(model.path() + " has no graph: models in "
                + format.displayName() + " are weights alone"));
    }

    private static void head(Format format, Model model, PrintStream out) {
        out.println(model.path() + ": " + format.id() + ", " + Text.count(model.bytes()) + " bytes in "
                + Text.plural(model.files().size(), "file"));
        for (Map.Entry<String, String> property : model.properties().entrySet()) {
            out.println("  " + property.getKey() + ": " + property.getValue());
        }
        out.println();
    }

    private static void print(Model model, boolean all, PrintStream out) {
        // Without a graph nothing is known to use a weight.
        boolean inFiles = !model.weights().isEmpty() && model.file(model.weights().getFirst()).isPresent();
        Table table = new Table("WEIGHT", "ROLE", "SHAPE", "TYPE", ">BYTES", inFiles ? "FILE" : "USED BY");
        long[] count = new long[Role.values().length];
        long[] bytes = new long[count.length];
        long small = 0;
        long smallBytes = 0;
        long total = 0;
        for (Weight weight : model.weights()) {
            long size = weight.tensor().bytes();
            count[weight.role().ordinal()]++;
            bytes[weight.role().ordinal()] += size;
            total += size;
            if (!all && weight.obstacle().isEmpty()
                    && weight.tensor().shape().elements() < Selector.DEFAULT_MIN_SIZE) {
                small++;
                smallBytes += size;
                continue;
            }
            table.row(weight.name(), weight.role().id(), weight.tensor().shape().toString(), Names.dtype(weight),
                    Text.count(size), model.file(weight).map(f -> f.getFileName().toString()).orElseGet(() -> uses(weight.uses()))
                    + weight.obstacle().map(o -> " (" + o + ")").orElse(""));
        }
        if (!table.isEmpty()) {
            out.print(table);
        }
        if (small > 0) {
            out.println("and " + Text.plural(small, "weight") + " with fewer than "
                    + Text.count(Selector.DEFAULT_MIN_SIZE) + " elements, " + Text.count(smallBytes)
                    + " bytes (--all lists them)");
        }
        out.println();
        Table roles = new Table("ROLE", ">WEIGHTS", ">BYTES", ">PART");
        for (Role role : Role.values()) {
            int r = role.ordinal();
            if (count[r] > 0) {
                roles.row(role.id(), Text.count(count[r]), Text.count(bytes[r]),
                        total == 0 ? "" : Text.percent((double) bytes[r] / total));
            }
        }
        roles.row("total", Text.count(model.weights().size()), Text.count(total), "");
        out.print(roles);
    }

    private static String uses(List<String> uses) {
        return switch (uses.size()) {
            case 0 -> "nothing";
            case 1 -> uses.getFirst();
            default -> uses.getFirst() + " and " + (uses.size() - 1) + " more";
        };
    }

    /** @param graph null to leave it out */
    private static void json(Format format, Model model, Graph graph, PrintStream out) throws IOException {
        try (JsonGenerator json = Names.json(out)) {
            json.writeStartObject();
            json.writeStringField("path", model.path().toString());
            json.writeStringField("format", format.id());
            json.writeArrayFieldStart("files");
            for (Path file : model.files()) {
                json.writeString(file.toString());
            }
            json.writeEndArray();
            json.writeArrayFieldStart("companions");
            for (Path file : model.auxiliaryFiles()) {
                json.writeString(file.toString());
            }
            json.writeEndArray();
            json.writeNumberField("bytes", model.bytes());
            json.writeObjectFieldStart("properties");
            for (Map.Entry<String, String> property : model.properties().entrySet()) {
                json.writeStringField(property.getKey(), property.getValue());
            }
            json.writeEndObject();
            json.writeArrayFieldStart("weights");
            for (Weight weight : model.weights()) {
                json.writeStartObject();
                Names.weight(json, weight);
                json.writeNumberField("bytes", weight.tensor().bytes());
                json.writeNumberField("inputAxis", weight.inputAxis());
                json.writeNumberField("outputAxis", weight.outputAxis());
                if (model.file(weight).isPresent()) {
                    json.writeStringField("file", model.file(weight).get().toString());
                }
                json.writeArrayFieldStart("uses");
                for (String use : weight.uses()) {
                    json.writeString(use);
                }
                json.writeEndArray();
                json.writeStringField("obstacle", weight.obstacle().orElse(null));
                json.writeEndObject();
            }
            json.writeEndArray();
            if (graph != null) {
                GraphListing.json(graph, json);
                if (model instanceof OnnxModel onnx) {
                    GroupListing.json(onnx, json);
                }
            }
            json.writeEndObject();
        }
        out.println();
    }
}
