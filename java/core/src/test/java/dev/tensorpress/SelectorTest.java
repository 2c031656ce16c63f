package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTimeout;

import dev.tensorpress.internal.Glob;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;

class SelectorTest {
    static Weight weight(String name, Role role, String use, long... dims) {
        Shape shape = Shape.of(dims);
        return new Weight(name, role, new Tensor(DType.F32, shape, MemorySegment.ofArray(
                new byte[(int) DType.F32.bytes(shape.elements())])), 0, dims.length - 1, List.of(use), Optional.empty());
    }

    @Test
    void globs() {
        String[][] yes = {{"*", ""}, {"*", "a/b"}, {"a*c", "abbc"}, {"a?c", "abc"}, {"*.bias", "x.y.bias"},
            {"*b*b*", "abab"}, {"", ""}, {"a**", "a"}};
        String[][] no = {{"?", ""}, {"a*c", "abcd"}, {"a?c", "ac"}, {"*.bias", "bias"}, {"A", "a"}, {"", "a"}};
        for (String[] c : yes) {
            assertEquals(true, Glob.matches(c[0], c[1]), c[0] + " " + c[1]);
        }
        for (String[] c : no) {
            assertEquals(false, Glob.matches(c[0], c[1]), c[0] + " " + c[1]);
        }
        // The naive backtracking glob takes longer than the universe for this one.
        assertTimeout(Duration.ofSeconds(5), () ->
                assertEquals(false, Glob.matches("*a".repeat(50) + "b", "a".repeat(5000))));
    }

    @Test
    void rolesNamesAndUsers() {
        Weight w = weight("onnx::MatMul_885", Role.LINEAR, "MatMul /layer.0/query/MatMul", 4, 4);
        assertEquals(true, new Selector(Set.of(Role.LINEAR), List.of(), 0).selects(w));
        assertEquals(false, new Selector(Set.of(Role.CONV), List.of(), 0).selects(w));
        assertEquals(true, new Selector(Set.of(), List.of("*query*"), 0).selects(w));
        assertEquals(true, new Selector(Set.of(), List.of("nothing", "onnx::*"), 0).selects(w));
        assertEquals(false, new Selector(Set.of(Role.LINEAR), List.of("*key*"), 0).selects(w));
        assertThrows(IllegalArgumentException.class, () -> new Selector(Set.of(), List.of(), -1));
    }
}
