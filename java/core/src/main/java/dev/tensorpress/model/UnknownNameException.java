package dev.tensorpress.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;

/** A name that nothing has, such as that of a recipe. The message gives those that there are, the nearest first if one is near. */
public final class UnknownNameException extends UnsupportedRequestException {
    private static final long serialVersionUID = 1;
    /** Nobody misspells longer ones, and the time to compare grows with the square. */
    private static final int LONGEST = 64;
    /** Of this many letters one may be wrong, beside the first. */
    private static final int LETTERS = 4;

    private final String what;
    private final String name;
    private final ArrayList<String> known;

    /**
     * @param what a sentence that has the name, without its full stop
     * @param known names that there are
     */
    public UnknownNameException(String what, String name, Collection<String> known) {
        super(what + hint(name, known));
        this.what = what;
        this.name = name;
        this.known = new ArrayList<>(known);
    }

    /** The name that nothing has. */
    public String name() {
        return name;
    }

    /** The same where these names are known besides. */
    public UnknownNameException among(Collection<String> more) {
        LinkedHashSet<String> all = new LinkedHashSet<>(known);
        all.addAll(more);
        return new UnknownNameException(what, name, all);
    }

    /** How a sentence about an unknown name goes on: which was meant, if one is near, and which there are. */
    public static String hint(String name, Collection<String> known) {
        String nearest = nearest(name, known);
        List<String> sorted = new ArrayList<>(known);
        if (nearest != null) {
            sorted.sort(Comparator.comparingInt(k -> distance(name, k)));
        }
        return (nearest == null ? "; there " : "; did you mean " + nearest + "? There ") + (known.size() == 1 ? "is " : "are ")
                + (known.isEmpty() ? "none" : String.join(", ", sorted));
    }

    /** The known name that was probably meant, or null. */
    public static String nearest(String name, Collection<String> known) {
        String nearest = null;
        int least = 2 + name.length() / LETTERS;
        for (String k : known) {
            int distance = distance(name, k);
            if (distance < least && distance < Math.min(name.length(), k.length())) {
                least = distance;
                nearest = k;
            }
        }
        return nearest;
    }

    /** How many letters have to be changed, added, left out, or exchanged with the next, to make b of a. */
    private static int distance(String a, String b) {
        if (a.length() > LONGEST || b.length() > LONGEST) {
            return LONGEST;
        }
        int[] before = new int[b.length() + 1];
        int[] last = new int[b.length() + 1];
        int[] row = new int[b.length() + 1];
        Arrays.setAll(last, j -> j);
        for (int i = 1; i <= a.length(); i++) {
            row[0] = i;
            for (int j = 1; j <= b.length(); j++) {
                boolean same = a.charAt(i - 1) == b.charAt(j - 1);
                row[j] = Math.min(Math.min(last[j], row[j - 1]) + 1, last[j - 1] + (same ? 0 : 1));
                if (i > 1 && j > 1 && a.charAt(i - 1) == b.charAt(j - 2) && a.charAt(i - 2) == b.charAt(j - 1)) {
                    row[j] = Math.min(row[j], before[j - 2] + 1);
                }
            }
            int[] free = before;
            before = last;
            last = row;
            row = free;
        }
        return last[b.length()];
    }
}
