package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import java.util.List;
import java.util.Map;

/**
 * Values that elements share by a hash of their position, chosen by least squares (HashedNets, Chen et al. 2015). Files hold what they decode to.
 * Of a trained model it leaves one part in {@code ratio} of a weight's squares: it is a start for training.
 *
 * @param ratio bytes of a weight for each byte of values
 * @param seed of the hash
 */
public record HashMethod(double ratio, long seed) implements Method {
    private static final Option RATIO = new Option("ratio", new Option.Real(1, false, 1_000_000, true), "8.0", "bytes of a weight for each byte of values");
    private static final Option SEED = new Option("seed", new Option.Whole(0, Integer.MAX_VALUE, 1), "0", "of the hash");
    static final List<Option> OPTIONS = List.of(RATIO, SEED);

    public HashMethod {
        RATIO.checked(ratio);
        SEED.checked(seed);
    }

    static Method of(Map<String, String> given) {
        return Methods.with(new HashMethod(8, 0), given);
    }

    @Override
    public String name() {
        return "hash";
    }

    @Override
    public boolean wantsTraining() {
        return true;
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return option.equals("ratio") || option.equals("seed");
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "ratio" -> Double.toString(ratio);
            case "seed" -> Long.toString(seed);
            default -> null;
        };
    }

    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "ratio" -> new HashMethod(RATIO.real(value), seed);
            case "seed" -> new HashMethod(ratio, SEED.whole(value));
            default -> null;
        };
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return new PreparedHash(this);
    }

    Form.Hashed form(Weight weight) {
        long values = (long) (weight.tensor().bytes() / ratio / DType.F32.bytes(1));
        return new Form.Hashed(Math.max(1, Math.min(Integer.MAX_VALUE, values)), (int) seed);
    }
}
