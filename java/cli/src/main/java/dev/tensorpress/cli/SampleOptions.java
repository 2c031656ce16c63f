package dev.tensorpress.cli;

import dev.tensorpress.model.Model;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.runtime.Images;
import dev.tensorpress.runtime.InputException;
import dev.tensorpress.runtime.Samples;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Stream;

/**
 * The options that say what models are run on.
 *
 * @param texts a file of lines, or null
 * @param tokenizer beside texts, or null
 * @param folder of images, or null
 * @param preprocessor a file of what becomes of them, or null
 * @param images what becomes of them
 * @param random how many, or 0
 * @param shapes of random inputs
 */
record SampleOptions(Path texts, Path tokenizer, List<Path> inputs, Path folder, Path preprocessor, Images images, int random,
        Map<String, Shape> shapes) {
    private static final int MOST_TEXT = 1 << 28;
    /** Of the order of bytes, which is nothing that anybody wrote. */
    private static final String MARK = "\uFEFF";

    /** Work on models that are run. */
    @FunctionalInterface
    interface Run<T> {
        T run() throws IOException;
    }

    static Syntax add(Syntax syntax) {
        return syntax
                .option("texts", "FILE", "runs on the lines of this file, which `evaluate` compares as embeddings of sentences")
                .option("tokenizer", "FILE", "the tokenizer.json for --texts")
                .option("inputs", "FILE", "runs on inputs out of a file .npz or .safetensors, or .npy for a single one, or a folder of"
                        + " these, of input_0.pb, or of test_data_set_0 (may be repeated)")
                .option("images", "FOLDER", "runs on the images in PNG or JPEG of this folder, by their names")
                .option("preprocessor", "FILE", "a preprocessor_config.json, which says what becomes of images before")
                .option("image", "KEY=VALUE", "says it too: size=256 or 256x320, crop=224, layout=nchw or nhwc, order=bgr, rescale=0.5,"
                        + " mean=0.1,0.2,0.3, std=0.5 (may be repeated)")
                .option("random", "N", "runs on this many random inputs, which are unlike real ones")
                .option("shape", "NAME=1x3x32x320", "of a random input; what the model leaves open is chosen if left out (may be"
                        + " repeated)");
    }

    /**
     * @param more option of other texts, which may be beside these or in their place, or null
     * @throws UsageException unless they say one kind of samples, and all of it
     */
    static SampleOptions of(Arguments arguments, String more) throws IOException {
        SampleOptions given = new SampleOptions(arguments.path("texts"), arguments.path("tokenizer"), arguments.paths("inputs"),
                arguments.path("images"), arguments.path("preprocessor"), images(arguments), arguments.number("random", 1, 0), shapes(arguments));
        String of = given.texts == null && more != null && arguments.value(more) != null ? more : "texts";
        if ((arguments.value(of) == null ? 0 : 1) + (given.inputs.isEmpty() ? 0 : 1) + (given.folder == null ? 0 : 1) + (given.random == 0 ? 0 : 1)
                != 1) {
            throw arguments.wrong("give either --texts FILE and --tokenizer FILE, or --images FOLDER, or --inputs FILE, or --random N");
        }
        if ((arguments.value(of) == null) != (given.tokenizer == null)) {
            throw arguments.wrong("--" + of + " and --tokenizer go together");
        }
        if (given.folder == null && !given.images.equals(Images.DEFAULT)) {
            throw arguments.wrong("--preprocessor and --image go with --images");
        }
        if (given.random == 0 && !given.shapes.isEmpty()) {
            throw arguments.wrong("--shape goes with --random");
        }
        return given;
    }

    /** Files and folders as they were given. */
    List<Path> given() {
        return Stream.concat(inputs.stream(), Stream.of(texts, tokenizer, folder, preprocessor).filter(Objects::nonNull)).toList();
    }

    /** Files and folders that are read, and all that is in these. */
    List<Path> files() throws IOException {
        List<Path> all = new ArrayList<>();
        for (Path file : given()) {
            all.add(file);
            if (Files.isDirectory(file)) {
                try (Stream<Path> within = Files.walk(file, 2)) { // test_data_set_0/input_0.pb
                    within.skip(1).sorted().forEach(all::add);
                } catch (UncheckedIOException e) {
                    throw e.getCause();
                }
            }
        }
        return all;
    }

    /** @throws UsageException if there are none, though a file of them was given */
    List<String> lines(Arguments arguments) throws IOException {
        return lines(arguments, "texts", texts);
    }

    /**
     * Those lines of a file that are not blank, without the mark by which some editors say that it is UTF-8.
     *
     * @param file of this option, or null
     * @throws UsageException if there are none in it, or it is not text
     */
    static List<String> lines(Arguments arguments, String option, Path file) throws IOException {
        if (file == null) {
            return List.of();
        }
        String text;
        try (InputStream in = Files.newInputStream(file)) {
            byte[] bytes = in.readNBytes(MOST_TEXT + 1);
            if (bytes.length > MOST_TEXT) {
                throw arguments.wrong("--" + option + " " + file + " has more than " + Text.size(MOST_TEXT));
            }
            text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
        } catch (CharacterCodingException e) {
            throw new UsageException("--" + option + " " + file + " is not UTF-8 text", e);
        }
        List<String> lines = text.substring(text.startsWith(MARK) ? 1 : 0).lines().filter(line -> !line.isBlank()).toList();
        if (lines.isEmpty()) {
            throw arguments.wrong("--" + option + " " + file + " holds no text");
        }
        return lines;
    }

    /** @param model that is run */
    Samples samples(Model model, Arguments arguments) throws IOException {
        return texts != null ? Samples.texts(lines(arguments), tokenizer)
                : folder != null ? Samples.images(folder, images)
                : !inputs.isEmpty() ? Samples.files(inputs) : Samples.random(model, random, 1, shapes);
    }

    /** What fails because of the samples is the fault of whoever gave them. */
    static <T> T run(Run<T> run) throws IOException {
        try {
            return run.run();
        } catch (InputException e) {
            throw new UsageException(e.getMessage(), e);
        } catch (OutOfMemoryError e) {
            // Nothing of the run is reached any more, so there is memory again.
            throw new UnsupportedRequestException("inputs and outputs of the models take more memory than Java may use, "
                    + Text.size(Runtime.getRuntime().maxMemory()) + " of heap (" + e.getMessage()
                    + "); TENSORPRESS_JAVA_OPTS=-Xmx8g allows more");
        }
    }

    private static Images images(Arguments arguments) throws IOException {
        Path file = arguments.path("preprocessor");
        try {
            Images images = file == null ? Images.DEFAULT : Images.read(file);
            for (String value : arguments.values("image")) {
                int equals = value.indexOf('=');
                if (equals < 1) {
                    throw arguments.wrong("--image takes KEY=VALUE, but got '" + value + "'");
                }
                images = images.set(value.substring(0, equals), value.substring(equals + 1));
            }
            return images;
        } catch (InputException e) {
            throw new UsageException(e.getMessage(), e);
        }
    }

    private static Map<String, Shape> shapes(Arguments arguments) {
        Map<String, Shape> shapes = new LinkedHashMap<>();
        for (String value : arguments.values("shape")) {
            int equals = value.lastIndexOf('='); // names of inputs may hold one
            if (equals < 1 || !value.substring(equals + 1).matches("\\d{1,9}(x\\d{1,9}){0,7}")) {
                throw arguments.wrong("--shape takes NAME=1x3x32x320, but got '" + value + "'");
            }
            long[] dims = Stream.of(value.substring(equals + 1).split("x")).mapToLong(Long::parseLong).toArray();
            try {
                if (shapes.put(value.substring(0, equals), Shape.of(dims)) != null) {
                    throw arguments.wrong("--shape " + value.substring(0, equals) + " is given twice");
                }
            } catch (ArithmeticException e) {
                throw arguments.wrong("--shape " + value + " has too many elements");
            }
        }
        return shapes;
    }
}
