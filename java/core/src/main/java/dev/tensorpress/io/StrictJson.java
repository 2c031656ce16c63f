package dev.tensorpress.io;

import com.fasterxml.jackson.core.JsonToken;
import dev.tensorpress.model.MalformedModelException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashSet;
import java.util.Set;

/**
 * JSON in a file (RFC 8259), read token by token. Whatever one reader could take differently from another is refused where it
 * stands.
 *
 * <p>Headers can have a million keys, and processes that read one are short: this takes less than half of the time of a general
 * parser, which keeps all names it has seen.
 */
public final class StrictJson {
    private static final int DECODED_AT_ONCE = 1 << 13;
    /** Bytes of a file. */
    private static final int LARGEST = 100_000_000;
    private static final int DEEPEST = 1000;

    private final Path path;
    /** Where the text starts in the file. */
    private final long start;
    private final String what;
    private final byte[] text;
    /** The numbers NaN, Infinity and -Infinity pass. */
    private final boolean nonFinite;
    /** What comes next. */
    private int at;
    private JsonToken token;
    /** The current token; of strings, what is between the quotes. */
    private int begin;
    private int end;
    /** The current string has escapes. */
    private boolean escaped;
    /** The current string has bytes that are not ASCII. */
    private boolean wide;
    /** The objects and arrays that are open: true for objects. */
    private final boolean[] objects = new boolean[DEEPEST + 1];
    private int depth;

    /** Takes the tokens of one text, from the first to {@link #end}. */
    @FunctionalInterface
    public interface Reader<T> {
        T read(StrictJson json);
    }

    private StrictJson(Path path, byte[] text, long start, String what, boolean nonFinite) {
        this.path = path;
        this.text = text;
        this.start = start;
        this.what = what;
        this.nonFinite = nonFinite;
    }

    /**
     * What {@code reader} makes of a text.
     *
     * @param start of the text in the file
     * @param what the text is, for messages
     * @throws MalformedModelException if it is not JSON in UTF-8
     */
    public static <T> T read(Path path, byte[] text, long start, String what, Reader<T> reader) {
        return reader.read(new StrictJson(path, text, start, what, false));
    }

    /**
     * {@link #read(Path, byte[], String, Reader)} of a file.
     *
     * @throws MalformedModelException if it is not a file of JSON, or larger than any has a reason to be
     * @throws IOException if it cannot be read
     */
    public static <T> T read(Path file, String what, Reader<T> reader) throws IOException {
        return read(file, bytes(file, what), what, reader);
    }

    /**
     * {@link #read(Path, byte[], long, String, Reader)} of the text of a whole file, where the numbers NaN, Infinity and -Infinity
     * pass, since Python writes them and configurations have them.
     */
    public static <T> T read(Path file, byte[] text, String what, Reader<T> reader) {
        return reader.read(new StrictJson(file, text, 0, what, true));
    }

    /** The bytes of a whole file; it throws as {@link #read(Path, String, Reader)} does. */
    public static byte[] bytes(Path file, String what) throws IOException {
        if (!Files.isRegularFile(file)) {
            throw InputFiles.irregular(file, what);
        }
        byte[] text;
        try (InputStream in = Files.newInputStream(file)) {
            text = in.readNBytes(LARGEST + 1);
        }
        if (text.length > LARGEST) {
            throw new MalformedModelException(file, LARGEST, what + " has more than " + LARGEST + " bytes");
        }
        return text;
    }

    /** The token that follows, which is the current one from now on; null behind the last one. */
    public JsonToken next() {
        JsonToken before = token;
        token = null;
        int b = skipSpace();
        if (depth == 0) {
            // Of several values one after the other no reader here makes sense: they ask for the end.
            token = b < 0 && before != null ? null : value(b);
        } else if (before == JsonToken.FIELD_NAME) {
            token = value(b);
        } else {
            boolean object = objects[depth];
            boolean first = before == JsonToken.START_OBJECT || before == JsonToken.START_ARRAY;
            if (b == (object ? '}' : ']')) {
                begin = at++;
                depth--;
                token = object ? JsonToken.END_OBJECT : JsonToken.END_ARRAY;
            } else {
                if (!first) {
                    expect(b, ',', object ? "',' or '}'" : "',' or ']'");
                    b = skipSpace();
                }
                token = object ? name(b) : value(b);
            }
        }
        return token;
    }

    private JsonToken name(int b) {
        if (b != '"') {
            throw wrong("expected a name in quotes");
        }
        string();
        expect(skipSpace(), ':', "':'");
        skipSpace();
        return JsonToken.FIELD_NAME;
    }

    private void expect(int b, char c, String described) {
        if (b != c) {
            throw wrong("expected " + described);
        }
        at++;
    }

