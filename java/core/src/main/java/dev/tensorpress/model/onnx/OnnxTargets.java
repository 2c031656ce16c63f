package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Model;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.TargetFactory;
import java.util.List;
import java.util.Map;

/**
 * The targets of ONNX models.
 *
 * <p>Pruned weights keep their zeros in place, or become sparse initializers where the file gets smaller by that: initializers that
 * are no outputs and mostly zero, of models of version 6 of the format or later without data files. A stored f32 takes 12 bytes with
 * its position, so that more than two thirds must be zero; of f16 and bf16 four fifths. Runtimes make them dense when they load the
 * model. Tools that train or edit models often cannot read them: {@code sparse-initializers=false} leaves zeros in place.
 */
public enum OnnxTargets implements TargetFactory {
    /** The smallest and fastest, with operators that ONNX Runtime has besides those of ONNX. */
    ONNXRUNTIME(OnnxTarget.ONNXRUNTIME),
    /** Operators of ONNX alone. */
    ONNX(OnnxTarget.ONNX);

    private static final Option ACCURACY = new Option("accuracy-level", new Option.Whole(0, 4, 1), "",
            "MatMulNBits at this level (4: activations are rounded to eight bits), whatever activations say; not of target onnx");
    private static final Option SPARSE_INITIALIZERS = new Option("sparse-initializers", Option.Words.SWITCH, "true",
            "weights that are mostly zero become sparse initializers where that is smaller; false: zeros stay in the file");

    private final String id;

    OnnxTargets(String id) {
        this.id = id;
    }

    @Override
    public String id() {
        return id;
    }

    @Override
    public List<Option> options() {
        return this == ONNX ? List.of(SPARSE_INITIALIZERS) : List.of(ACCURACY, SPARSE_INITIALIZERS);
    }

    @Override
    public Target create(Model model, Map<String, String> options) {
        OnnxModel m = (OnnxModel) model;
        Option.check(id, options(), options);
        String level = ACCURACY.in(options);
        int accuracy = level.isEmpty() ? -1 : (int) ACCURACY.whole(level);
        boolean sparse = SPARSE_INITIALIZERS.on(SPARSE_INITIALIZERS.in(options));
        return new OnnxTarget(m, id, accuracy, sparse);
    }
}
