package dev.tensorpress;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

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

    /** What the target stores where this is wanted. */
    public static Form accept(Target target, Weight weight, Form wanted) {
        return target.lower(weight, wanted).form();
    }

    public static Map<Weight, Lowering> lower(Target target, Map<Weight, ? extends Form> forms) {
        Map<Weight, Lowering> lowerings = new LinkedHashMap<>();
        forms.forEach((weight, form) -> lowerings.put(weight, target.lower(weight, form)));
        return lowerings;
    }

    public static long size(Target target, Map<Weight, ? extends Form> forms) {
        return target.size(lower(target, forms));
    }

    public static Set<Path> write(Target target, Map<Weight, ? extends Form> forms, Target.Encoder encoder, Destination to)
            throws IOException {
        return target.write(lower(target, forms), encoder, to);
    }

    /** What the weights that change are encoded to. */
    public static Map<Weight, Form> forms(Plan plan) {
        Map<Weight, Form> forms = new LinkedHashMap<>();
        plan.lowerings().forEach((weight, lowering) -> forms.put(weight, lowering.form()));
        return forms;
    }
}
