package dev.tensorpress;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.method.Methods;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Role;
import dev.tensorpress.structure.Group;
import dev.tensorpress.structure.StructureMethod;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The JSON Schema of recipes in YAML, from what is declared of options. */
final class RecipeSchema {
    private final JsonGenerator json;

    private RecipeSchema(JsonGenerator json) {
        this.json = json;
    }

    static String write() {
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.useDefaultPrettyPrinter();
            new RecipeSchema(json).recipe();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter throws none
        }
        return text.append('\n').toString();
    }

    private void recipe() throws IOException {
        json.writeStartObject();
        json.writeStringField("$schema", "https://json-schema.org/draft/2020-12/schema");
        json.writeStringField("title", "A recipe of Tensorpress");
        json.writeStringField("type", "object");
        json.writeObjectFieldStart("properties");
        texts("name", "shown in reports; the file's name if left out", false);
        texts("target", "the runtime the result is for; the format's default if left out", false);
        option(Selector.MIN_SIZE);
        texts("exclude", "globs of weights that stay as they are", true);
        targetOptions();
        list("structure", this::change);
        list("steps", this::step);
        json.writeEndObject();
        closed(List.of());
        oneOf("anyOf", List.of("structure", "steps"));
        json.writeEndObject();
    }

    private void targetOptions() throws IOException {
        List<Option> options = new ArrayList<>();
        for (Formats.Entry format : Formats.ALL) {
            options.addAll(format.options());
        }
        options("options", options, "of the target");
    }

    private interface Item {
        void write() throws IOException;
    }

    /** At least one of these. */
    private void list(String key, Item item) throws IOException {
        json.writeObjectFieldStart(key);
        json.writeStringField("type", "array");
        json.writeNumberField("minItems", 1);
        json.writeObjectFieldStart("items");
        item.write();
        json.writeEndObject();
        json.writeEndObject();
    }

    private void change() throws IOException {
        begin();
        words("kind", Arrays.stream(Group.Kind.values()).map(Group.Kind::id).toList());
        texts("name", "globs, one of which fits the name of the group, as inspect --graph lists them", true);
        json.writeEndObject();
        closed(List.of());
        json.writeEndObject();
        for (String method : StructureMethod.NAMES) {
            options(method, StructureMethod.options(method), "");
        }
        json.writeEndObject();
        closed(List.of());
        oneOf("oneOf", StructureMethod.NAMES);
    }

    /** Of a step, up to what it selects by. */
    private void begin() throws IOException {
        json.writeStringField("type", "object");
        json.writeObjectFieldStart("properties");
        json.writeObjectFieldStart("name");
        json.writeStringField("type", "string");
        json.writeStringField("pattern", "^[^.]+$");
        json.writeEndObject();
        json.writeObjectFieldStart("select");
        json.writeStringField("type", "object");
        json.writeObjectFieldStart("properties");
    }

    private void step() throws IOException {
        begin();
        words("role", Arrays.stream(Role.values()).map(Role::id).toList());
        texts("name", "globs, one of which fits the weight's name or that of a node that uses it", true);
        option(Selector.MIN_SIZE);
        json.writeEndObject();
        closed(List.of());
        json.writeEndObject();
        for (String method : Methods.NAMES) {
            options(method, Methods.options(method), "");
        }
        json.writeEndObject();
        closed(List.of());
        oneOf("oneOf", Methods.NAMES);
    }

    /** One, or at least one, of these keys is there. */
    private void oneOf(String rule, List<String> keys) throws IOException {
        json.writeArrayFieldStart(rule);
        for (String key : keys) {
            json.writeStartObject();
            required(List.of(key));
            json.writeEndObject();
        }
        json.writeEndArray();
    }

    private void words(String key, List<String> words) throws IOException {
        json.writeObjectFieldStart(key);
        anyOf(words);
        json.writeEndObject();
    }

    /** One of these words, or a list of them. */
    private void anyOf(List<String> words) throws IOException {
        json.writeArrayFieldStart("anyOf");
        json.writeStartObject();
        words(words);
        json.writeEndObject();
        json.writeStartObject();
        json.writeStringField("type", "array");
        json.writeObjectFieldStart("items");
        words(words);
        json.writeEndObject();
        json.writeEndObject();
        json.writeEndArray();
    }

    private void words(List<String> words) throws IOException {
        json.writeArrayFieldStart("enum");
        for (String word : words) {
            json.writeString(word);
        }
        json.writeEndArray();
    }

    private void texts(String key, String meaning, boolean list) throws IOException {
        json.writeObjectFieldStart(key);
        json.writeStringField("description", meaning);
        if (list) {
            json.writeArrayFieldStart("type");
            json.writeString("string");
            json.writeString("array");
            json.writeEndArray();
            json.writeObjectFieldStart("items");
            json.writeStringField("type", "string");
            json.writeEndObject();
        } else {
            json.writeStringField("type", "string");
        }
        json.writeEndObject();
    }

    /** A map with these keys, of which those without a fallback have to be there. */
    private void options(String key, List<Option> options, String meaning) throws IOException {
        json.writeObjectFieldStart(key);
        if (!meaning.isEmpty()) {
            json.writeStringField("description", meaning);
        }
        map(options);
        json.writeEndObject();
    }

    private void map(List<Option> options) throws IOException {
        json.writeStringField("type", "object");
        json.writeObjectFieldStart("properties");
        for (Option option : options) {
            option(option);
        }
        json.writeEndObject();
        closed(options.stream().filter(o -> o.fallback() == null).map(Option::name).toList());
    }

    private void closed(List<String> required) throws IOException {
        required(required);
        json.writeBooleanField("additionalProperties", false);
    }

    private void required(List<String> keys) throws IOException {
        if (!keys.isEmpty()) {
            json.writeArrayFieldStart("required");
            for (String key : keys) {
                json.writeString(key);
            }
            json.writeEndArray();
        }
    }

    private void option(Option option) throws IOException {
        json.writeObjectFieldStart(option.name());
        json.writeStringField("description", option.meaning());
        boolean given = option.fallback() != null && !option.fallback().isEmpty();
        switch (option.type()) {
            case Option.Whole w -> {
                json.writeStringField("type", "integer");
                json.writeNumberField("minimum", w.least());
                if (w.most() < Integer.MAX_VALUE) {
                    json.writeNumberField("maximum", w.most());
                }
                if (w.multiple() > 1) {
                    json.writeNumberField("multipleOf", w.multiple());
                }
                if (given) {
                    json.writeNumberField("default", Long.parseLong(option.fallback()));
                }
            }
            case Option.Real r -> {
                json.writeStringField("type", "number");
                json.writeNumberField(r.closed() ? "minimum" : "exclusiveMinimum", r.least());
                if (r.most() < Double.POSITIVE_INFINITY) {
                    json.writeNumberField(r.closedAbove() ? "maximum" : "exclusiveMaximum", r.most());
                }
                if (given) {
                    json.writeNumberField("default", Double.parseDouble(option.fallback()));
                }
            }
            case Option.Words w when w.equals(Option.Words.SWITCH) -> {
                json.writeStringField("type", "boolean");
                if (given) {
                    json.writeBooleanField("default", option.on(option.fallback()));
                }
            }
            case Option.Words w -> {
                words(w.words());
                text(given, option.fallback());
            }
            case Option.WordList w -> {
                anyOf(w.words());
                json.writeArrayFieldStart("default");
                for (int word : given ? option.several(option.fallback()) : List.<Integer>of()) {
                    json.writeString(w.words().get(word));
                }
                json.writeEndArray();
            }
            case Option.Text t -> {
                json.writeArrayFieldStart("anyOf");
                type("string");
                if (t.list() || !t.parts().isEmpty()) {
                    type("number");
                }
                if (t.list()) {
                    json.writeStartObject();
                    json.writeStringField("type", "array");
                    json.writeObjectFieldStart("items");
                    json.writeStringField("type", "number");
                    json.writeEndObject();
                    json.writeEndObject();
                }
                if (!t.parts().isEmpty()) {
                    json.writeStartObject();
                    map(t.parts());
                    json.writeEndObject();
                }
                json.writeEndArray();
                text(given, option.fallback());
            }
        }
        json.writeEndObject();
    }

    private void type(String name) throws IOException {
        json.writeStartObject();
        json.writeStringField("type", name);
        json.writeEndObject();
    }

    private void text(boolean given, String fallback) throws IOException {
        if (given) {
            json.writeStringField("default", fallback);
        }
    }
}
