package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.model.Model;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.TargetFactory;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import java.util.List;
import java.util.Map;

/** Target {@value #NAME} for models in safetensors, which are not compressed yet. */
public final class CompressedTensors implements TargetFactory {
    static final String NAME = "compressed-tensors";

    /** Bytes, measured with 200,000 to 700,000 tensors. */
    private static final long HEAP_PER_TENSOR = 1400;

    private static final Option FORCE = new Option(CompressedTensorsTarget.FORCE, Option.Words.SWITCH, "false",
            "writes what is asked for even if no loader reads it");
    private static final Option CARD = new Option("card", Option.Words.SWITCH, "false",
            "the model's card, README.md, gets a paragraph at its end that says what was done; its metadata stay");

    /** The option; also of what expands. */
    public static final Option SHARD_SIZE = new Option("shard-size", new Option.Whole(1), "5000000000",
            "bytes of tensors that a file holds at most, unless one weight takes more");

    @Override
    public String id() {
        return NAME;
    }

    @Override
    public List<Option> options() {
        return List.of(FORCE, CARD, SHARD_SIZE);
    }

    @Override
    public Target create(Model model, Map<String, String> options) {
        SafetensorsModel m = (SafetensorsModel) model;
        Option.check(NAME, options(), options);
        m.quantization().ifPresent(method -> {
            throw new UnsupportedRequestException(m.path() + " is compressed already, by " + method
                    + (method.equals(Schemes.METHOD) ? "; tensorpress expand makes an ordinary model of it" : ""));
        });
        checkHeap(m.weights().size(), Runtime.getRuntime().maxMemory());
        return new CompressedTensorsTarget(m, FORCE.on(FORCE.in(options)), CARD.on(CARD.in(options)),
                SHARD_SIZE.whole(SHARD_SIZE.in(options)));
    }

    /** A header of 100 MB names more tensors than a plan, the checkpoints and the manifest have room for in an ordinary heap. */
    static void checkHeap(long tensors, long heap) {
        if (tensors > heap / HEAP_PER_TENSOR) {
            throw new UnsupportedRequestException("compressing " + tensors + " tensors takes some " + (tensors * HEAP_PER_TENSOR >> 20)
                    + " MB of Java heap, and there are " + (heap >> 20) + "; a larger one is set with -Xmx");
        }
    }
}
