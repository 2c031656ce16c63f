package dev.tensorpress.model.compressedtensors;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * A regular expression of Python as configurations have them, matched in time linear in the name, whatever the pattern: all its
 * states are followed at once. So there are no back references, and lookaheads only where they have to hold at the start of a name,
 * as in {@code ^(?!.*experts).*}.
 */
final class NamePattern {
    /** What a state does. */
    private enum Op { CHARACTER, SPLIT, JUMP, START, END, END_OR_NEWLINE, BOUNDARY, NO_BOUNDARY, AHEAD, NOT_AHEAD, MATCH }

    private static final class State {
        final Op op;
        final Characters set;
        /** Where it leads; where what has to be ahead begins. */
        int target;
        /** Where else it leads; where it goes on if what is ahead is as it has to be. */
        int other;

        State(Op op, Characters set) {
            this.op = op;
            this.set = set;
        }
    }

    private final List<State> states = new ArrayList<>();
    /** What {@link #size} may be. */
    private final int most;
    private int size;

    /**
     * Compiles a pattern.
     *
     * @param most what {@link #size} may be
     * @throws IllegalArgumentException if it is no regular expression
     * @throws UnsupportedOperationException if it is one that cannot be matched here, or is too large
     */
    NamePattern(String pattern, int most) {
        this.most = most;
        emit(new Parser(pattern).parse());
        add(Op.MATCH, null);
    }

    /** What matching takes for each character of a name, at most. */
    int size() {
        return size;
    }

    // Compiling

    /** Part of a pattern: one of a single state, a sequence, a choice, or a repetition of its only child. */
    private record Node(Op op, Characters set, List<Node> children, boolean choice, int least, int most) {
        static final int UNBOUNDED = Integer.MAX_VALUE;

        static Node of(Op op, Characters set) {
            return new Node(op, set, List.of(), false, 1, 1);
        }

        static Node ahead(Op op, Node what) {
            return new Node(op, null, List.of(what), false, 1, 1);
        }

        static Node sequence(List<Node> children) {
            return new Node(null, null, children, false, 1, 1);
        }

        static Node choice(List<Node> children) {
            return children.size() == 1 ? children.getFirst() : new Node(null, null, children, true, 1, 1);
        }

        Node times(int least, int most) {
            return new Node(null, null, List.of(this), false, least, most);
        }
    }

    private State add(Op op, Characters set) {
        size += set == null ? 1 : set.size();
        if (size > most) {
            throw new UnsupportedOperationException("is too large to match many names with");
        }
        State s = new State(op, set);
        states.add(s);
        s.target = states.size();
        return s;
    }

    private void emit(Node n) {
        if (n.op == Op.AHEAD || n.op == Op.NOT_AHEAD) {
            State s = add(n.op, null);
            emit(n.children.getFirst());
            add(Op.MATCH, null);
            s.other = states.size();
        } else if (n.op != null) {
            add(n.op, n.set);
        } else if (n.choice) {
            List<State> ends = new ArrayList<>();
            for (Node child : n.children) {
                boolean last = child == n.children.getLast();
                State split = last ? null : add(Op.SPLIT, null);
                emit(child);
                if (!last) {
                    ends.add(add(Op.JUMP, null));
                    split.other = states.size();
                }
            }
            for (State s : ends) {
                s.target = states.size();
            }
        } else if (n.least == 1 && n.most == 1) {
            for (Node child : n.children) {
                emit(child);
            }
        } else {
            repeat(n.children.getFirst(), n.least, n.most);
        }
    }

    private void repeat(Node n, int least, int most) {
        for (int i = 0; i < least; i++) {
            int before = states.size();
            emit(n);
            if (states.size() == before) {
                return; // nothing, however often
            }
        }
        if (most == Node.UNBOUNDED) {
            int start = states.size();
            State split = add(Op.SPLIT, null);
            emit(n);
            add(Op.JUMP, null).target = start;
            split.other = states.size();
            return;
        }
        List<State> splits = new ArrayList<>();
        for (int i = least; i < most; i++) {
            splits.add(add(Op.SPLIT, null));
            int before = states.size();
            emit(n);
            if (states.size() == before) {
                break;
            }
        }
        for (State s : splits) {
            s.other = states.size();
        }
    }

