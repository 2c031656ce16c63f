package dev.tensorpress.model.archive;

import dev.tensorpress.model.Model;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.SeparableTarget;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.TargetFactory;
import dev.tensorpress.model.UnsupportedRequestException;
import java.util.List;
import java.util.Map;

/** Target {@value #NAME}: files that pruned weights are smaller in, of which {@code expand} makes what another target would have written. */
public final class SparseFiles implements TargetFactory {
    static final String NAME = "sparse";

    private final TargetFactory ordinary;

    /** @param ordinary makes the targets, each a {@link SeparableTarget}, whose files are archived */
    public SparseFiles(TargetFactory ordinary) {
        this.ordinary = ordinary;
    }

    @Override
    public String id() {
        return NAME;
    }

    /** {@inheritDoc} What the ordinary target can be. */
    @Override
    public List<Option> options() {
        return ordinary.options();
    }

    @Override
    public Target create(Model model, Map<String, String> options) {
        SeparableTarget target = (SeparableTarget) ordinary.create(model, options);
        target.obstacle().ifPresent(obstacle -> {
            throw new UnsupportedRequestException("target '" + NAME + "' takes models in one file, and " + obstacle + "; target '"
                    + ordinary.id() + "' takes it");
        });
        return new ArchiveTarget(model, target);
    }
}
