package dev.tensorpress.model;

import java.util.List;
import java.util.Map;

/** Makes one kind of target for models of a format. */
public interface TargetFactory {
    /** The target's name, such as {@code onnxruntime}. */
    String id();

    /** What it can be told. */
    List<Option> options();

    /**
     * A target for one model.
     *
     * @param model of the format that this is registered for
     * @param options settings of the lowering, such as {@code accuracy-level}
     * @throws UnknownNameException if there is no such option
     * @throws IllegalArgumentException if a value of an option does not fit
     * @throws UnsupportedRequestException if the target does not take this model
     */
    Target create(Model model, Map<String, String> options);
}
