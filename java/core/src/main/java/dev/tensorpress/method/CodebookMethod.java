package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Codebook;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/**
 * Codes into tables of values that k-means finds: of numbers, or of vectors of elements next to each other (product quantization). Zeros of a
 * pruned weight stay: they have an entry of their own.
 *
 * @param bits of a code: 1 to 8, of vectors 1 to 12
 * @param grain what has a table of its own
 * @param block outputs, or inputs, that share one; of no meaning if all do
 * @param dimension elements that a code stands for: 1, 2, 4 or 8
 * @param table type of the entries: f32 or f16
 * @param seed of the first entries of vectors
 * @param iterations of k-means at most
 * @param importance what a squared error counts
 */
public record CodebookMethod(int bits, Grain grain, int block, int dimension, DType table, long seed, int iterations,
        QuantizeMethod.Importance importance) implements Method {

    /** What has a table of its own: the whole, or so many outputs, or inputs. */
    public enum Grain { TENSOR, OUTPUTS, INPUTS }

    private static final Option BITS = new Option("bits", new Option.Whole(1, Codebook.MOST_BITS, 1), "5",
            "of a code; more than " + Codebook.MOST_SCALAR_BITS + " of vectors alone");
    private static final Option PER = new Option("per", Option.Words.of(Grain.values()), "tensor", "what has a table of its own");
    private static final Option BLOCK = new Option("block", new Option.Whole(1, 65536, 1), "64",
            "outputs, or inputs, that share a table; 1: each has its own");
    private static final Option DIMENSION = new Option("dimension", new Option.Whole(1, 8, 1), "1",
            "elements next to each other in a row that a code stands for: 1, 2, 4 or 8");
    private static final Option TABLE = new Option("table", new Option.Words(List.of("f32", "f16")), "f32",
            "type of the entries, where the target does not decide it");
    private static final Option SEED = new Option("seed", new Option.Whole(0, Integer.MAX_VALUE, 1), "0",
            "of the vectors with which k-means starts; numbers need none");
    private static final Option ITERATIONS = new Option("iterations", new Option.Whole(0, 10000, 1), "100",
            "steps of k-means at most, after which nothing moves or it ends");
    private static final Option IMPORTANCE = new Option("importance", Option.Words.of(QuantizeMethod.Importance.values()), "none",
            "what errors count: all alike, or as the squares of the inputs that meet them");
    static final List<Option> OPTIONS = List.of(BITS, PER, BLOCK, DIMENSION, TABLE, SEED, ITERATIONS, IMPORTANCE);

    public CodebookMethod {
        BITS.checked(bits);
        BLOCK.checked(block);
        DIMENSION.checked(dimension);
        if (Integer.bitCount(dimension) != 1) {
            throw DIMENSION.wrong(Integer.toString(dimension));
        }
        TABLE.word(id(table));
        SEED.checked(seed);
        ITERATIONS.checked(iterations);
    }

    /** Numbers, one table per tensor, all else as it is by default. */
    public static CodebookMethod of(int bits) {
        return new CodebookMethod(bits, Grain.TENSOR, 64, 1, DType.F32, 0, 100, QuantizeMethod.Importance.NONE);
    }

    private static String id(Enum<?> constant) {
        return constant.name().toLowerCase(Locale.ROOT);
    }

    @Override
    public String name() {
        return "codebook";
    }

    @Override
    public Set<Requirement> requires() {
        return importance == QuantizeMethod.Importance.INPUTS ? Set.of(Requirement.STATISTICS) : Set.of();
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return switch (option) {
            case "block" -> grain != Grain.TENSOR;
            case "seed" -> dimension > 1;
            case "bits", "per", "dimension", "table", "iterations", "importance" -> true;
            default -> false;
        };
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "bits" -> Integer.toString(bits);
            case "per" -> id(grain);
            case "block" -> Integer.toString(block);
            case "dimension" -> Integer.toString(dimension);
            case "table" -> id(table);
            case "seed" -> Long.toString(seed);
            case "iterations" -> Integer.toString(iterations);
            case "importance" -> id(importance);
            default -> null;
        };
    }

    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "bits" -> new CodebookMethod((int) BITS.whole(value), grain, block, dimension, table, seed, iterations, importance);
            case "per" -> new CodebookMethod(bits, Grain.values()[PER.word(value)], block, dimension, table, seed, iterations, importance);
            case "block" -> new CodebookMethod(bits, grain, (int) BLOCK.whole(value), dimension, table, seed, iterations, importance);
            case "dimension" -> new CodebookMethod(bits, grain, block, (int) DIMENSION.whole(value), table, seed, iterations, importance);
            case "table" -> new CodebookMethod(bits, grain, block, dimension, TABLE.word(value) == 0 ? DType.F32 : DType.F16, seed, iterations,
                    importance);
            case "seed" -> new CodebookMethod(bits, grain, block, dimension, table, SEED.whole(value), iterations, importance);
            case "iterations" -> new CodebookMethod(bits, grain, block, dimension, table, seed, (int) ITERATIONS.whole(value), importance);
            case "importance" -> new CodebookMethod(bits, grain, block, dimension, table, seed, iterations,
                    QuantizeMethod.Importance.values()[IMPORTANCE.word(value)]);
            default -> null;
        };
    }

    static Method of(Map<String, String> given) {
        return Methods.with(of(5), given);
    }

    @Override
    public boolean makesCodes() {
        return true;
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return new PreparedCodebook(this, evidence.statistics());
    }

    /** The form of a weight's matrix. */
    Form.Codebook form(Weight weight, int axis, boolean zero) {
        int size = axis == 1 ? Math.ceilDiv(block, dimension) * dimension : block;
        return new Form.Codebook(bits, dimension, axis, axis < 0 ? 0 : size, zero, table, false);
    }
}
