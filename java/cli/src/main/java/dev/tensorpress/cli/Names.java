package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.SerializableString;
import com.fasterxml.jackson.core.io.CharacterEscapes;
import com.fasterxml.jackson.core.io.SerializedString;
import dev.tensorpress.model.Weight;
import java.io.IOException;
import java.io.PrintStream;
import java.util.HexFormat;
import java.util.Locale;

/** What weights are called in output, and how JSON is written. */
final class Names {
    private Names() {}

    static String dtype(Weight weight) {
        return weight.tensor().dtype().name().toLowerCase(Locale.ROOT);
    }

    /** Writes to {@code out} and leaves it open. */
    static JsonGenerator json(PrintStream out) throws IOException {
        return new JsonFactory().createGenerator(out).disable(JsonGenerator.Feature.AUTO_CLOSE_TARGET)
                .useDefaultPrettyPrinter().setCharacterEscapes(new Escapes());
    }

    /** Besides what JSON demands: a terminal would obey the others too. */
    private static final class Escapes extends CharacterEscapes {
        private static final long serialVersionUID = 1;
        private static final int DELETE = 127;

        private final int[] ascii = standardAsciiEscapesForJSON();

        Escapes() {
            ascii[DELETE] = ESCAPE_STANDARD;
        }

        @Override
        public int[] getEscapeCodesForAscii() {
            return ascii;
        }

        @Override
        public SerializableString getEscapeSequence(int c) {
            return c <= Character.MAX_VALUE && Text.isControl((char) c)
                    ? new SerializedString("\\u" + HexFormat.of().toHexDigits((char) c)) : null;
        }
    }

    static void weight(JsonGenerator json, Weight weight) throws IOException {
        json.writeStringField("name", weight.name());
        json.writeStringField("role", weight.role().id());
        json.writeArrayFieldStart("shape");
        for (long dim : weight.tensor().shape().dims()) {
            json.writeNumber(dim);
        }
        json.writeEndArray();
        json.writeStringField("dtype", dtype(weight));
    }
}