    /** Goes to the next byte that is no space, and gives it; -1 behind the last one. */
    private int skipSpace() {
        while (at < text.length) {
            byte b = text[at];
            if (b != ' ' && b != '\n' && b != '\r' && b != '\t') {
                return b & 0xff;
            }
            at++;
        }
        return -1;
    }

    private JsonToken value(int b) {
        begin = at;
        return switch (b) {
            case '{' -> open(true);
            case '[' -> open(false);
            case '"' -> string();
            case 't' -> word("true", JsonToken.VALUE_TRUE);
            case 'f' -> word("false", JsonToken.VALUE_FALSE);
            case 'n' -> word("null", JsonToken.VALUE_NULL);
            case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9' -> number(b == '-');
            case 'N', 'I' -> {
                if (!nonFinite) {
                    throw wrong("expected a value");
                }
                yield word(b == 'N' ? "NaN" : "Infinity", JsonToken.VALUE_NUMBER_FLOAT);
            }
            default -> throw wrong("expected a value");
        };
    }

    private JsonToken open(boolean object) {
        if (depth == DEEPEST) {
            throw wrong("more than " + DEEPEST + " objects and arrays inside each other");
        }
        objects[++depth] = object;
        at++;
        return object ? JsonToken.START_OBJECT : JsonToken.START_ARRAY;
    }

    private JsonToken word(String word, JsonToken meaning) {
        for (int i = 0; i < word.length(); i++, at++) {
            if (at == text.length || text[at] != word.charAt(i)) {
                throw wrong("expected '" + word + "'");
            }
        }
        end = at;
        return meaning;
    }

    private JsonToken number(boolean negative) {
        if (negative) {
            at++;
            if (nonFinite && at < text.length && text[at] == 'I') {
                return word("Infinity", JsonToken.VALUE_NUMBER_FLOAT);
            }
        }
        JsonToken kind = JsonToken.VALUE_NUMBER_INT;
        if (at < text.length && text[at] == '0') {
            at++;
        } else {
            digits();
        }
        if (at < text.length && text[at] == '.') {
            at++;
            digits();
            kind = JsonToken.VALUE_NUMBER_FLOAT;
        }
        if (at < text.length && (text[at] | 0x20) == 'e') {
            at++;
            if (at < text.length && (text[at] == '+' || text[at] == '-')) {
                at++;
            }
            digits();
            kind = JsonToken.VALUE_NUMBER_FLOAT;
        }
        end = at;
        return kind;
    }

    private void digits() {
        int first = at;
        while (at < text.length && text[at] >= '0' && text[at] <= '9') {
            at++;
        }
        if (at == first) {
            throw wrong("expected a digit");
        }
    }

    /** Goes behind a string that begins here. */
    private JsonToken string() {
        begin = ++at;
        escaped = false;
        wide = false;
        while (at < text.length) {
            byte b = text[at];
            if (b == '"') {
                end = at++;
                if (wide) {
                    checkUtf8();
                }
                return JsonToken.VALUE_STRING;
            }
            if (b < 0) {
                wide = true;
            } else if (b < ' ') {
                throw wrong("a string with a control character");
            } else if (b == '\\') {
                escaped = true;
                at++;
                checkEscape();
            }
            at++;
        }
        throw wrong("a string without end");
    }

    /** Stops at the last byte of an escape whose first letter is here. */
    private void checkEscape() {
        if (at < text.length && text[at] == 'u') {
            for (int i = 0; i < 4; i++) {
                at++;
                if (at >= text.length || text[at] < 0 || Character.digit(text[at], 16) < 0) {
                    throw wrong("expected a hexadecimal digit");
                }
            }
        } else if (at >= text.length || "\"\\/bfnrt".indexOf(text[at]) < 0) {
            throw wrong("an escape that is none");
        }
    }

    private void checkUtf8() {
        CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder();
        ByteBuffer in = ByteBuffer.wrap(text, begin, end - begin);
        CharBuffer out = CharBuffer.allocate(Math.min(DECODED_AT_ONCE, end - begin));
        CoderResult r;
        do {
            r = decoder.decode(in, out.clear(), true);
            if (r.isError()) {
                throw new MalformedModelException(path, start + in.position(), what + " is not UTF-8");
            }
        } while (r.isOverflow());
    }

