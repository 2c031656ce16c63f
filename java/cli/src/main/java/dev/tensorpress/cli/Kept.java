package dev.tensorpress.cli;

import dev.tensorpress.Plan;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The weights of a plan that stay as they are, by reason. */
final class Kept {
    private static final int NAMED = 4;

    private Kept() {}

    /**
     * One line for each reason, with the names of the weights where they are few.
     *
     * @param all name every one
     */
    static String lines(Plan plan, boolean all) {
        Map<String, List<Plan.Entry>> reasons = new LinkedHashMap<>();
        for (Plan.Entry e : plan.entries()) {
            if (!e.compressed()) {
                reasons.computeIfAbsent(e.note(), reason -> new ArrayList<>()).add(e);
            }
        }
        StringBuilder text = new StringBuilder();
        for (Map.Entry<String, List<Plan.Entry>> reason : reasons.entrySet()) {
            List<Plan.Entry> entries = reason.getValue();
            long bytes = 0;
            for (Plan.Entry e : entries) {
                bytes += e.bytesBefore();
            }
            text.append("  ").append(Text.plural(entries.size(), "weight")).append(", ").append(Text.size(bytes))
                    .append(": ").append(reason.getKey());
            if (all) {
                for (Plan.Entry e : entries) {
                    text.append("\n    ").append(e.weight().name());
                }
            } else if (entries.size() <= NAMED) {
                for (int i = 0; i < entries.size(); i++) {
                    text.append(i == 0 ? ": " : ", ").append(entries.get(i).weight().name());
                }
            }
            text.append('\n');
        }
        return text.toString();
    }
}
