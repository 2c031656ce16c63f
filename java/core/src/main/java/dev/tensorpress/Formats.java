package dev.tensorpress;

import dev.tensorpress.model.Format;
import dev.tensorpress.model.onnx.OnnxFormat;
import dev.tensorpress.model.safetensors.SafetensorsFormat;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** All formats of models that can be read. */
public final class Formats {
    /** In the order in which they are asked whether a path is theirs. */
    public static final List<Format> ALL = List.of(new SafetensorsFormat(), new OnnxFormat());

    private Formats() {}

    /** The first that takes the path for one of its models. */
    static Format of(Path path) throws IOException {
        for (Format format : ALL) {
            if (format.detect(path)) {
                return format;
            }
        }
        throw new IllegalStateException("the last format takes what no other does");
    }
}