    /** The name or string that is here. Half a surrogate pair, which an escape can make, is no text: two could become one. */
    public String text() {
        if (!escaped) {
            return new String(text, begin, end - begin, wide ? StandardCharsets.UTF_8 : StandardCharsets.ISO_8859_1);
        }
        StringBuilder s = new StringBuilder();
        int from = begin;
        for (int i = begin; i < end; i++) {
            if (text[i] != '\\') {
                continue;
            }
            s.append(new String(text, from, i - from, StandardCharsets.UTF_8));
            i++;
            switch (text[i]) {
                case 'b' -> s.append('\b');
                case 'f' -> s.append('\f');
                case 'n' -> s.append('\n');
                case 'r' -> s.append('\r');
                case 't' -> s.append('\t');
                case 'u' -> {
                    s.append((char) Integer.parseInt(new String(text, i + 1, 4, StandardCharsets.ISO_8859_1), 16));
                    i += 4;
                }
                default -> s.append((char) text[i]);
            }
            from = i + 1;
        }
        s.append(new String(text, from, end - from, StandardCharsets.UTF_8));
        for (int i = 0; i < s.length(); i++) {
            if (Character.isSurrogate(s.charAt(i))) {
                if (!Character.isHighSurrogate(s.charAt(i)) || i + 1 == s.length()
                        || !Character.isLowSurrogate(s.charAt(i + 1))) {
                    throw bad("a string with half a surrogate pair");
                }
                i++;
            }
        }
        return s.toString();
    }

    public JsonToken token() {
        return token;
    }

    /** Where the current token starts in the file. */
    public long at() {
        boolean quoted = token == JsonToken.FIELD_NAME || token == JsonToken.VALUE_STRING;
        return start + (quoted ? begin - 1 : begin);
    }

    /** True if the current number has a minus. */
    public boolean negative() {
        return text[begin] == '-';
    }

    /** True if the current whole number fits in 64 bits. */
    public boolean fits() {
        if (end - begin < 19) {
            return true;
        }
        try {
            number();
            return true;
        } catch (NumberFormatException e) {
            return false;
        }
    }

    /** The whole number that is here. */
    public long number() {
        if (end - begin < 19) {
            long n = 0;
            for (int i = negative() ? begin + 1 : begin; i < end; i++) {
                n = 10 * n + text[i] - '0';
            }
            return negative() ? -n : n;
        }
        return Long.parseLong(new String(text, begin, end - begin, StandardCharsets.ISO_8859_1));
    }

    /** Passes over an object or array that has just begun; over anything else not at all. Keys may not be there twice. */
    public void skip() {
        int outside = depth - 1;
        if (token != JsonToken.START_OBJECT && token != JsonToken.START_ARRAY) {
            return;
        }
        Deque<Set<String>> open = new ArrayDeque<>();
        do {
            switch (token) {
                case START_OBJECT -> open.push(new HashSet<>());
                case START_ARRAY -> open.push(Set.of());
                case END_OBJECT, END_ARRAY -> open.pop();
                case FIELD_NAME -> {
                    String key = text();
                    if (!open.peek().add(key)) {
                        throw bad("'" + key + "' is there twice");
                    }
                }
                default -> { }
            }
        } while (depth > outside && next() != null);
    }

    /** Takes the value of one key, beginning at its first token and ending at its last. */
    @FunctionalInterface
    public interface Member {
        void read(String key);
    }

    /**
     * Passes the keys of an object that begins at the current token to {@code member}.
     *
     * @param name of the object, for messages
     */
    public void members(String name, Member member) {
        if (token() != JsonToken.START_OBJECT) {
            throw bad("expected an object as " + name);
        }
        Set<String> keys = new HashSet<>();
        while (next() == JsonToken.FIELD_NAME) {
            String key = text();
            if (!keys.add(key)) {
                throw bad("'" + key + "' of " + name + " is there twice");
            }
            next();
            member.read(key);
        }
        if (token() != JsonToken.END_OBJECT) {
            throw bad("expected the end of " + name);
        }
    }

    /** {@link #members}, if an object begins here; anything else is passed over. */
    public void ifObject(String name, Member member) {
        if (token() == JsonToken.START_OBJECT) {
            members(name, member);
        } else {
            skip();
        }
    }

    /** The string that is here; null, passing over it, if it is something else. */
    public String textOrNull() {
        if (token() == JsonToken.VALUE_STRING) {
            return text();
        }
        skip();
        return null;
    }

    /** What is true or false here; null, passing over it, if it is something else. */
    public Boolean truth() {
        skip();
        return token() == JsonToken.VALUE_TRUE ? Boolean.TRUE : token() == JsonToken.VALUE_FALSE ? Boolean.FALSE : null;
    }

    /** Checks that an object ends here, and the text with it. */
    public void end() {
        if (token != JsonToken.END_OBJECT || next() != null) {
            throw bad("expected the end of " + what);
        }
    }

    private MalformedModelException wrong(String found) {
        return new MalformedModelException(path, start + at, what + " is not JSON: "
                + (at < text.length && text[at] == 0 ? "it has a byte that is zero" : found));
    }

    public MalformedModelException bad(String expected) {
        return new MalformedModelException(path, at(), expected);
    }
}
