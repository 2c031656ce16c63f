package dev.tensorpress.method;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Basis;
import dev.tensorpress.kernel.Transform;
import dev.tensorpress.model.Option;
import dev.tensorpress.tensor.DType;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Codes of the coefficients of a transform, with a step for each weight, or for some rows of it. Files hold what they decode to.
 *
 * <p>The step is chosen for each weight in one of three ways, each replacing the others. Steps of rows are larger where coefficients are: as the root of their
 * root mean square.
 *
 * @param basis of the coefficients
 * @param block of cosines
 * @param dimensions 1 for rows, 2 for rows and columns
 * @param levels of wavelets
 * @param bits entropy of a code, of which the least step is taken that has no more; 0 if the step is chosen in another way
 * @param error relative error of the coefficients, of which the largest step is taken that makes no more; 0 if the step is chosen in another way
 * @param step that all weights have; 0 if it is chosen
 * @param rows that share a step; 0 if all do
 * @param zone what is nearer to 0 than so many steps becomes 0
 * @param point where, between the ends of what has a code that is not 0, lies what it stands for: 0.5 in the middle, less is nearer to 0; 0 where the
 *     weight loses least by it
 * @param codes their type: I8 or I16
 */
public record TransformMethod(Basis basis, int block, int dimensions, int levels, double bits, double error, double step, int rows, double zone, double point,
        DType codes) implements Method {
    private static final Option KIND = new Option("kind", Option.Words.of(Basis.values()), "dct",
            "what coefficients are of: cosines, or one of three wavelets, of which cdf53 is of integers: elements are rounded, not coefficients");
    private static final Option BLOCK = new Option("block", new Option.Whole(2, Transform.LARGEST_BLOCK, 1), "8", "elements along an axis of a block of cosines");
    private static final Option DIMENSIONS = new Option("dimensions", new Option.Whole(1, 2, 1), "2", "1: along rows; 2: along columns as well");
    private static final Option LEVELS = new Option("levels", new Option.Whole(1, 16, 1), "3", "of a wavelet");
    private static final Option BITS = new Option("bits", new Option.Real(0, false, 16, true), "4.0",
            "that a code takes, by the entropy of all codes of a weight; the step is the least that takes no more");
    private static final Option ERROR = new Option("error", new Option.Real(0, false, 1, false), "",
            "relative error that the codes of a weight may make; the step is the largest that makes no more");
    private static final Option STEP = new Option("step", new Option.Real(0, false, Double.POSITIVE_INFINITY, false), "",
            "of the codes of all weights; where they would not fit it is the least with which they do");
    private static final Option ZONE = new Option("zone", new Option.Real(0.5, true, 1, true), "0.5",
            "what is nearer to 0 than so many steps becomes 0; 0.5 is rounding");
    private static final Option ROWS = new Option("rows", new Option.Whole(0, Integer.MAX_VALUE, 1), "0",
            "of the matrix of coefficients that share a step, which is stored in four bytes; 0: all");
    private static final Option POINT = new Option("point", new Option.Real(0, false, 0.5, true), "",
            "where, between the ends of what has a code that is not 0, lies what it stands for: 0.5 is the middle, less is nearer to 0;"
                    + " if left out, where the weight loses least by it");
    private static final Option CODES = new Option("codes", new Option.Words(List.of("int8", "int16")), "int8", "type of the codes");
    private static final List<String> AMOUNTS = List.of("bits", "error", "step");
    static final List<Option> OPTIONS = List.of(KIND, BLOCK, DIMENSIONS, LEVELS, BITS, ERROR, STEP, ROWS, ZONE, POINT, CODES);

    public TransformMethod {
        BLOCK.checked(block);
        DIMENSIONS.checked(dimensions);
        LEVELS.checked(levels);
        ROWS.checked(rows);
        ZONE.checked(zone);
        if (point != 0) {
            POINT.checked(point);
        }
        if ((bits > 0 ? 1 : 0) + (error > 0 ? 1 : 0) + (step > 0 ? 1 : 0) != 1 || codes != DType.I8 && codes != DType.I16) {
            throw new IllegalArgumentException("transform needs one of bits, error and step above 0, and codes of int8 or int16");
        }
        if (bits > 0) {
            BITS.checked(bits);
        } else if (error > 0) {
            ERROR.checked(error);
        } else {
            STEP.checked(step);
        }
    }

    /** So many bits of each code, all else as it is by default. */
    public static TransformMethod of(Basis basis, double bits) {
        return new TransformMethod(basis, 8, 2, 3, bits, 0, 0, 0, 0.5, 0, DType.I8);
    }

    static Method of(Map<String, String> given) {
        List<String> amounts = new ArrayList<>(given.keySet());
        amounts.retainAll(AMOUNTS);
        if (amounts.size() > 1) {
            throw new OptionException(amounts.get(1), "'" + amounts.getFirst() + "' and '" + amounts.get(1) + "' exclude each other: both say the step");
        }
        return Methods.with(of(Basis.DCT, 4), given);
    }

    @Override
    public String name() {
        return "transform";
    }

    @Override
    public List<Option> options() {
        return OPTIONS;
    }

    @Override
    public boolean uses(String option) {
        return switch (option) {
            case "block" -> basis == Basis.DCT;
            case "levels" -> basis != Basis.DCT;
            case "kind", "dimensions", "bits", "error", "step", "rows", "zone", "point", "codes" -> true;
            default -> false;
        };
    }

    @Override
    public String get(String option) {
        return switch (option) {
            case "kind" -> basis.id();
            case "block" -> Integer.toString(block);
            case "dimensions" -> Integer.toString(dimensions);
            case "levels" -> Integer.toString(levels);
            case "bits" -> bits > 0 ? Double.toString(bits) : null;
            case "error" -> error > 0 ? Double.toString(error) : null;
            case "step" -> step > 0 ? Double.toString(step) : null;
            case "rows" -> Integer.toString(rows);
            case "zone" -> Double.toString(zone);
            case "point" -> point > 0 ? Double.toString(point) : null;
            case "codes" -> "int" + codes.bits();
            default -> null;
        };
    }

    @Override
    public Method with(String option, String value) {
        return switch (option) {
            case "kind" -> new TransformMethod(Basis.values()[KIND.word(value)], block, dimensions, levels, bits, error, step, rows, zone, point, codes);
            case "block" -> new TransformMethod(basis, (int) BLOCK.whole(value), dimensions, levels, bits, error, step, rows, zone, point, codes);
            case "dimensions" -> new TransformMethod(basis, block, (int) DIMENSIONS.whole(value), levels, bits, error, step, rows, zone, point, codes);
            case "levels" -> new TransformMethod(basis, block, dimensions, (int) LEVELS.whole(value), bits, error, step, rows, zone, point, codes);
            case "bits" -> new TransformMethod(basis, block, dimensions, levels, BITS.real(value), 0, 0, rows, zone, point, codes);
            case "error" -> new TransformMethod(basis, block, dimensions, levels, 0, ERROR.real(value), 0, rows, zone, point, codes);
            case "step" -> new TransformMethod(basis, block, dimensions, levels, 0, 0, STEP.real(value), rows, zone, point, codes);
            case "rows" -> new TransformMethod(basis, block, dimensions, levels, bits, error, step, (int) ROWS.whole(value), zone, point, codes);
            case "zone" -> new TransformMethod(basis, block, dimensions, levels, bits, error, step, rows, ZONE.real(value), point, codes);
            case "point" -> new TransformMethod(basis, block, dimensions, levels, bits, error, step, rows, zone, POINT.real(value), codes);
            case "codes" -> new TransformMethod(basis, block, dimensions, levels, bits, error, step, rows, zone, point,
                    CODES.word(value) == 0 ? DType.I8 : DType.I16);
            default -> null;
        };
    }

    @Override
    public Prepared prepare(Evidence evidence) {
        return new PreparedTransform(this);
    }

    Form.Transformed form() {
        boolean cosines = basis == Basis.DCT;
        return new Form.Transformed(basis, cosines ? block : 0, dimensions, cosines ? 0 : levels, rows, codes);
    }
}
