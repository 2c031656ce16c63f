package dev.tensorpress.model;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;

/** A format of models: how it is told, opened and written. */
public interface Format {
    /** One word for files of reports and options: {@code onnx}. */
    String id();

    /** As sentences have it: {@code ONNX}. */
    String displayName();

    /** True if the path looks like a model of this format; whether it is one only {@link #open} finds out. */
    boolean detect(Path path) throws IOException;

    /**
     * Opens a model.
     *
     * @param roles by glob over names of weights, in order: the first that fits counts, before what the reader finds
     * @param allowLinks links in the folder of the model may lead out of it
     * @throws MalformedModelException if it is not a model of this format, or a damaged one
     * @throws UnsupportedRequestException if the format takes no roles, or these do not fit the model
     * @throws IOException if it cannot be read
     */
    Model open(Path path, Map<String, Role> roles, boolean allowLinks) throws IOException;

    /** What its targets can be told. */
    List<Option> options();

    /** The preset for those who name none. */
    String defaultRecipe();

    /**
     * The runtime that the compressed model is for.
     *
     * @param model of this format
     * @param name empty for the format's default
     * @param options settings of the lowering, such as {@code accuracy-level}
     * @throws UnknownNameException if this format has no such target, or it no such option
     * @throws UnsupportedRequestException if the target does not take this model, or no such value of an option
     */
    Target target(Model model, String name, Map<String, String> options);
}
