package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableTensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Map;

/** Computes values of models that have no inputs. This library knows no runtime: who wants constants computed brings one. */
@FunctionalInterface
public interface Evaluator {
    /**
     * Runs a model.
     *
     * @param model a file without inputs
     * @param values names of values that it computes, whatever outputs it has
     * @param arena for what it makes
     * @return of each value what it is; without those that are no tensors of numbers
     * @throws dev.tensorpress.model.UnsupportedRequestException if the runtime does not take the model, or fails
     * @throws IOException if the file cannot be read
     */
    Map<String, EditableTensor> evaluate(Path model, Collection<String> values, Arena arena) throws IOException;
}