    // Matching

    /** True if a name begins with what the pattern describes, as for Python's {@code re.match}. */
    boolean matches(String name) {
        return matches(0, name);
    }

    /** Of the states from one on to the MATCH that belongs to it. */
    private boolean matches(int first, String name) {
        int n = states.size();
        int[] now = new int[n];
        int[] next = new int[n];
        int[] stack = new int[2 * n + 1];
        int[] seen = new int[n];
        int step = 1;
        int count = follow(first, 0, name, now, 0, stack, seen, step);
        for (int at = 0; count > 0 && at < name.length();) {
            int c = name.codePointAt(at);
            at += Character.charCount(c);
            step++;
            int after = 0;
            for (int i = 0; i < count && after >= 0; i++) {
                State s = states.get(now[i]);
                if (s.set.has(c)) {
                    after = follow(s.target, at, name, next, after, stack, seen, step);
                }
            }
            count = after;
            int[] t = now;
            now = next;
            next = t;
        }
        return count < 0;
    }

    /**
     * Adds the states that take a character and can be reached without taking one.
     *
     * @param seen in which step each state was met last: it is looked at once in a step
     * @return how many there are now, or -1 if the end of the pattern can be reached
     */
    private int follow(int first, int at, String name, int[] to, int count, int[] stack, int[] seen, int step) {
        int n = count;
        int depth = 0;
        stack[depth++] = first;
        while (depth > 0) {
            int i = stack[--depth];
            if (seen[i] == step) {
                continue;
            }
            seen[i] = step;
            State s = states.get(i);
            switch (s.op) {
                case MATCH -> {
                    return -1;
                }
                case CHARACTER -> to[n++] = i;
                case JUMP -> stack[depth++] = s.target;
                case SPLIT -> {
                    stack[depth++] = s.other;
                    stack[depth++] = s.target;
                }
                case AHEAD, NOT_AHEAD -> {
                    if (matches(s.target, name) == (s.op == Op.AHEAD)) {
                        stack[depth++] = s.other;
                    }
                }
                default -> {
                    if (holds(s.op, at, name)) {
                        stack[depth++] = s.target;
                    }
                }
            }
        }
        return n;
    }

    private static boolean holds(Op op, int at, String name) {
        int length = name.length();
        boolean before = at > 0 && Characters.isWord(name.codePointBefore(at));
        boolean after = at < length && Characters.isWord(name.codePointAt(at));
        return switch (op) {
            case START -> at == 0;
            case END -> at == length;
            case END_OR_NEWLINE -> at == length || at == length - 1 && name.charAt(at) == '\n';
            case BOUNDARY -> before != after;
            case NO_BOUNDARY -> before == after;
            default -> throw new IllegalStateException(op + " holds anywhere");
        };
    }

    /** Which characters a state takes. */
    private static final class Characters {
        /** First and last of each range. */
        private int[] ranges = new int[2];
        private int count;
        private final StringBuilder classes = new StringBuilder();
        private boolean negated;
        private boolean anyCase;

        Characters add(int first, int last) {
            if (count + 2 > ranges.length) {
                ranges = Arrays.copyOf(ranges, 2 * ranges.length);
            }
            ranges[count++] = first;
            ranges[count++] = last;
            return this;
        }

        int size() {
            return Math.max(1, count / 2 + classes.length());
        }

        boolean has(int c) {
            boolean in = ranged(c) || anyCase && (ranged(Character.toLowerCase(c)) || ranged(Character.toUpperCase(c)));
            for (int i = 0; i < classes.length() && !in; i++) {
                char kind = classes.charAt(i);
                in = switch (kind) {
                    case 'd', 'D' -> Character.isDigit(c);
                    case 's', 'S' -> Character.isWhitespace(c) || Character.isSpaceChar(c);
                    default -> isWord(c);
                } == (kind >= 'a');
            }
            return in != negated;
        }

        private boolean ranged(int c) {
            for (int i = 0; i < count; i += 2) {
                if (c >= ranges[i] && c <= ranges[i + 1]) {
                    return true;
                }
            }
            return false;
        }

