package dev.tensorpress.cli;

import java.util.List;

/** Numbers and columns. {@code String.format} would cost more at the first use than a small model takes to compress. */
final class Text {
    private static final int LONGEST_NAME = 200;
    private static final int LONGEST_LINE = 4000;
    private static final int NAMED = 4;
    private static final String[] UNITS = {"bytes", "KiB", "MiB", "GiB", "TiB"};

    private Text() {}

    static String left(String s, int width) {
        return s + " ".repeat(Math.max(0, width - s.length()));
    }

    static String right(String s, int width) {
        return " ".repeat(Math.max(0, width - s.length())) + s;
    }

    /** A name, or another piece of a line, as it can be shown: names come from files. */
    static String printable(String s) {
        String cut = cut(s, LONGEST_NAME);
        StringBuilder text = null;
        for (int i = 0; i < cut.length(); i++) {
            if (isControl(cut.charAt(i))) {
                text = text == null ? new StringBuilder(cut) : text;
                text.setCharAt(i, '\ufffd');
            }
        }
        return text == null ? cut : text.toString();
    }

    /** Lines as they can be shown. */
    static String plain(String s) {
        boolean harmless = s.length() <= LONGEST_LINE;
        for (int i = 0; i < s.length() && harmless; i++) {
            harmless = s.charAt(i) == '\n' || s.charAt(i) == '\t' || !isControl(s.charAt(i));
        }
        if (harmless) {
            return s;
        }
        StringBuilder text = new StringBuilder();
        for (int from = 0; from < s.length();) {
            int end = s.indexOf('\n', from);
            end = end < 0 ? s.length() : end;
            String line = cut(s.substring(from, end), LONGEST_LINE);
            for (int i = 0; i < line.length(); i++) {
                char c = line.charAt(i);
                text.append(c != '\t' && isControl(c) ? '\ufffd' : c);
            }
            if (end < s.length()) {
                text.append('\n');
            }
            from = end + 1;
        }
        return text.toString();
    }

    /** Whether a character moves a terminal's cursor, makes it do something, or lets text seem other than it is. */
    static boolean isControl(char c) {
        return Character.isISOControl(c) || c >= '\u2028' && c <= '\u202e' || c >= '\u2066' && c <= '\u2069';
    }

    /** Start and end of a text that is too long: messages say at their end what is wrong. */
    private static String cut(String s, int longest) {
        if (s.length() <= longest) {
            return s;
        }
        int head = longest / 2;
        int tail = longest / 4;
        return s.substring(0, head) + " ... " + count(s.length() - head - tail) + " characters ... "
                + s.substring(s.length() - tail);
    }

    /** With separators: 90,984,153. */
    static String count(long n) {
        String digits = Long.toString(n);
        StringBuilder text = new StringBuilder();
        int first = n < 0 ? 1 : 0;
        for (int i = 0; i < digits.length(); i++) {
            if (i > first && (digits.length() - i) % 3 == 0) {
                text.append(',');
            }
            text.append(digits.charAt(i));
        }
        return text.toString();
    }

    /** In the largest fitting unit: 86.8 MiB. */
    static String size(long bytes) {
        double value = bytes;
        int unit = 0;
        while (value >= 1024 && unit < UNITS.length - 1) {
            value /= 1024;
            unit++;
        }
        return (unit == 0 ? Long.toString(bytes) : fixed(value, 1)) + " " + UNITS[unit];
    }

    /** 4, "weight": 4 weights. */
    static String plural(long n, String noun) {
        return count(n) + " " + noun + (n == 1 ? "" : "s");
    }

    /** The first names of many, as they can be shown: a, b, c and 5 more. */
    static String names(List<String> names) {
        String first = plain(String.join(", ", names.subList(0, Math.min(NAMED, names.size()))));
        return names.size() > NAMED ? first + " and " + count(names.size() - NAMED) + " more" : first;
    }

    /** A part as percent: 25.8 %. */
    static String percent(double part) {
        return fixed(part * 100, 1) + " %";
    }

    /** With this many decimals, rounded half up. */
    static String fixed(double value, int decimals) {
        if (!(Math.abs(value) < 1e12)) {
            return Double.toString(value);
        }
        long power = 1;
        for (int i = 0; i < decimals; i++) {
            power *= 10;
        }
        long scaled = Math.round(Math.abs(value) * power);
        String text = (value < 0 && scaled != 0 ? "-" : "") + scaled / power;
        if (decimals == 0) {
            return text;
        }
        String fraction = Long.toString(scaled % power);
        return text + "." + "0".repeat(decimals - fraction.length()) + fraction;
    }

    /** Three digits that count: 0.00652, 12.3, 4.10e-7. */
    static String digits(double value) {
        double size = Math.abs(value);
        if (size == 0 || !(size < Double.POSITIVE_INFINITY)) {
            return size == 0 ? "0" : Double.toString(value);
        }
        int exponent = (int) Math.floor(Math.log10(size));
        if (exponent < -4 || exponent > 5) {
            double mantissa = value * Math.pow(10, -exponent);
            if (Math.abs(mantissa) >= 9.995) {
                mantissa /= 10;
                exponent++;
            }
            return fixed(mantissa, 2) + "e" + exponent;
        }
        return fixed(value, Math.max(0, 2 - exponent));
    }

    /** 0.31 s or 4.2 ms. */
    static String time(long nanos) {
        return nanos < 100_000_000 ? fixed(nanos * 1e-6, 1) + " ms" : fixed(nanos * 1e-9, 2) + " s";
    }
}
