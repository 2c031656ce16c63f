package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableNode;
import java.util.Arrays;
import java.util.Map;
import java.util.Set;

/** Names of operators that do alike. */
final class Operators {
    static final String MICROSOFT = "com.microsoft";

    /** One operand, each element alone; what other operands they have are scalars. */
    private static final Set<String> UNARY = Set.of("Identity", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish",
            "Swish", "Mish", "Softplus", "Softsign", "Tanh", "ThresholdedRelu", "Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Abs", "Floor", "Ceil",
            "Round", "Sign", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Not", "BitwiseNot", "IsNaN", "IsInf",
            "Cast", "CastLike", "Clip", "Dropout", "Shrink");
    private static final Set<String> UNARY_OF_MICROSOFT = Set.of("Gelu", "QuickGelu", "FastGelu", "BiasGelu");

    /**
     * An operator that does what one of the standard does, with operands in other places.
     *
     * @param to the other one
     * @param operands which inputs the other one's are, in its order; the first of them if there may be any number, and then each third
     * @param made inputs that have a number for each index that a product makes, or one for all, as all have that are named nowhere here
     * @param rows the same of the indices of the first operand that a product leaves
     */
    private record Alike(String to, int[] operands, int[] made, int[] rows) {
        static Alike of(String to, int... operands) {
            return new Alike(to, operands, new int[0], new int[0]);
        }

        Alike made(int... inputs) {
            return new Alike(to, operands, inputs, rows);
        }

        Alike rows(int... inputs) {
            return new Alike(to, operands, made, inputs);
        }
    }

    private static final String JOINED_CODES = "com.microsoft.QLinearConcat";