        static boolean isWord(int c) {
            return Character.isLetterOrDigit(c) || c == '_';
        }
    }

    private static final class Parser {
        private static final int DEEPEST = 100;
        private static final String CLASSES = "dDsSwW";

        private final String text;
        private int at;
        private int depth;
        private boolean anyCase;

        Parser(String text) {
            this.text = text;
        }

        Node parse() {
            if (text.startsWith("(?i)")) {
                anyCase = true;
                at = 4;
            }
            Node n = choice(true);
            if (at < text.length()) {
                throw new IllegalArgumentException("a ')' without '('");
            }
            return n;
        }

        private boolean accept(String s) {
            boolean there = text.startsWith(s, at);
            at += there ? s.length() : 0;
            return there;
        }

        /** @param start whether no character of the name was taken before */
        private Node choice(boolean start) {
            if (++depth > DEEPEST) {
                throw new UnsupportedOperationException("has more than " + DEEPEST + " groups in each other");
            }
            List<Node> all = new ArrayList<>();
            do {
                all.add(sequence(start));
            } while (accept("|"));
            depth--;
            return Node.choice(all);
        }

        private Node sequence(boolean start) {
            List<Node> all = new ArrayList<>();
            boolean first = start;
            while (at < text.length() && text.charAt(at) != '|' && text.charAt(at) != ')') {
                Node n = atom(first);
                boolean still = n.op == Op.START || n.op == Op.AHEAD || n.op == Op.NOT_AHEAD;
                all.add(repeated(n));
                first &= still;
            }
            return Node.sequence(all);
        }

        private Node atom(boolean start) {
            int c = next();
            return switch (c) {
                case '^' -> Node.of(Op.START, null);
                case '$' -> Node.of(Op.END_OR_NEWLINE, null);
                case '.' -> {
                    Characters any = new Characters().add('\n', '\n');
                    any.negated = true;
                    yield Node.of(Op.CHARACTER, any);
                }
                case '[' -> set();
                case '(' -> group(start);
                case '\\' -> escape();
                case '*', '+', '?' -> throw new IllegalArgumentException("nothing to repeat before '" + (char) c + "'");
                default -> one(c);
            };
        }

        private int next() {
            if (at == text.length()) {
                throw new IllegalArgumentException("it ends in the midst of something");
            }
            int c = text.codePointAt(at);
            at += Character.charCount(c);
            return c;
        }

        private Node one(int c) {
            Characters set = new Characters().add(c, c);
            set.anyCase = anyCase;
            return Node.of(Op.CHARACTER, set);
        }

        private Node group(boolean start) {
            Node n;
            if (accept("?!") || accept("?=")) {
                if (!start) {
                    throw new UnsupportedOperationException("looks ahead within a name, and not from its start");
                }
                n = Node.ahead(text.charAt(at - 1) == '=' ? Op.AHEAD : Op.NOT_AHEAD, choice(true));
            } else {
                if (accept("?P<")) {
                    at = Math.max(at, text.indexOf('>', at) + 1);
                } else if (!accept("?:") && text.startsWith("?", at)) {
                    throw new UnsupportedOperationException("has '(" + text.substring(at, Math.min(text.length(), at + 2))
                            + "', which cannot be matched in linear time, or is not known here");
                }
                n = choice(false);
                n = Node.sequence(List.of(n)); // so that nobody takes it for what it has inside
            }
            if (!accept(")")) {
                throw new IllegalArgumentException("a '(' without ')'");
            }
            return n;
        }

        private Node escape() {
            int c = next();
            if (CLASSES.indexOf(c) >= 0) {
                Characters set = new Characters();
                set.classes.append((char) c);
                return Node.of(Op.CHARACTER, set);
            }
            return switch (c) {
                case 'A' -> Node.of(Op.START, null);
                case 'Z' -> Node.of(Op.END, null);
                case 'b' -> Node.of(Op.BOUNDARY, null);
                case 'B' -> Node.of(Op.NO_BOUNDARY, null);
                default -> one(escaped(c));
            };
        }

