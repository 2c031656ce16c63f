package dev.tensorpress.cli;

/** Numbers and columns. {@code String.format} would cost more at the first use than a small model takes to compress. */
final class Text {
    private static final String[] UNITS = {"bytes", "KiB", "MiB", "GiB", "TiB"};

    private Text() {}

    static String left(String s, int width) {
        return s + " ".repeat(Math.max(0, width - s.length()));
    }

    static String right(String s, int width) {
        return " ".repeat(Math.max(0, width - s.length())) + s;
    }

    /** Without the characters that move a terminal's cursor, or worse: names come from files. */
    static String printable(String s) {
        StringBuilder text = null;
        for (int i = 0; i < s.length(); i++) {
            if (Character.isISOControl(s.charAt(i))) {
                text = text == null ? new StringBuilder(s) : text;
                text.setCharAt(i, '\ufffd');
            }
        }
        return text == null ? s : text.toString();
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
