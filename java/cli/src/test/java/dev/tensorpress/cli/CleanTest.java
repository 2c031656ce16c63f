package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.cli.MainTest.Result;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableNode;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.OnnxModel;
import dev.tensorpress.model.Destination;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CleanTest {
    @TempDir
    Path folder;

    private Path model;
    private Path out;

    /** The small model with constants that are computed, and a weight that is there twice. */
    @BeforeEach
    void write() throws IOException {
        Path small = SmallModel.write(folder.resolve("small.onnx"));
        model = folder.resolve("more.onnx");
        out = folder.resolve("out.onnx");
        try (Arena arena = Arena.ofConfined(); OnnxModel m = OnnxModel.open(small, false)) {
            EditableModel e = EditableModel.of(m, arena);
            e.graph().initializers().put("again", e.graph().initializers().get("weight"));
            e.graph().initializers().put("two", EditableTensor.of(1f, 1f));
            e.graph().nodes().get(1).outputs().set(0, "before");
            e.graph().nodes().add(new EditableNode("MatMul", "", "", List.of("before", "again"), List.of("after")));
            e.graph().nodes().add(new EditableNode("ReduceSum", "", "", List.of("two"), List.of("sum")).set("keepdims", 0));
            e.graph().nodes().add(new EditableNode("Mul", "", "", List.of("after", "sum"), List.of("y")));
            e.write(Destination.of(model));
        }
    }

    private static Result run(Object... args) {
        return MainTest.run(args);
    }

    @Test
    void cleansAndSaysWhatItDid() {
        Result r = run("clean", model, "-o", out);
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().lines().anyMatch(line -> line.matches("constants +-1 +\\+1")), r.out());
        assertTrue(r.out().lines().anyMatch(line -> line.matches("unused +0 +-2")), r.out());
        assertTrue(r.out().contains("out.onnx: "), r.out());
        assertEquals(0, run("evaluate", model, out, "--random", 2).code());
        assertEquals(0, run("clean", model, "-o", out, "--force", "--steps", "nearly-equal,unused", "--share-tolerance", "0.1").code());
        assertTrue(run("clean", model, "-o", out).err().contains("--force"));
    }

    @Test
    void wrongOptionsAreRefused() throws IOException {
        assertEquals(Main.USAGE, run("clean", model).code());
        assertTrue(run("clean", model, "-o", out, "--steps", "unusd").err().contains("unused"));
        assertEquals(Main.USAGE, run("clean", model, "-o", out, "--share-tolerance", "0.1").code());
        for (String tolerance : List.of("2", "-1", "NaN", "x")) {
            assertEquals(Main.USAGE, run("clean", model, "-o", out, "--steps", "nearly-equal", "--share-tolerance", tolerance).code(), tolerance);
        }
        assertEquals(Main.USAGE, run("clean", model, "-o", model, "--force").code());
        Path tensors = SmallModel.writeSafetensors(folder.resolve("m.safetensors"));
        for (String steps : List.of("equal", "nearly-equal,unused")) {
            Result r = run("clean", tensors, "-o", out, "--steps", steps);
            assertEquals(Main.UNSUPPORTED, r.code());
            assertTrue(r.err().contains("no graph"), r.err());
        }
        assertEquals(Main.UNSUPPORTED, run("clean", tensors, "-o", out).code());
        assertEquals(Main.USAGE, run("clean", tensors, "-o", tensors, "--steps", "nearly-equal").code());
        assertTrue(Files.notExists(out));
    }

    @Test
    void weightsOfSafetensorsAreShared() throws IOException {
        Path tensors = SmallModel.writeSafetensors(folder.resolve("m.safetensors"));
        Path shared = folder.resolve("shared");
        Result r = run("clean", tensors, "-o", shared, "--steps", "nearly-equal", "--share-tolerance", "0.001");
        assertEquals(0, r.code(), r.err());
        assertTrue(r.out().contains("shared: 0 weights became another one, 0 were"), r.out());
        assertTrue(Files.exists(shared.resolve("model.safetensors")));
        assertTrue(run("clean", tensors, "-o", shared, "--steps", "nearly-equal").err().contains("--force"));
        assertEquals(0, run("clean", tensors, "-o", shared, "--steps", "nearly-equal", "--force").code());
    }
}