        /** The character that an escape stands for. */
        private int escaped(int c) {
            return switch (c) {
                case 'n' -> '\n';
                case 't' -> '\t';
                case 'r' -> '\r';
                case 'f' -> '\f';
                case 'v' -> 0x0b;
                case 'a' -> 7;
                case 'x' -> hexadecimal(2);
                case 'u' -> hexadecimal(4);
                default -> {
                    if (c >= '0' && c <= '9') {
                        throw new UnsupportedOperationException("has '\\" + (char) c + "', which cannot be matched in linear time,"
                                + " or is not known here");
                    }
                    if (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
                        throw new IllegalArgumentException("'\\" + (char) c + "' means nothing");
                    }
                    yield c;
                }
            };
        }

        private int hexadecimal(int digits) {
            int value = 0;
            for (int i = 0; i < digits; i++) {
                int digit = Character.digit(next(), 16);
                if (digit < 0) {
                    throw new IllegalArgumentException("expected " + digits + " hexadecimal digits");
                }
                value = 16 * value + digit;
            }
            return value;
        }

        private Node set() {
            Characters set = new Characters();
            set.anyCase = anyCase;
            set.negated = accept("^");
            for (boolean first = true; first || text.charAt(at) != ']'; first = false) {
                int low = member(set);
                if (low >= 0 && text.startsWith("-", at) && !text.startsWith("-]", at)) {
                    at++;
                    int high = member(set);
                    if (high < low) {
                        throw new IllegalArgumentException("a range from a character to an earlier one");
                    }
                    set.add(low, high);
                } else if (low >= 0) {
                    set.add(low, low);
                }
                if (at == text.length()) {
                    throw new IllegalArgumentException("a '[' without ']'");
                }
            }
            at++;
            return Node.of(Op.CHARACTER, set);
        }

        /** A character of a set; -1 if it was a class, which is added. */
        private int member(Characters set) {
            int c = next();
            if (c != '\\') {
                return c;
            }
            int e = next();
            if (CLASSES.indexOf(e) >= 0) {
                set.classes.append((char) e);
                return -1;
            }
            return e == 'b' ? '\b' : escaped(e);
        }

        private Node repeated(Node n) {
            int[] times = times();
            if (times == null) {
                return n;
            }
            if (n.op != null && n.op != Op.CHARACTER) {
                throw new IllegalArgumentException("nothing to repeat, only a place");
            }
            accept("?"); // as few as possible: whether it matches is the same
            if (accept("+")) {
                throw new UnsupportedOperationException("has a possessive repetition");
            }
            if (times() != null) {
                throw new IllegalArgumentException("a repetition of a repetition");
            }
            return n.times(times[0], times[1]);
        }

        /** What is said of how often; null if nothing is, as for braces with something else in them. */
        private int[] times() {
            if (accept("*")) {
                return new int[] {0, Node.UNBOUNDED};
            }
            if (accept("+")) {
                return new int[] {1, Node.UNBOUNDED};
            }
            if (accept("?")) {
                return new int[] {0, 1};
            }
            int close = text.startsWith("{", at) ? text.indexOf('}', at) : -1;
            String inner = close < 0 ? "" : text.substring(at + 1, close);
            int comma = inner.indexOf(',');
            String low = comma < 0 ? inner : inner.substring(0, comma);
            String high = comma < 0 ? inner : inner.substring(comma + 1);
            if (inner.isEmpty() || !isNumber(low) || !isNumber(high)) {
                return null;
            }
            at = close + 1;
            int[] times = {low.isEmpty() ? 0 : number(low), high.isEmpty() ? Node.UNBOUNDED : number(high)};
            if (times[0] > times[1]) {
                throw new IllegalArgumentException("a repetition of at least " + times[0] + " and at most " + times[1]);
            }
            return times;
        }

        private static boolean isNumber(String s) {
            for (int i = 0; i < s.length(); i++) {
                if (s.charAt(i) < '0' || s.charAt(i) > '9') {
                    return false;
                }
            }
            return true;
        }

        /** Too large ones are as good as any that is too large. */
        private static int number(String s) {
            return s.length() > 9 ? 999_999_999 : Integer.parseInt(s);
        }
    }
}
