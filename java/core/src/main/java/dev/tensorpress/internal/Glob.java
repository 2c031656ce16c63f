package dev.tensorpress.internal;

/** Patterns of names: {@code *} is any text, {@code ?} one character. */
public final class Glob {
    private Glob() {}

    /**
     * True if the pattern fits all of the text. On a mismatch only the last star is retried, which is enough as stars match
     * anything: the time is at most in proportion to the product of both lengths.
     */
    public static boolean matches(String glob, String text) {
        int g = 0;
        int t = 0;
        int star = -1;
        int retry = 0;
        while (t < text.length()) {
            if (g < glob.length() && glob.charAt(g) == '*') {
                star = g++;
                retry = t;
            } else if (g < glob.length() && (glob.charAt(g) == '?' || glob.charAt(g) == text.charAt(t))) {
                g++;
                t++;
            } else if (star >= 0) {
                g = star + 1;
                t = ++retry;
            } else {
                return false;
            }
        }
        while (g < glob.length() && glob.charAt(g) == '*') {
            g++;
        }
        return g == glob.length();
    }
}
