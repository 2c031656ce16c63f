package dev.tensorpress;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.Weight;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What a recipe would do to a model, before any work.
 *
 * @param bytesBefore of the model's files
 * @param bytesAfter of the files that compression would write; an upper bound if {@link #bound}
 */
public record Plan(Recipe recipe, Target target, List<Entry> entries, long bytesBefore, long bytesAfter) {

    /**
     * One weight.
     *
     * @param steps those that take it, in order; empty if it stays as it is
     * @param forms one per step: what that step makes
     * @param bytesAfter of its data in the last form
     * @param note why it stays as it is, or which other form was wanted; empty if there is nothing to say
     */
    public record Entry(Weight weight, List<Recipe.Step> steps, List<Form> forms, long bytesBefore, long bytesAfter,
            String note) {
        /** True if at least one step takes it. */
        public boolean compressed() {
            return !forms.isEmpty();
        }

        /** The form in the written file. */
        public Form form() {
            return forms.isEmpty() ? new Form.Dense(weight.tensor().dtype()) : forms.getLast();
        }
    }

    /** True if the size depends on where zeros are, which is looked at when they are written; else it is exact. */
    public boolean bound() {
        for (Entry e : entries) {
            if (e.form() instanceof Form.Sparse s && s.storage() == Form.Storage.PACKED) {
                return true;
            }
        }
        return false;
    }

    /** The oldest runtime that runs the result, such as {@code ONNX Runtime 1.23}; empty if it asks for none in particular. */
    public String requires() {
        return target.requires(forms());
    }

    /** What to know about where the result runs fast and exactly, a sentence each. */
    public List<String> remarks() {
        return target.remarks(forms());
    }

    /** The forms in the written file, of the weights that change. */
    public Map<Weight, Form> forms() {
        Map<Weight, Form> forms = new LinkedHashMap<>();
        for (Entry e : entries) {
            if (e.compressed()) {
                forms.put(e.weight(), e.form());
            }
        }
        return forms;
    }

    /** Number of weights that change. */
    public int compressed() {
        int n = 0;
        for (Entry e : entries) {
            n += e.compressed() ? 1 : 0;
        }
        return n;
    }
}
