package dev.tensorpress.cli;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.OnnxModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collection;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/** What commands have in common that change a graph: the model that they read, the one that they write, and words of their options. */
final class EditedGraph {
    private EditedGraph() {}

    static Syntax declare(Syntax syntax) {
        return KeyOptions.declareSigner(syntax)
                .option("o", "output", "OUT", "the file to write; must be given")
                .flag("force", "replaces OUT if it exists")
                .flag("allow-links", RecipeOptions.LINKS);
    }

    /** @throws UsageException if none is given */
    static Path output(Arguments arguments) {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o OUT");
        }
        return out;
    }

    static OnnxModel open(Arguments arguments, String command) throws IOException {
        Path path = arguments.model(0);
        if (Files.isDirectory(path) || path.toString().endsWith(".safetensors")) {
            throw new UnsupportedRequestException(path + " has no graph: " + command + " is for models in ONNX");
        }
        return OnnxModel.open(path, arguments.flag("allow-links"));
    }

    /** @param read files that must stay as they are */
    static void check(Arguments arguments, Collection<Path> read) throws IOException {
        OutputFile.checkModel(arguments, "-o", output(arguments), arguments.flag("force"), read);
    }

    /** Writes the changed model, and returns what is to be said of it. */
    static String write(Arguments arguments, OnnxModel model, EditableModel changed, long start) throws IOException {
        Path out = output(arguments);
        long bytes = 0;
        for (Path file : changed.write(arguments.flag("force") ? Destination.replacing(out) : Destination.of(out))) {
            bytes += Files.size(file);
        }
        return out + ": " + Text.count(model.bytes()) + " -> " + Text.count(bytes) + " bytes, in " + Text.time(System.nanoTime() - start);
    }

    /** A number in its range, or what it is if it is left out. */
    static double real(Arguments arguments, Option option) {
        String given = arguments.value(option.name());
        try {
            return option.real(given == null ? option.fallback() : given);
        } catch (IllegalArgumentException e) {
            throw arguments.wrong("--" + e.getMessage());
        }
    }

    /** Constants as options have them: {@code head-features}. */
    static List<String> words(Enum<?>[] constants) {
        return Arrays.stream(constants).map(c -> c.name().toLowerCase(Locale.ROOT).replace('_', '-')).toList();
    }

    static <E extends Enum<E>> E constant(String word, E[] constants, String what) {
        int at = words(constants).indexOf(word);
        if (at < 0) {
            throw new UnknownNameException("there is no " + what + " '" + word + "'", word, words(constants));
        }
        return constants[at];
    }

    /** Of words with commas between them. */
    static <E extends Enum<E>> Set<E> constants(String list, Class<E> type, String what) {
        Set<E> all = EnumSet.noneOf(type);
        for (String word : list.split(",", -1)) {
            all.add(constant(word, type.getEnumConstants(), what));
        }
        return all;
    }
}
