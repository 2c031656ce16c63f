package dev.tensorpress.model.archive;

import dev.tensorpress.model.MalformedModelException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Base64;

/** Text around keys (RFC 7468). Lines before it are a comment. */
record Pem(String comment, byte[] data) {
    private static final int WIDTH = 64;

    /** The block with this label in a text. */
    static Pem parse(Path file, String text, String label) {
        String begin = "-----BEGIN " + label + "-----";
        String end = "-----END " + label + "-----";
        int start = text.indexOf(begin);
        int stop = text.indexOf(end);
        if (start < 0 || stop < start) {
            throw new MalformedModelException(file, -1, "expected a key, between " + begin + " and " + end);
        }
        try {
            String body = text.substring(start + begin.length(), stop).replaceAll("\\s", "");
            return new Pem(text.substring(0, start).strip(), Base64.getDecoder().decode(body));
        } catch (IllegalArgumentException e) {
            throw new MalformedModelException(file, start, "expected a key in base64, this is none: " + e.getMessage());
        }
    }

    /** The text of a block with this label. */
    String text(String label) {
        String body = Base64.getMimeEncoder(WIDTH, "\n".getBytes(StandardCharsets.US_ASCII)).encodeToString(data);
        return (comment.isEmpty() ? "" : comment + "\n") + "-----BEGIN " + label + "-----\n" + body + "\n-----END " + label + "-----\n";
    }
}
