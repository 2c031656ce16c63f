package dev.tensorpress.model.safetensors;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.json.JsonReadFeature;
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
import java.util.HashSet;
import java.util.Set;

/** JSON in a file, read token by token. Whatever one reader could take differently from another is refused where it stands. */
final class StrictJson {
    private static final int DECODED_AT_ONCE = 1 << 13;

    private final Path path;
    /** Where the text starts in the file. */
    private final long start;
    private final String what;
    private final JsonParser parser;

    /** Takes the tokens of one text, from the first to {@link #end}. */
    @FunctionalInterface
    interface Reader<T> {
        T read(StrictJson json) throws IOException;
    }

    private StrictJson(Path path, long start, String what, JsonParser parser) {
        this.path = path;
        this.start = start;
        this.what = what;
        this.parser = parser;
    }

    /**
     * What {@code reader} makes of a text.
     *
     * @param start of the text in the file
     * @param what the text is, for messages
     * @throws MalformedModelException if it is not JSON in UTF-8
     */
    static <T> T read(Path path, byte[] text, long start, String what, Reader<T> reader) {
        return read(factory().build(), path, text, start, what, reader);
    }

    private static <T> T read(JsonFactory factory, Path path, byte[] text, long start, String what, Reader<T> reader) {
        checkText(path, text, start, what);
        try (JsonParser parser = factory.createParser(text)) {
            return reader.read(new StrictJson(path, start, what, parser));
        } catch (JsonProcessingException e) {
            long at = e.getLocation() == null ? -1 : e.getLocation().getByteOffset();
            throw new MalformedModelException(path, at < 0 ? start : start + at, what + " is not JSON: "
                    + e.getOriginalMessage());
        } catch (IOException e) {
            throw new MalformedModelException(path, start, what + " cannot be read: " + e.getMessage());
        }
    }

    /**
     * {@link #read(Path, byte[], long, String, Reader)} of a whole file, where the numbers NaN, Infinity and -Infinity pass,
     * since Python writes them and configurations have them.
     *
     * @throws MalformedModelException if it is not a file of JSON, or larger than any has a reason to be
     * @throws IOException if it cannot be read
     */
    static <T> T read(Path file, String what, Reader<T> reader) throws IOException {
        if (!Files.isRegularFile(file)) {
            throw new MalformedModelException(file, -1, "expected " + what + ", this is not a regular file");
        }
        byte[] text;
        try (InputStream in = Files.newInputStream(file)) {
            text = in.readNBytes(Safetensors.LARGEST_HEADER + 1);
        }
        if (text.length > Safetensors.LARGEST_HEADER) {
            throw new MalformedModelException(file, Safetensors.LARGEST_HEADER, what + " has more than "
                    + Safetensors.LARGEST_HEADER + " bytes");
        }
        return read(factory().enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS).build(), file, text, 0, what, reader);
    }

    private static JsonFactoryBuilder factory() {
        // Names and strings are as long as the text allows, and may collide as they like.
        return new JsonFactoryBuilder().disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
                .disable(JsonFactory.Feature.FAIL_ON_SYMBOL_HASH_OVERFLOW)
                .streamReadConstraints(StreamReadConstraints.builder().maxNameLength(Safetensors.LARGEST_HEADER)
                        .maxStringLength(Safetensors.LARGEST_HEADER).build());
    }

    /** The parser lets some wrong sequences pass, and takes a zero among the first bytes for another encoding. */
    private static void checkText(Path path, byte[] text, long start, String what) {
        boolean ascii = true;
        for (int i = 0; i < text.length; i++) {
            if (text[i] == 0) {
                throw new MalformedModelException(path, start + i, what + " is not JSON: it has a byte that is zero");
            }
            ascii &= text[i] > 0;
        }
        if (ascii) {
            return;
        }
        CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder();
        ByteBuffer in = ByteBuffer.wrap(text);
        CharBuffer out = CharBuffer.allocate(DECODED_AT_ONCE);
        CoderResult r;
        do {
            r = decoder.decode(in, out.clear(), true);
            if (r.isError()) {
                throw new MalformedModelException(path, start + in.position(), what + " is not UTF-8");
            }
        } while (r.isOverflow());
    }

    JsonToken next() throws IOException {
        return parser.nextToken();
    }

    JsonToken token() {
        return parser.currentToken();
    }

    /** Where the current token starts in the file. */
    long at() {
        return start + Math.max(0, parser.currentTokenLocation().getByteOffset());
    }

    /** Names with half a surrogate pair, which an escape can make, are no text: two of them could become one. */
    String text() throws IOException {
        String s = parser.getText();
        for (int i = 0; i < s.length(); i++) {
            if (Character.isSurrogate(s.charAt(i))) {
                if (!Character.isHighSurrogate(s.charAt(i)) || i + 1 == s.length()
                        || !Character.isLowSurrogate(s.charAt(i + 1))) {
                    throw bad("a string with half a surrogate pair");
                }
                i++;
            }
        }
        return s;
    }

    /** True if the current number has a minus. */
    boolean negative() throws IOException {
        return parser.getTextCharacters()[parser.getTextOffset()] == '-';
    }

    /** True if the current whole number fits in 64 bits. */
    boolean fits() throws IOException {
        return parser.getNumberType() != JsonParser.NumberType.BIG_INTEGER;
    }

    long number() throws IOException {
        return parser.getLongValue();
    }

    /** Passes over an object or array that has just begun; over anything else not at all. */
    void skip() throws IOException {
        parser.skipChildren();
    }

    /** Takes the value of one key, beginning at its first token and ending at its last. */
    @FunctionalInterface
    interface Member {
        void read(String key) throws IOException;
    }

    /**
     * Passes the keys of an object that begins at the current token to {@code member}.
     *
     * @param name of the object, for messages
     */
    void members(String name, Member member) throws IOException {
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
    void ifObject(String name, Member member) throws IOException {
        if (token() == JsonToken.START_OBJECT) {
            members(name, member);
        } else {
            skip();
        }
    }

    /** The string that is here; null, passing over it, if it is something else. */
    String textOrNull() throws IOException {
        if (token() == JsonToken.VALUE_STRING) {
            return text();
        }
        skip();
        return null;
    }

    /** What is true or false here; null, passing over it, if it is something else. */
    Boolean truth() throws IOException {
        skip();
        return token() == JsonToken.VALUE_TRUE ? Boolean.TRUE : token() == JsonToken.VALUE_FALSE ? Boolean.FALSE : null;
    }

    /** Checks that an object ends here, and the text with it. */
    void end() throws IOException {
        if (parser.currentToken() != JsonToken.END_OBJECT || parser.nextToken() != null) {
            throw bad("expected the end of " + what);
        }
    }

    MalformedModelException bad(String expected) {
        return new MalformedModelException(path, at(), expected);
    }
}
