package dev.tensorpress.structure;

import dev.tensorpress.model.onnx.EditableNode;
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

    static boolean unary(EditableNode n) {
        return standard(n) ? UNARY.contains(n.type()) : n.domain().equals(MICROSOFT) && UNARY_OF_MICROSOFT.contains(n.type());
    }

    static boolean elementwise(EditableNode n) {
        return standard(n) && ELEMENTWISE.contains(n.type());
    }

    static boolean reduction(EditableNode n) {
        return standard(n) && REDUCTIONS.contains(n.type());
    }

    static boolean pool(EditableNode n) {
        return standard(n) && POOLS.contains(n.type());
    }

    static boolean globalPool(EditableNode n) {
        return standard(n) && GLOBAL_POOLS.contains(n.type());
    }

    static boolean recurrent(EditableNode n) {
        return standard(n) && RECURRENT.contains(n.type());
    }

    static boolean softmax(EditableNode n) {
        return standard(n) && SOFTMAX.contains(n.type());
    }

    /** What messages call it. */
    static String name(EditableNode n) {
        return n.domain().isEmpty() ? n.type() : n.domain() + "." + n.type();
    }

    /** Its name in a switch: the standard's as they are, others behind their domain. */
    static String key(EditableNode n) {
        return standard(n) ? n.type() : n.domain() + "." + n.type();
    }
}
