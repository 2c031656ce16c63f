package dev.tensorpress.statistics;

import dev.tensorpress.model.Graph.Window;
import dev.tensorpress.model.Graph.Window.Pair;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A window as files have it. */
final class WindowText {
    private static final Pattern TEXT = Pattern.compile("kernel (\\d{1,9})x(\\d{1,9}) strides (\\d{1,9})x(\\d{1,9}) dilations (\\d{1,9})x(\\d{1,9})"
            + " before (\\d{1,9})x(\\d{1,9}) after (\\d{1,9})x(\\d{1,9}) groups (\\d{1,9})");

    private WindowText() {}

    static String write(Window w) {
        return "kernel " + new Pair(w.height(), w.width()) + " strides " + w.strides() + " dilations " + w.dilations() + " before "
                + w.before() + " after " + w.after() + " groups " + w.groups();
    }

    /** Empty if it is none. */
    static Optional<Window> read(String text) {
        Matcher m = TEXT.matcher(text);
        if (!m.matches()) {
            return Optional.empty();
        }
        try {
            return Optional.of(new Window(pair(m, 1).height(), pair(m, 1).width(), pair(m, 3), pair(m, 5), pair(m, 7), pair(m, 9),
                    Integer.parseInt(m.group(11))));
        } catch (IllegalArgumentException e) {
            return Optional.empty();
        }
    }

    private static Pair pair(Matcher m, int at) {
        return new Pair(Integer.parseInt(m.group(at)), Integer.parseInt(m.group(at + 1)));
    }
}
