package dev.tensorpress.model;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;

/** A format of models: how it is told and opened. */
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

    /** The preset for those who name none. */
    String defaultRecipe();
}
