package dev.tensorpress.model.compressedtensors;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.util.DefaultIndenter;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import com.fasterxml.jackson.core.util.Separators;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.StrictJson;
import dev.tensorpress.model.MalformedModelException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Writes {@code quantization_config}: by which scheme which modules are stored. Every argument of a scheme is said, since what is
 * left out means something else from version to version, and none that the version does not know, since readers refuse those.
 */
final class CompressionConfig {
    /** Of compressed-tensors, whose arguments these are. */
    private static final String VERSION = "0.11.0";
    private static final String MIXED = "mixed-precision";

    /** What modules that are heads are called, where a head has no tensor because it is tied to the token embedding. */
    private static final List<String> TIED = List.of("lm_head", "proj_out", "embed_out", "lm_head.decoder",
            "cls.predictions.decoder");

    /** Modules by their schemes, in the order of the files. */
    private final Map<Scheme, List<String>> groups = new LinkedHashMap<>();
    private final List<String> ignored = new ArrayList<>();
    private boolean tied;

    void add(String module, Form.Quantized form) {
        groups.computeIfAbsent(Scheme.of(form), s -> new ArrayList<>()).add(module);
    }

    /** Linear modules are compressed unless this says that they are not. */
    void ignore(String module) {
        ignored.add(module);
    }

    /** The head is a linear module, too, and its weight the token embedding: no tensor tells its name. */
    void ignoreTied() {
        tied = true;
    }

    /**
     * A configuration with this in it. All else is byte for byte what it was.
     *
     * @param path of the configuration, for messages
     * @param text of the configuration, in which nothing is said of quantization; null if there is none
     * @return null if there was none, and nothing is to be said
     * @throws MalformedModelException if the text is no configuration, or says something of quantization
     */
    byte[] in(Path path, byte[] text) {
        if (groups.isEmpty()) {
            return text;
        }
        String whole = write();
        if (text == null) {
            return (whole + "\n").getBytes(StandardCharsets.UTF_8);
        }
        long[] nothing = {-1};
        int[] keys = {0};
        StrictJson.read(path, text, "the configuration of a model", json -> {
            json.next();
            json.members("the configuration", key -> {
                keys[0]++;
                if (key.equals(Schemes.KEY)) {
                    if (json.token() != JsonToken.VALUE_NULL) {
                        throw json.bad("expected nothing as '" + Schemes.KEY + "' of a model that is not compressed");
                    }
                    nothing[0] = json.at();
                }
                json.skip();
            });
            json.end();
            return null;
        });
        String member = whole.substring(1, whole.lastIndexOf('\n'));
        if (nothing[0] >= 0) {
            int at = (int) nothing[0];
            return spliced(text, at, at + "null".length(), member.substring(member.indexOf('{')));
        }
        int end = text.length - 1;
        while (text[end] != '}') {
            end--;
        }
        int last = end;
        while (Character.isWhitespace(text[last - 1])) {
            last--;
        }
        return spliced(text, last, end, (keys[0] == 0 ? "" : ",") + member + "\n");
    }

    /**
     * A configuration without what it says of quantization. All else is byte for byte what it was.
     *
     * @return null if there is nothing else
     */
    static byte[] without(Path path, byte[] text) {
        int[] place = {-1, 0};
        int[] keys = {0};
        StrictJson.read(path, text, "the configuration of a model", json -> {
            json.next();
            json.members("the configuration", key -> {
                keys[0]++;
                long start = json.at();
                json.skip();
                if (key.equals(Schemes.KEY)) {
                    place[0] = (int) start;
                    place[1] = (int) json.at() + (json.token() == JsonToken.VALUE_NULL ? "null".length() : 1);
                }
            });
            json.end();
            return null;
        });
        if (place[0] < 0 || keys[0] == 1) {
            return place[0] < 0 ? text : null;
        }
        // Back over the two quotes of the key to what it follows: a comma goes with it, a brace stays.
        int from = place[0];
        for (int quotes = 0; quotes < 2; quotes += text[from] == '"' ? 1 : 0) {
            from--;
        }
        while (Character.isWhitespace(text[from - 1])) {
            from--;
        }
        int to = place[1];
        if (text[from - 1] == ',') {
            return spliced(text, from - 1, to, "");
        }
        while (text[to] != ',') {
            to++;
        }
        return spliced(text, from, to + 1, "");
    }

