package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.io.PrintStream;
import java.util.Map;
import java.util.TreeMap;

/** {@code tensorpress plan}: what a recipe would do. */
final class PlanCommand implements Command {
    private static final int ZEROS = 5;

    @Override
    public Syntax syntax() {
        return RecipeOptions.declare(
                new Syntax("plan", "Shows what a recipe would make of a model, and writes nothing.", "MODEL"))
                .option("device", "D", RecipeOptions.DEVICE)
                .option("memory", "SIZE", RecipeOptions.MEMORY)
                .option("shard-size", "SIZE", RecipeOptions.SHARD_SIZE)
                .flag("all", "names every weight that stays as it is")
                .flag("json", "as JSON, all weights");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Compressor.Options options = RecipeOptions.model(arguments).device(arguments.device()).memory(RecipeOptions.memory(arguments));
        try (Compressor compressor = Compressor.open(arguments.model(0), options);
                Statistics _ = RecipeOptions.statistics(arguments, compressor, console)) {
            Plan plan = compressor.plan(RecipeOptions.recipe(arguments, compressor));
            Map<String, Long> files = plan.files();
            if (arguments.flag("json")) {
                json(plan, files, console.out());
            } else {
                print(plan, files, arguments.flag("all"), console.out());
            }
        }
    }

    private static void print(Plan plan, Map<String, Long> files, boolean all, PrintStream out) {
        for (String remark : plan.remarks()) {
            out.println("note: " + Text.plain(remark));
        }
        out.println("recipe " + plan.recipe().name() + " for " + plan.target().name()
                + (plan.requires().isEmpty() ? "" : "; needs " + plan.requires() + " or newer"));
        out.println();
        out.print(StructureListing.of(plan));
        boolean pruned = false;
        for (Plan.Entry e : plan.entries()) {
            pruned |= e.form().sparse() != null;
        }
        Table table = pruned
                ? new Table("WEIGHT", "ROLE", "SHAPE", "FROM", "TO", ">ZEROS", ">BYTES", ">BECOME", "NOTE")
                : new Table("WEIGHT", "ROLE", "SHAPE", "FROM", "TO", ">BYTES", ">BECOME", "NOTE");
        long before = 0;
        long after = 0;
        long zeros = 0;
        for (Plan.Entry e : plan.entries()) {
            if (e.compressed()) {
                before += e.bytesBefore();
                after += e.after();
                zeros += zeros(e);
                row(table, pruned, e.weight().name(), e.weight().role().id(),
                        e.weight().tensor().shape().toString(), Names.dtype(e.weight()), e.describe(),
                        e.form().sparse() != null ? Text.count(zeros(e)) : "", Text.count(e.bytesBefore()),
                        Text.count(e.after()), e.note());
            }
        }
        if (!table.isEmpty()) {
            row(table, pruned, "total", "", "", "", "", Text.count(zeros), Text.count(before), Text.count(after), "");
            out.print(table);
            out.println();
        }
        boolean structureAlone = plan.recipe().steps().isEmpty() && !plan.structure().isEmpty();
        if (plan.compressed() < plan.entries().size() && !structureAlone) {
            out.println("stay as they are:");
            out.print(Kept.lines(plan, all));
            out.println();
        }
        if (!files.isEmpty()) {
            Table written = new Table("FILE", ">BYTES");
            for (Map.Entry<String, Long> file : files.entrySet()) {
                written.row(file.getKey(), Text.count(file.getValue()));
            }
            out.print(written);
            out.println();
        }
        out.println((structureAlone ? "" : plan.compressed() + " of " + Text.plural(plan.entries().size(), "weight") + "; ")
                + (files.size() > 1 ? "files " : "file ") + Text.count(plan.bytesBefore()) + " -> "
                + Text.count(plan.after()) + " bytes, "
                + Text.percent((double) plan.after() / plan.bytesBefore()));
    }

    /** Cell {@value #ZEROS} only if something is pruned. */
    private static void row(Table table, boolean pruned, String... cells) {
        if (pruned) {
            table.row(cells);
            return;
        }
        String[] others = new String[cells.length - 1];
        System.arraycopy(cells, 0, others, 0, ZEROS);
        System.arraycopy(cells, ZEROS + 1, others, ZEROS, others.length - ZEROS);
        table.row(others);
    }

    private static long zeros(Plan.Entry e) {
        Form.Sparse s = e.form().sparse();
        return s == null ? 0 : e.weight().tensor().shape().elements() - s.nnz();
    }

    /** Of factors or of a correction; 0 where there are none. */
    private static long rank(Form form) {
        return form.factors() == null ? 0 : form.factors().rank();
    }

    private static void json(Plan plan, Map<String, Long> files, PrintStream out) throws IOException {
        try (JsonGenerator json = Names.json(out)) {
            json.writeStartObject();
            json.writeStringField("recipe", plan.recipe().name());
            json.writeStringField("target", plan.target().name());
            json.writeObjectFieldStart("options");
            for (Map.Entry<String, String> option : new TreeMap<>(plan.recipe().options()).entrySet()) {
                json.writeStringField(option.getKey(), option.getValue());
            }
            json.writeEndObject();
            json.writeNumberField("bytesBefore", plan.bytesBefore());
            json.writeNumberField("bytesAfter", plan.after());
            json.writeNumberField("ratio", (double) plan.after() / plan.bytesBefore());
            if (!files.isEmpty()) {
                json.writeObjectFieldStart("files");
                for (Map.Entry<String, Long> file : files.entrySet()) {
                    json.writeNumberField(file.getKey(), file.getValue());
                }
                json.writeEndObject();
            }
            json.writeStringField("requires", plan.requires());
            json.writeArrayFieldStart("remarks");
            for (String remark : plan.remarks()) {
                json.writeString(remark);
            }
            json.writeEndArray();
            json.writeFieldName("structure");
            json.writeRawValue(plan.structureJson());
            json.writeArrayFieldStart("weights");
            for (Plan.Entry e : plan.entries()) {
                json.writeStartObject();
                Names.weight(json, e.weight());
                json.writeBooleanField("compressed", e.compressed());
                json.writeStringField("form", e.describe());
                json.writeArrayFieldStart("steps");
                for (Plan.Step step : e.steps()) {
                    json.writeString(step.name());
                }
                json.writeEndArray();
                json.writeStringField("note", e.note());
                if (e.form().sparse() != null) {
                    json.writeNumberField("zeros", zeros(e));
                }
                if (e.loss().isPresent()) {
                    json.writeNumberField("energyLost", e.loss().get().whole());
                    if (!Double.isNaN(e.loss().get().output())) {
                        json.writeNumberField("energyLostByOutput", e.loss().get().output());
                    }
                }
                if (rank(e.form()) > 0) {
                    json.writeNumberField("rank", rank(e.form()));
                }
                json.writeNumberField("bytesBefore", e.bytesBefore());
                json.writeNumberField("bytesAfter", e.after());
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        }
        out.println();
    }
}
