package dev.tensorpress;

import dev.tensorpress.model.Model;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import java.util.Map;

/** Targets without a recipe. */
public final class Targets {
    private Targets() {}

    /** @param name empty for the format's first target */
    public static Target of(Model model, String name, Map<String, String> options) {
        for (Formats.Entry entry : Formats.ALL) {
            if (entry.format().id().equals(model instanceof SafetensorsModel ? "safetensors" : "onnx")) {
                return entry.target(model, name, options);
            }
        }
        throw new IllegalArgumentException(model.getClass() + " is of no format");
    }
}
