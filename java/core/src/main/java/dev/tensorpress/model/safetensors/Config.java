package dev.tensorpress.model.safetensors;

import com.fasterxml.jackson.core.JsonToken;
import dev.tensorpress.io.StrictJson;
import dev.tensorpress.model.MalformedModelException;
import java.io.IOException;
import java.nio.file.Path;

/** What {@code config.json} says that a reader of the weights can use; null where it says nothing. */
public final class Config {
    public static final String NAME = "config.json";

    String architecture;
    String modelType;
    /** Whether the word embeddings are the head as well. */
    Boolean tied;
    /** The method by which the weights are compressed already. */
    String quantization;

    /**
     * Reads a configuration.
     *
     * @throws MalformedModelException if it is not JSON, or has a key twice
     * @throws IOException if it cannot be read
     */
    static Config read(Path path) throws IOException {
        return StrictJson.read(path, "the configuration of a model", new Config()::read);
    }

    private Config read(StrictJson json) {
        Config text = new Config();
        json.next();
        json.members("the configuration", key -> {
            switch (key) {
                case "architectures" -> {
                    if (json.token() != JsonToken.START_ARRAY) {
                        json.skip();
                        return;
                    }
                    while (json.next() != JsonToken.END_ARRAY) {
                        String name = json.textOrNull();
                        architecture = architecture == null ? name : architecture;
                    }
                }
                case "model_type" -> modelType = json.textOrNull();
                case "tie_word_embeddings" -> tied = json.truth();
                case "text_config" -> json.ifObject("'text_config'", inner -> {
                    if (inner.equals("tie_word_embeddings")) {
                        text.tied = json.truth();
                    } else {
                        json.skip();
                    }
                });
                case "quantization_config" -> {
                    if (json.token() == JsonToken.START_OBJECT) {
                        quantization = "unknown method";
                    }
                    json.ifObject("'quantization_config'", inner -> {
                        if (inner.equals("quant_method") && json.token() == JsonToken.VALUE_STRING) {
                            quantization = json.text();
                        }
                        json.skip();
                    });
                }
                default -> json.skip();
            }
        });
        json.end();
        // Models of text and something else keep what concerns the text apart.
        tied = tied == null ? text.tied : tied;
        return this;
    }
}
