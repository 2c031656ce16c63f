package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * Values that elements share by a hash of their position, chosen by least squares (HashedNets, Chen et al. 2015). Files hold what they decode to.
 * Of a trained weight they leave one part of its squares in as many as elements share a value: they are a start for training.
 *
 * @param ratio bytes of a weight for each byte of values
 * @param type of the values: f32 or f16
 * @param seed of the hash
 */
public record HashMethod(double ratio, DType type, long seed) implements Method {
    private static final Option RATIO = new Option("ratio", new Option.Real(1, false, 1_000_000, true), "8.0", "bytes of a weight for each byte of values");
    private static final Option SEED = new Option("seed", new Option.Whole(0, Integer.MAX_VALUE, 1), "0", "of the hash");
    private static final Option VALUES = new Option("values", new Option.Words(List.of("f16", "f32")), "f16",
            "their type: in the same bytes there are twice as many of f16, which gains far more than rounding loses");
    static final List<Option> OPTIONS = List.of(RATIO, VALUES, SEED);

    /** Values in f16, with the seed 0. */
    public static HashMethod of(double ratio) {
        return new HashMethod(ratio, DType.F16, 0);
    }

    public HashMethod {
        RATIO.checked(ratio);
        VALUES.word(id(type));
        SEED.checked(seed);
    }

    static Method of(Map<String, String> given) {
        return Methods.with(of(8), given);
    }

    private static String id(DType type) {
        return type.name().toLowerCase(Locale.ROOT);
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
        return get(option) != null;
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "ratio" -> Double.toString(ratio);
            case "values" -> id(type);
            case "seed" -> Long.toString(seed);
            default -> null;
        };
    }

    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "ratio" -> new HashMethod(RATIO.real(value), type, seed);
            case "values" -> new HashMethod(ratio, VALUES.word(value) == 0 ? DType.F16 : DType.F32, seed);
            case "seed" -> new HashMethod(ratio, type, SEED.whole(value));
            default -> null;
        };
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return new PreparedHash(this);
    }

    Form.Hashed form(Weight weight) {
        long values = (long) (weight.tensor().bytes() / ratio / type.bytes(1));
        return new Form.Hashed(Math.max(1, Math.min(Integer.MAX_VALUE, values)), (int) seed, type);
    }
}
