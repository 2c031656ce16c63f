package dev.tensorpress;

import dev.tensorpress.model.Format;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.TargetFactory;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.compressedtensors.CompressedTensors;
import dev.tensorpress.model.onnx.OnnxFormat;
import dev.tensorpress.model.onnx.OnnxTargets;
import dev.tensorpress.model.safetensors.SafetensorsFormat;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** All formats of models that can be read, each with the targets that its models can be compressed for. */
public final class Formats {
    /** In the order in which they are asked whether a path is theirs. */
    public static final List<Entry> ALL = List.of(
            new Entry(new SafetensorsFormat(), List.of(new CompressedTensors())),
            new Entry(new OnnxFormat(), List.of(OnnxTargets.ONNXRUNTIME, OnnxTargets.ONNX)));

    private Formats() {}

    /**
     * A format and its targets.
     *
     * @param targets the first is the one for those who name none
     */
    public record Entry(Format format, List<TargetFactory> targets) {
        public Entry {
            targets = List.copyOf(targets);
        }

        /** What the targets are called, in their order. */
        public List<String> names() {
            List<String> names = new ArrayList<>();
            for (TargetFactory target : targets) {
                names.add(target.id());
            }
            return names;
        }

        /** What any of the targets can be told. */
        public List<Option> options() {
            Set<Option> all = new LinkedHashSet<>();
            for (TargetFactory target : targets) {
                all.addAll(target.options());
            }
            return List.copyOf(all);
        }

        /**
         * The target that a model is to be compressed for.
         *
         * @param model of this format
         * @param name empty for the first target
         * @param options as in {@link TargetFactory#create}
         * @throws UnknownNameException if there is no such target, or it has no such option
         * @throws IllegalArgumentException as {@link TargetFactory#create}
         * @throws dev.tensorpress.model.UnsupportedRequestException as {@link TargetFactory#create}
         */
        Target target(Model model, String name, Map<String, String> options) {
            for (TargetFactory target : targets) {
                if (name.isEmpty() || name.equals(target.id())) {
                    return target.create(model, options);
                }
            }
            throw new UnknownNameException(format.displayName() + " models have no target '" + name + "'", name, names());
        }
    }

    /** The first whose format takes the path for one of its models. */
    static Entry of(Path path) throws IOException {
        for (Entry entry : ALL) {
            if (entry.format.detect(path)) {
                return entry;
            }
        }
        throw new IllegalStateException("the last format takes what no other does");
    }
}
