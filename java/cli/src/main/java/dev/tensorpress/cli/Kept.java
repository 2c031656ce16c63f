package dev.tensorpress.cli;

import dev.tensorpress.Plan;
import java.util.ArrayList;
import java.util.HashMap;
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
        return lines(plan, all, false);
    }

    /** One line where reasons differ in numbers alone: the first of them, as an example. */
    static String brief(Plan plan) {
        return lines(plan, false, true);
    }

    private static String lines(Plan plan, boolean all, boolean brief) {
        Map<String, List<Plan.Entry>> reasons = new LinkedHashMap<>();
        Map<String, String> kinds = new HashMap<>();
        for (Plan.Entry e : plan.entries()) {
            if (!e.compressed()) {
                String reason = !brief ? e.note() : kinds.computeIfAbsent(kind(e.note()), kind -> e.note());
                reasons.computeIfAbsent(reason, key -> new ArrayList<>()).add(e);
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
                    .append(": ").append(differ(entries) ? "such as " : "").append(reason.getKey());
            if (all) {
                for (Plan.Entry e : entries) {
                    text.append("\n    ").append(Text.printable(e.weight().name()));
                }
            } else if (entries.size() <= NAMED) {
                for (int i = 0; i < entries.size(); i++) {
                    text.append(i == 0 ? ": " : ", ").append(Text.printable(entries.get(i).weight().name()));
                }
            }
            text.append('\n');
        }
        return text.toString();
    }

    private static boolean differ(List<Plan.Entry> entries) {
        for (Plan.Entry e : entries) {
            if (!e.note().equals(entries.getFirst().note())) {
                return true;
            }
        }
        return false;
    }

    /** A text without its numbers. */
    static String kind(String text) {
        StringBuilder kind = new StringBuilder();
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c < '0' || c > '9') {
                kind.append(c);
            } else if (kind.isEmpty() || kind.charAt(kind.length() - 1) != '#') {
                kind.append('#');
            }
        }
        return kind.toString();
    }
}