    private static byte[] spliced(byte[] text, int from, int to, String with) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(text, 0, from);
        out.writeBytes(with.getBytes(StandardCharsets.UTF_8));
        out.write(text, to, text.length - to);
        return out.toByteArray();
    }

    /** One whose experts are among the modules comes first: transformers takes the first group that names experts. */
    private List<Map.Entry<Scheme, List<String>>> ordered() {
        List<Map.Entry<Scheme, List<String>>> all = new ArrayList<>();
        int experts = 0;
        for (Map.Entry<Scheme, List<String>> e : groups.entrySet()) {
            boolean first = false;
            for (String module : e.getValue()) {
                first |= ModulePatterns.isExpert(module);
            }
            all.add(first ? experts++ : all.size(), e);
        }
        return all;
    }

    private String write() {
        List<String> modules = new ArrayList<>(ignored);
        for (List<String> some : groups.values()) {
            modules.addAll(some);
        }
        List<String> absent = new ArrayList<>();
        for (String head : tied ? TIED : List.<String>of()) {
            if (!modules.contains(head)) {
                absent.add(head);
            }
        }
        modules.addAll(absent);
        absent.addAll(0, ignored);
        ModulePatterns patterns = new ModulePatterns(modules);
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            DefaultIndenter lines = new DefaultIndenter("  ", "\n");
            DefaultPrettyPrinter printer = new DefaultPrettyPrinter(Separators.createDefaultInstance()
                    .withObjectFieldValueSpacing(Separators.Spacing.AFTER).withObjectEmptySeparator("")
                    .withArrayEmptySeparator(""));
            printer.indentObjectsWith(lines);
            printer.indentArraysWith(lines);
            json.setPrettyPrinter(printer);
            json.writeStartObject();
            json.writeObjectFieldStart(Schemes.KEY);
            json.writeStringField("quant_method", Schemes.METHOD);
            json.writeStringField("version", VERSION);
            String format = null;
            for (Scheme s : groups.keySet()) {
                format = format == null || format.equals(s.format()) ? s.format() : MIXED;
            }
            json.writeStringField("format", format);
            json.writeStringField("quantization_status", "compressed");
            json.writeNullField("global_compression_ratio");
            strings(json, "ignore", patterns.of(absent));
            json.writeNullField("kv_cache_scheme");
            json.writeObjectFieldStart("config_groups");
            int n = 0;
            for (Map.Entry<Scheme, List<String>> e : ordered()) {
                Scheme s = e.getKey();
                json.writeObjectFieldStart("group_" + n++);
                strings(json, "targets", groups.size() == 1 ? List.of("Linear") : patterns.of(e.getValue()));
                json.writeFieldName("weights");
                arguments(json, s.bits(), s.symmetric(), s.strategy().id(), s.size(), false, "minmax");
                json.writeFieldName("input_activations");
                if (s.activations()) {
                    arguments(json, s.bits(), true, "token", 0, true, null);
                } else {
                    json.writeNull();
                }
                json.writeNullField("output_activations");
                // Said here as well: what is left out is guessed from the type of the module, which fails for kinds of their own.
                json.writeStringField("format", s.format());
                json.writeEndObject();
            }
            json.writeEndObject();
            json.writeEndObject();
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter throws none
        }
        return text.toString();
    }

    private static void strings(JsonGenerator json, String key, List<String> values) throws IOException {
        json.writeArrayFieldStart(key);
        for (String value : values) {
            json.writeString(value);
        }
        json.writeEndArray();
    }

    private static void arguments(JsonGenerator json, int bits, boolean symmetric, String strategy, long group, boolean dynamic,
            String observer) throws IOException {
        json.writeStartObject();
        json.writeNumberField("num_bits", bits);
        json.writeStringField("type", "int");
        json.writeBooleanField("symmetric", symmetric);
        json.writeStringField("strategy", strategy);
        if (group > 0) {
            json.writeNumberField("group_size", group);
        } else {
            json.writeNullField("group_size");
        }
        json.writeNullField("block_structure");
        json.writeBooleanField("dynamic", dynamic);
        json.writeNullField("actorder");
        json.writeStringField("observer", observer);
        json.writeObjectFieldStart("observer_kwargs");
        json.writeEndObject();
        json.writeEndObject();
    }
}
