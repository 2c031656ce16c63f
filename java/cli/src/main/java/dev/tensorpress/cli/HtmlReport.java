package dev.tensorpress.cli;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.IntFunction;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A report as one page that needs nothing else. It holds the JSON of reports as it is, and a script draws what is there: of
 * {@code compression}, {@code evaluation} and {@code search}. {@code docs/report.md} says what each has to hold.
 *
 * <p>What is written comes from models that anyone made: JSON is escaped so that it cannot end its element, texts as text, and
 * a policy in the page lets no other script run.
 */
final class HtmlReport {
    /** Bytes of a page at most, unless its texts alone are longer. */
    static final int MOST_BYTES = 2_000_000;

    private static final Pattern PLACE = Pattern.compile("\\{\\{(\\w+)}}");

    private final String kind;
    private final String title;
    private final Map<String, IntFunction<String>> data = new LinkedHashMap<>();
    private final Map<String, String> texts = new LinkedHashMap<>();

    /** @param kind the line above the title: what was done */
    HtmlReport(String kind, String title) {
        this.kind = kind;
        this.title = title;
    }

    /** True if a report of this name is to be a page; any other is JSON. */
    static boolean named(Path file) {
        return file != null && file.toString().endsWith(".html");
    }

    /**
     * Adds figures.
     *
     * @param name {@code compression}, {@code evaluation} or {@code search}
     * @param json one object, with as many weights at most as it is given; called until the page is short enough
     */
    HtmlReport data(String name, IntFunction<String> json) {
        data.put(name, json);
        return this;
    }

    /** Adds a text of several lines at the end of the page. */
    HtmlReport text(String heading, String text) {
        texts.put(heading, text);
        return this;
    }

    /** Writes the page, over what is there. */
    void write(Path file) throws IOException {
        int most = Integer.MAX_VALUE;
        byte[] page = page(most);
        // Weights that nobody could tell apart in a chart are left out, until it is short enough.
        for (most = 1 << 12; page.length > MOST_BYTES && most > 0; most /= 2) {
            page = page(most);
        }
        OutputFile.write(file, page);
    }

    private byte[] page(int most) throws IOException {
        String template;
        try (InputStream in = HtmlReport.class.getResourceAsStream("report.html")) {
            template = new String(in.readAllBytes(), StandardCharsets.UTF_8);
        }
        StringBuilder figures = new StringBuilder();
        data.forEach((name, json) -> figures.append("<script type=\"application/json\" id=\"").append(name).append("\">\n")
                .append(json.apply(most).replace("<", "\\u003c")).append("\n</script>\n"));
        StringBuilder all = new StringBuilder();
        texts.forEach((heading, text) -> all.append("<section><h2>").append(escaped(heading)).append("</h2><pre>")
                .append(escaped(text)).append("</pre></section>\n"));
        String script = template.substring(template.indexOf("<script>") + "<script>".length(), template.lastIndexOf("</script>"));
        Map<String, String> values = Map.of("kind", escaped(kind), "title", escaped(title), "hash", hash(script),
                "data", figures.toString(), "texts", all.toString());
        return PLACE.matcher(template).replaceAll(place -> Matcher.quoteReplacement(values.get(place.group(1))))
                .getBytes(StandardCharsets.UTF_8);
    }

    private static String hash(String script) {
        try {
            return "sha256-" + Base64.getEncoder().encodeToString(
                    MessageDigest.getInstance("SHA-256").digest(script.getBytes(StandardCharsets.UTF_8)));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every JVM has it
        }
    }

    private static String escaped(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\"", "&quot;");
    }
}
