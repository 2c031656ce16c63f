package dev.tensorpress.model.compressedtensors;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Effort;
import dev.tensorpress.Effort.RandomTest;
import java.lang.management.ManagementFactory;
import java.util.List;
import java.util.Random;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/** {@code java.util.regex} is the oracle, where both take a pattern. */
final class NamePatternTest {
    private static final int MOST = 1 << 12;

    private static boolean matches(String pattern, String name) {
        return new NamePattern(pattern, MOST).matches(name);
    }

    @Test
    void patternsOfConfigurations() {
        String name = "model.layers.17.mlp.experts.3.gate_proj";
        for (String yes : List.of(".*gate_proj$", ".*mlp\\.experts\\.\\d+\\.(gate|up|gate_up|down)_proj.*", "model", "", "^model\\.",
                "^(?!.*lm_head).*", "(?!lm_head)(?!.*norm)(?=.*experts)", "(?i)MODEL\\.Layers", ".*layers\\.(?:1[0-9]|2[0-7])\\.",
                "a|model", ".*\\b17\\b", "(?P<a>.*)3", "[^a-l]o[\\w.]+$", "\\Amodel.*proj\\Z", ".*?17", "x*", ".*\\.1{1}7",
                "^^model", ".*{proj}|m", ".{39}$", ".{,39}$", "\\x6dodel", "m\\u006fdel", "[]m]", "[m-]", "[\\]m]",
                "(?!(?!model).*$)model", "(?:(?:){2000000000}){2000000000}m", "(?:){0,2000000000}m")) {
            assertTrue(matches(yes, name), yes);
        }
        for (String no : List.of("layers", ".*lm_head", "^(?!.*experts).*", "(?=.*lm_head)", "MODEL", ".*gate$", "model$",
                ".*layers\\.(?:1[0-6]|2[0-7])\\.", ".{40}", "\\d", "[^m]", ".*\\b7", "(?!model)|(?=x)m", "model\\B\\w",
                "(?:(?:){2000000000}){2000000000}x")) {
            assertFalse(matches(no, name), no);
        }
        assertTrue(matches("\u00fc\u540d\ud83d\ude00{2}\\.[\u00e0-\u00ff]\\w$",
                "\u00fc\u540d\ud83d\ude00\ud83d\ude00.\u00e9\u540d"));
        assertTrue(matches("a$", "a\n") && matches("a\\Z", "a") && !matches("a\\Z", "a\n") && !matches("a$", "a\n\n"));
    }

    @Test
    void whatIsNoPatternOrOfAnotherKind() {
        for (String p : List.of("(", ")", "a)", "(a", "[", "[a", "[]", "*", "a**", "a|*", "\\", "[b-a]", "a{2,1}", "\\xg0", "\\q",
                "^*", "(?!a)*", "a{1}{2}", "(?P<", "[\\w-", "\\u12")) {
            assertThrows(IllegalArgumentException.class, () -> new NamePattern(p, MOST), p);
        }
        for (String p : List.of("a(?!b)", "(?:(?!a)b)*", "(a)\\1", "(?<=a)b", "(?<!a)", "(?P=a)", "(?>a)", "(?#x)", "a*+", "(?s)a",
                "a{5000}", "(a{70}){70}", "a{2000000000}", "((a{1,100}){1,100}){1,100}", "(".repeat(1000) + ")".repeat(1000))) {
            assertThrows(UnsupportedOperationException.class, () -> new NamePattern(p, MOST), p);
        }
        assertThrows(UnsupportedOperationException.class, () -> new NamePattern("abcd", 4));
        assertEquals(5, new NamePattern("abcd", 5).size());
    }

    /** @param repeated what is repeated has no places: there the oracle gives up where it could go on */
    private static String random(Random r, int depth, boolean repeated) {
        int kind = r.nextInt(depth == 0 ? 7 : 13);
        return switch (kind) {
            case 0, 1 -> "a";
            case 2 -> "b";
            case 3 -> ".";
            case 4 -> List.of("\\w", "\\W", "\\d", "\\s", "[ab]", "[^a]", "[a-c0]", "[\\d_]", "\\.").get(r.nextInt(9));
            case 5 -> repeated ? "b" : List.of("^", "$", "\\b", "\\B").get(r.nextInt(4));
            case 6 -> "";
            case 7, 8 -> random(r, depth - 1, repeated) + random(r, depth - 1, repeated);
            case 9 -> "(" + random(r, depth - 1, repeated) + "|" + random(r, depth - 1, repeated) + ")";
            case 10 -> random(r, depth - 1, repeated) + "|" + random(r, depth - 1, repeated);
            default -> "(?:" + random(r, depth - 1, true) + ")"
                    + List.of("*", "+", "?", "*?", "{2}", "{1,3}", "{2,}", "{0}").get(r.nextInt(8));
        };
    }

    @RandomTest
    void sameAsTheOracle() {
        Random r = Effort.random();
        int matched = 0;
        for (int i = 0; i < 20_000; i++) {
            String pattern = (r.nextInt(8) == 0 ? "(?!" + random(r, 2, false) + ")" : "") + random(r, 4, false);
            Pattern oracle = Pattern.compile(pattern);
            NamePattern ours = new NamePattern(pattern, 1 << 20);
            for (int k = 0; k < 5; k++) {
                StringBuilder name = new StringBuilder();
                for (int n = r.nextInt(8); n > 0; n--) {
                    name.append("aaabb.0_ c\n".charAt(r.nextInt(11)));
                }
                boolean expected = oracle.matcher(name).lookingAt();
                matched += expected ? 1 : 0;
                assertEquals(expected, ours.matches(name.toString()), () -> pattern + " on '" + name + "'");
            }
        }
        assertTrue(matched > 10_000 && matched < 90_000, matched + " matched");
    }

    /** Processor time per character does not grow. */
    @Test
    void timeIsLinearInTheName() {
        for (String pattern : List.of("(a*)*b", "(?:(?:a?){20}a{20})*b", ".*.*.*.*b", "(?!.*(a|a)*b).*b", "(?:a|aa|aaa)*$b")) {
            NamePattern p = new NamePattern(pattern, MOST);
            long[] nanos = new long[3];
            for (int round = 0; round < 2; round++) {
                for (int i = 0; i < nanos.length; i++) {
                    String name = "a".repeat(100_000 << i);
                    long start = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
                    assertFalse(p.matches(name));
                    nanos[i] = ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() - start;
                }
            }
            assertTrue(nanos[2] < 16 * nanos[0], pattern + ": " + List.of(nanos[0], nanos[1], nanos[2]));
        }
    }
}
