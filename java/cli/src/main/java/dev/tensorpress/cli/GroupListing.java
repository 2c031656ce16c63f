package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.structure.Dependencies;
import dev.tensorpress.structure.Group;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.foreign.Arena;
import java.util.List;
import java.util.Locale;

/** What {@code inspect --graph} shows of what has to go together in a graph. */
final class GroupListing {
    private GroupListing() {}

    private static List<Group> groups(OnnxModel model, Arena arena) throws IOException {
        return Dependencies.of(EditableModel.of(model, arena)).groups();
    }

    static void print(OnnxModel model, PrintStream out) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            Table table = new Table("GROUP", ">SIZE", "OF", ">BYTES EACH", ">MULTIPLY-ADDS EACH", ">CONSTANTS", "REMARK");
            for (Group g : groups(model, arena)) {
                long constants = g.members().stream().map(Group.Member::constant).distinct().count();
                table.row(g.kind().id(), Text.count(g.size()), g.name(), Text.count(g.bytes()), Text.count(g.multiplyAdds()), Text.count(constants),
                        g.obstacle().map(o -> "stays: " + o).orElse(g.exact() ? "" : "other statistics"));
            }
            if (!table.isEmpty()) {
                out.println();
                out.print(table);
            }
        }
    }

    static void json(OnnxModel model, JsonGenerator json) throws IOException {
        json.writeArrayFieldStart("groups");
        try (Arena arena = Arena.ofConfined()) {
            for (Group g : groups(model, arena)) {
                json.writeStartObject();
                json.writeStringField("kind", g.kind().id());
                json.writeNumberField("size", g.size());
                json.writeStringField("name", g.name());
                json.writeStringField("obstacle", g.obstacle().orElse(null));
                json.writeBooleanField("exact", g.exact());
                json.writeNumberField("bytes", g.bytes());
                json.writeNumberField("multiplyAdds", g.multiplyAdds());
                json.writeArrayFieldStart("members");
                for (Group.Member m : g.members()) {
                    json.writeStartObject();
                    json.writeStringField("constant", m.constant());
                    json.writeNumberField("axis", m.axis());
                    json.writeStringField("part", m.part().name().toLowerCase(Locale.ROOT));
                    json.writeNumberField("perIndex", m.perIndex());
                    json.writeEndObject();
                }
                json.writeEndArray();
                json.writeArrayFieldStart("sizes");
                for (Group.SizeUse s : g.sizes()) {
                    json.writeStartObject();
                    json.writeStringField("node", s.node().label());
                    json.writeStringField("where", s.where());
                    json.writeEndObject();
                }
                json.writeEndArray();
                json.writeEndObject();
            }
        }
        json.writeEndArray();
    }
}
