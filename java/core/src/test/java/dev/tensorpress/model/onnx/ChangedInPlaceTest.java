package dev.tensorpress.model.onnx;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.Selector;
import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.method.Evidence;
import dev.tensorpress.method.Method;
import dev.tensorpress.method.Prepared;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.safetensors.SmallFolder;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A method may change elements, and neither their type nor their number: that saves no byte, and is written all the same. */
class ChangedInPlaceTest {
    /** Turns signs. */
    private record Negate() implements Method, Prepared {
        @Override
        public String name() {
            return "negate";
        }

        @Override
        public List<Option> options() {
            return List.of();
        }

        @Override
        public String get(String option) {
            return null;
        }

        @Override
        public boolean uses(String option) {
            return false;
        }

        @Override
        public Method with(String option, String value) {
            return null;
        }

        @Override
        public Prepared prepare(Evidence evidence) {
            return this;
        }

        @Override
        public Method method() {
            return this;
        }

        @Override
        public Form plan(Weight weight, Form current) {
            return current;
        }

        @Override
        public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
            Tensor t = weight.tensor();
            MemorySegment out = workspace.take(Workspace.Slot.MASKED, t.bytes());
            for (long at = 0; at < t.bytes(); at += 4) {
                out.set(ValueLayout.JAVA_FLOAT_UNALIGNED, at, -t.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, at));
            }
            return new Encoding.Dense(new Tensor(t.dtype(), t.shape(), out));
        }
    }

    private static final Recipe RECIPE = new Recipe("negate", "",
            List.of(new Recipe.Step("negate", new Selector(Set.of(), List.of("*w*"), 0), new Negate())), List.of(), Map.of());

    @TempDir
    Path folder;

    private static void check(Path in, Path out, String target, long weights) throws Exception {
        try (Compressor c = Compressor.open(in)) {
            Plan plan = c.plan(RECIPE.target(target));
            assertEquals(weights, plan.compressed());
            Report report = c.compress(plan, out);
            assertEquals(2, report.relativeError(), 1e-6);
            assertEquals(plan.after(), report.bytesAfter());
            try (Compressor again = Compressor.open(out)) {
                Model changed = again.model();
                assertEquals(c.model().weights().size(), changed.weights().size());
                for (Weight w : c.model().weights()) {
                    Weight now = changed.weights().stream().filter(x -> x.name().equals(w.name())).findFirst().orElseThrow();
                    float sign = w.name().contains("w") ? -1 : 1;
                    for (long at = 0; at < w.tensor().bytes(); at += 4) {
                        assertEquals(sign * w.tensor().data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, at),
                                now.tensor().data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, at), w.name());
                    }
                }
            }
        }
    }

    @Test
    void inOnnx() throws Exception {
        TestModel m = TestModel.of(8, 17);
        m.graph.node("MatMul", "h", "x", "w").node("Add", "y", "h", "b").init("w", DType.F32, TestModel.random(1, 64 * 64), 64, 64)
                .init("b", DType.F32, TestModel.random(2, 64), 64).input("x", 1, -1, 64).output("y", 1, -1, 64);
        Path in = m.write(folder, "in.onnx");
        for (String target : List.of("onnxruntime", "onnx")) {
            Path out = folder.resolve(target + ".onnx");
            check(in, out, target, 1);
            assertEquals(Files.size(in), Files.size(out));
        }
    }

    @Test
    void inSafetensors() throws Exception {
        Path in = new SmallFolder(1).add("model.layers.0.mlp.down_proj.weight", DType.F32, 64, 64)
                .add("model.norm.bias", DType.F32, 64).write(folder.resolve("in"), 1);
        check(in, folder.resolve("out"), "", 1);
    }
}
