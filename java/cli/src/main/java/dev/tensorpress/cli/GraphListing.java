package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.model.Graph;
import dev.tensorpress.model.Weight;
import java.io.IOException;
import java.io.PrintStream;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** What {@code inspect --graph} shows of a graph: what products read, and how many operators there are. */
final class GraphListing {
    private GraphListing() {}

    /** A line for each product; what is the same input as in the line before is left out. */
    static void print(Graph graph, PrintStream out) {
        Table table = new Table("INPUT", "NORMALIZED", "OTHER READERS", "WEIGHT", "PRODUCT");
        int products = 0;
        for (Graph.Feed feed : graph.feeds()) {
            String input = name(feed.value()) + (feed.axis() == -1 ? "" : ", axis " + feed.axis());
            String normalized = feed.normalization().map(n -> kind(n) + n.scale().map(w -> ", " + w.name()).orElse("")).orElse("");
            String others = feed.exclusive() ? "" : "yes";
            for (Graph.Product p : feed.products()) {
                table.row(input, normalized, others, p.weight().name(),
                        type(p.operator()) + " " + p.operator().path() + p.operator().label());
                input = "";
                normalized = "";
                others = "";
                products++;
            }
        }
        if (!table.isEmpty()) {
            out.print(table);
            out.println();
        }
        out.println(Text.plural(products, "product") + " with weights, of " + Text.plural(graph.feeds().size(), "input"));
        out.println();
        Table operators = new Table("OPERATOR", ">COUNT");
        for (Map.Entry<String, Integer> e : counts(graph).entrySet()) {
            operators.row(e.getKey(), Text.count(e.getValue()));
        }
        operators.row("total", Text.count(graph.operators().size()));
        out.print(operators);
    }

    static void json(Graph graph, JsonGenerator json) throws IOException {
        json.writeObjectFieldStart("graph");
        json.writeObjectFieldStart("operators");
        for (Map.Entry<String, Integer> e : counts(graph).entrySet()) {
            json.writeNumberField(e.getKey(), e.getValue());
        }
        json.writeEndObject();
        json.writeArrayFieldStart("inputs");
        for (Graph.Feed feed : graph.feeds()) {
            json.writeStartObject();
            json.writeStringField("value", name(feed.value()));
            json.writeNumberField("axis", feed.axis());
            if (feed.normalization().isPresent()) {
                Graph.Normalization n = feed.normalization().get();
                json.writeObjectFieldStart("normalization");
                json.writeStringField("kind", kind(n));
                json.writeStringField("scale", n.scale().map(Weight::name).orElse(null));
                json.writeStringField("bias", n.bias().map(Weight::name).orElse(null));
                json.writeEndObject();
            } else {
                json.writeNullField("normalization");
            }
            json.writeBooleanField("otherReaders", !feed.exclusive());
            json.writeArrayFieldStart("products");
            for (Graph.Product p : feed.products()) {
                json.writeStartObject();
                json.writeStringField("weight", p.weight().name());
                json.writeStringField("operator", type(p.operator()));
                json.writeStringField("name", p.operator().path() + p.operator().label());
                json.writeStringField("input", name(p.input()));
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        }
        json.writeEndArray();
        json.writeEndObject();
    }

    private static Map<String, Integer> counts(Graph graph) {
        Map<String, Integer> counts = new TreeMap<>();
        for (Graph.Operator o : graph.operators()) {
            counts.merge(type(o), 1, Integer::sum);
        }
        return counts;
    }

    private static String type(Graph.Operator o) {
        return o.domain().isEmpty() ? o.type() : o.domain() + "." + o.type();
    }

    private static String name(Graph.Value v) {
        return v.path() + v.name();
    }

    private static String kind(Graph.Normalization n) {
        return n.norm().name().toLowerCase(Locale.ROOT);
    }
}
