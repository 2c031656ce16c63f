package dev.tensorpress.cli;

import java.util.ArrayList;
import java.util.List;

/** Rows in aligned columns. */
final class Table {
    private final List<String[]> rows = new ArrayList<>();
    private final boolean[] right;

    /** @param headings those that begin with {@code >} head a column of numbers, aligned to the right */
    Table(String... headings) {
        right = new boolean[headings.length];
        String[] row = new String[headings.length];
        for (int i = 0; i < row.length; i++) {
            right[i] = headings[i].startsWith(">");
            row[i] = right[i] ? headings[i].substring(1) : headings[i];
        }
        rows.add(row);
    }

    void row(String... cells) {
        if (cells.length != right.length) {
            throw new IllegalStateException(cells.length + " cells for " + right.length + " columns");
        }
        for (int i = 0; i < cells.length; i++) {
            cells[i] = Text.printable(cells[i]);
        }
        rows.add(cells);
    }

    boolean isEmpty() {
        return rows.size() == 1;
    }

    @Override
    public String toString() {
        int[] widths = new int[right.length];
        for (String[] row : rows) {
            for (int i = 0; i < widths.length; i++) {
                widths[i] = Math.max(widths[i], row[i].length());
            }
        }
        StringBuilder text = new StringBuilder();
        for (String[] row : rows) {
            int start = text.length();
            for (int i = 0; i < widths.length; i++) {
                text.append(i == 0 ? "" : "  ");
                text.append(right[i] ? Text.right(row[i], widths[i]) : Text.left(row[i], widths[i]));
            }
            int end = text.length();
            while (end > start && text.charAt(end - 1) == ' ') {
                end--;
            }
            text.setLength(end);
            text.append('\n');
        }
        return text.toString();
    }
}
