package dev.tensorpress.demo;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.List;

/**
 * What a demo found.
 *
 * @param lead what was done, in a sentence or two
 */
public record Findings(String lead, List<Table> tables, List<Plot> plots) {
    /**
     * A table.
     *
     * @param columns headings; those that begin with {@code >} head numbers
     * @param rows cells as they are shown
     */
    public record Table(String title, List<String> columns, List<List<String>> rows) {}

    /**
     * Points in a plane.
     *
     * @param x what is along the horizontal axis; {@code logarithmic} or not
     * @param y what is along the vertical axis
     */
    public record Plot(String title, String x, boolean logarithmic, String y, List<Series> series) {}

    /** Points that are joined by lines, in their order. */
    public record Series(String name, List<Point> points) {}

    /** @param label shown beside it; may be empty */
    public record Point(double x, double y, String label) {}

    /** As one JSON object, with the names of these records. */
    public String toJson() {
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            json.writeStringField("lead", lead);
            json.writeArrayFieldStart("tables");
            for (Table t : tables) {
                json.writeStartObject();
                json.writeStringField("title", t.title);
                json.writeFieldName("columns");
                array(json, t.columns);
                json.writeArrayFieldStart("rows");
                for (List<String> row : t.rows) {
                    array(json, row);
                }
                json.writeEndArray();
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeArrayFieldStart("plots");
            for (Plot p : plots) {
                json.writeStartObject();
                json.writeStringField("title", p.title);
                json.writeStringField("x", p.x);
                json.writeBooleanField("logarithmic", p.logarithmic);
                json.writeStringField("y", p.y);
                json.writeArrayFieldStart("series");
                for (Series s : p.series) {
                    json.writeStartObject();
                    json.writeStringField("name", s.name);
                    json.writeArrayFieldStart("points");
                    for (Point point : s.points) {
                        json.writeStartObject();
                        json.writeNumberField("x", point.x);
                        json.writeNumberField("y", point.y);
                        json.writeStringField("label", point.label);
                        json.writeEndObject();
                    }
                    json.writeEndArray();
                    json.writeEndObject();
                }
                json.writeEndArray();
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter does not fail
        }
        return text.toString();
    }

    private static void array(JsonGenerator json, List<String> texts) throws IOException {
        json.writeStartArray();
        for (String text : texts) {
            json.writeString(text);
        }
        json.writeEndArray();
    }
}