    /** By their key: of codes, and what runtimes fuse. */
    private static final Map<String, Alike> ALIKE = Map.ofEntries(
            Map.entry("ConvInteger", Alike.of("Conv", 0, 1).made(3)),
            Map.entry("QLinearConv", Alike.of("Conv", 0, 3, 8).made(4, 5)),
            Map.entry("com.microsoft.FusedConv", Alike.of("Conv", 0, 1, 2, 3)),
            Map.entry("MatMulInteger", Alike.of("MatMul", 0, 1).made(3).rows(2)),
            Map.entry("QLinearMatMul", Alike.of("MatMul", 0, 3).made(4, 5).rows(1, 2)),
            Map.entry("com.microsoft.MatMulIntegerToFloat", Alike.of("MatMul", 0, 1).made(3, 5, 6)),
            Map.entry("com.microsoft.DynamicQuantizeMatMul", Alike.of("MatMul", 0, 1).made(2, 3, 4)),
            Map.entry("com.microsoft.FusedMatMul", Alike.of("MatMul", 0, 1)),
            Map.entry("com.microsoft.FusedGemm", Alike.of("Gemm", 0, 1, 2)),
            Map.entry("com.microsoft.QGemm", Alike.of("Gemm", 0, 3, 6).made(4, 5)),
            Map.entry("com.microsoft.QAttention", Alike.of("com.microsoft.Attention", 0, 1, 2, 5).made(4, 7)),
            Map.entry("com.microsoft.QLinearAdd", Alike.of("Add", 0, 3)),
            Map.entry("com.microsoft.QLinearMul", Alike.of("Mul", 0, 3)),
            Map.entry("com.microsoft.QLinearWhere", Alike.of("Where", 0, 1, 4)),
            Map.entry("com.microsoft.QLinearSigmoid", Alike.of("Sigmoid", 0)),
            Map.entry("com.microsoft.QLinearLeakyRelu", Alike.of("LeakyRelu", 0)),
            Map.entry("com.microsoft.QLinearSoftmax", Alike.of("Softmax", 0)),
            Map.entry("com.microsoft.QLinearAveragePool", Alike.of("AveragePool", 0)),
            Map.entry("com.microsoft.QLinearGlobalAveragePool", Alike.of("GlobalAveragePool", 0)),
            Map.entry(JOINED_CODES, Alike.of("Concat", 2)));
    /** Operands of any number, element by element, of shapes that are made equal. */
    private static final Set<String> ELEMENTWISE = Set.of("Add", "Sub", "Mul", "Div", "Pow", "Mod", "BitShift", "PRelu", "And", "Or", "Xor", "Equal", "Less",
            "LessOrEqual", "Greater", "GreaterOrEqual", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Where", "Sum", "Max", "Min", "Mean");
    private static final Set<String> REDUCTIONS = Set.of("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin",
            "ReduceProd", "ReduceLogSum", "ReduceLogSumExp");
    private static final Set<String> POOLS = Set.of("MaxPool", "AveragePool", "LpPool");
    private static final Set<String> GLOBAL_POOLS = Set.of("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool");
    private static final Set<String> RECURRENT = Set.of("LSTM", "GRU", "RNN");
    private static final Set<String> SOFTMAX = Set.of("Softmax", "LogSoftmax", "Hardmax", "LpNormalization");

    private Operators() {}

    /** Whether it is one of the standard's. */
    static boolean standard(EditableNode n) {
        return n.domain().isEmpty() || n.domain().equals("ai.onnx");
    }

    private static String full(EditableNode n) {
        return standard(n) ? n.type() : n.domain() + "." + n.type();
    }

    /** Its name in a switch: the standard's as they are, others behind their domain; of one that does what another one does, that one's. */
    static String key(EditableNode n) {
        String name = full(n);
        Alike alike = ALIKE.get(name);
        return alike == null ? name : alike.to;
    }

    /** The number of the input that is an operand of {@link #key}, which has its own order of them. */
    static int operand(EditableNode n, int i) {
        Alike alike = ALIKE.get(full(n));
        if (alike == null) {
            return i;
        }
        boolean many = full(n).equals(JOINED_CODES);
        return many ? alike.operands[0] + 3 * i : i < alike.operands.length ? alike.operands[i] : n.inputs().size();
    }

    /** How many of its inputs are operands of {@link #key}, those that are left out at the end among them. */
    static int operands(EditableNode n) {
        Alike alike = ALIKE.get(full(n));
        return alike == null ? n.inputs().size() : full(n).equals(JOINED_CODES) ? (n.inputs().size() - 1) / 3 : alike.operands.length;
    }

    /** What an input that is no operand has numbers for. */
    enum Numbers { ONE, MADE, ROWS, OPERAND }

    /** What an input is. */
    static Numbers numbers(EditableNode n, int input) {
        Alike alike = ALIKE.get(full(n));
        boolean many = full(n).equals(JOINED_CODES);
        return alike == null || (many ? input > 1 && input % 3 == 2 : has(alike.operands, input)) ? Numbers.OPERAND
                : has(alike.made, input) ? Numbers.MADE : has(alike.rows, input) ? Numbers.ROWS : Numbers.ONE;
    }

    private static boolean has(int[] all, int one) {
        return Arrays.stream(all).anyMatch(i -> i == one);
    }

    static boolean unary(EditableNode n) {
        return UNARY.contains(key(n)) || n.domain().equals(MICROSOFT) && UNARY_OF_MICROSOFT.contains(n.type());
    }

    static boolean elementwise(EditableNode n) {
        return ELEMENTWISE.contains(key(n));
    }

    static boolean reduction(EditableNode n) {
        return REDUCTIONS.contains(key(n));
    }

    static boolean pool(EditableNode n) {
        return POOLS.contains(key(n)) && n.integer("channels_last", 0) == 0;
    }

    static boolean globalPool(EditableNode n) {
        return GLOBAL_POOLS.contains(key(n)) && n.integer("channels_last", 0) == 0;
    }

    static boolean recurrent(EditableNode n) {
        return RECURRENT.contains(key(n));
    }

    static boolean softmax(EditableNode n) {
        return SOFTMAX.contains(key(n));
    }

    /** What messages call it. */
    static String name(EditableNode n) {
        return n.domain().isEmpty() ? n.type() : n.domain() + "." + n.type();
    }
}
