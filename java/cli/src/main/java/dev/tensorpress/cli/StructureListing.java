package dev.tensorpress.cli;

import dev.tensorpress.Plan;
import dev.tensorpress.structure.Cleanup;
import dev.tensorpress.structure.StructuredPruning;
import java.util.List;

/** What became of a model's graph, as text. */
final class StructureListing {
    private StructureListing() {}

    /** Step by step; empty if nothing became of it. */
    static String of(Plan plan) {
        StringBuilder text = new StringBuilder();
        for (Plan.Restructuring change : plan.structure()) {
            text.append(Text.printable(change.step())).append(":\n").append(!change.groups().isEmpty() ? groups(change.groups())
                    : !change.cleaned().isEmpty() ? cleaned(change.cleaned()) : "note: all groups that it selects are selected by steps before it\n").append('\n');
        }
        return text.toString();
    }

    static String groups(List<StructuredPruning.Pruned> groups) {
        Table table = new Table("GROUP", "KIND", ">SIZE", ">KEPT", ">LOSS", "");
        for (StructuredPruning.Pruned p : groups) {
            table.row(Text.printable(p.name()), p.kind().id(), Text.count(p.size()), Text.count(p.kept()),
                    p.loss().map(loss -> Text.percent(loss)).orElse(""), Text.plain(p.note()));
        }
        return table.toString();
    }

    static String cleaned(List<Cleanup.Done> steps) {
        Table table = new Table("STEP", ">NODES", ">CONSTANTS");
        StringBuilder notes = new StringBuilder();
        for (Cleanup.Done one : steps) {
            table.row(one.step().id(), change(one.nodes()), change(one.constants()));
            one.notes().forEach(note -> notes.append("note: ").append(Text.plain(note)).append('\n'));
        }
        return table.toString() + notes;
    }

    /** Of what is gone. */
    private static String change(int gone) {
        return gone > 0 ? "-" + Text.count(gone) : gone < 0 ? "+" + Text.count(-gone) : "0";
    }
}
