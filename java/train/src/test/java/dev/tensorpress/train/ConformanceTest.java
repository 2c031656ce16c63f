package dev.tensorpress.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.engine.EngineException;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import ai.djl.training.GradientCollector;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableModel;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.model.onnx.OnnxModel;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** ONNX's own conformance tests, as Debian's package libonnx-testdata installs them: what a network computes is what operators compute. */
class ConformanceTest {
    private static final Path DATA = Path.of("/usr/share/libonnx-testdata/data");

    @TempDir
    Path folder;

    private int same;
    private int derived;
    private int bent;
    private final List<String> wrong = new ArrayList<>();
    private final Map<String, Integer> unknown = new LinkedHashMap<>();

    @Test
    void networksComputeWhatOperatorsDo() throws IOException {
        boolean there = Files.isDirectory(DATA);
        if (System.getProperty("tensorpress.require", "").contains("onnx-testdata")) {
            assertTrue(there, "onnx-testdata is required, but " + DATA + " does not exist");
        }
        Assumptions.assumeTrue(there, "onnx-testdata: " + DATA + " does not exist (Debian package libonnx-testdata)");
        List<Path> models; // without those whose bf16 are written as integers of 16 bits
        try (Stream<Path> all = Files.walk(DATA)) {
            models = all.filter(p -> p.endsWith("model.onnx") && !p.toString().contains("BFLOAT16") && Files.isDirectory(p.resolveSibling("test_data_set_0"))).sorted().toList();
        }
        for (Path model : models) {
            check(model);
        }
        System.out.println("onnx-testdata: " + models.size() + " models, " + same + " computed, " + derived + " derivatives (" + bent + " at kinks left out), not trained: " + unknown);
        assertEquals(List.of(), wrong);
        assertTrue(same >= 580, same + " of " + models.size());
        assertTrue(derived >= 380, derived + " derivatives");
    }

    private void check(Path file) throws IOException {
        String name = file.getParent().getFileName().toString();
        Path data = file.resolveSibling("test_data_set_0");
        try (OnnxModel model = OnnxModel.open(file, false); Arena arena = Arena.ofConfined()) {
            EditableModel editable = EditableModel.of(model, arena);
            List<String> ins = editable.graph().inputs().keySet().stream().filter(n -> !editable.graph().initializers().containsKey(n)).toList();
            List<String> outs = List.copyOf(editable.graph().outputs().keySet());
            try (Network network = Network.of(editable); NDManager scope = network.scope()) {
                Map<String, NDArray> inputs = new LinkedHashMap<>();
                for (int i = 0; i < ins.size(); i++) {
                    NDArray a = tensor(data.resolve("input_" + i + ".pb"), scope);
                    if (a != null) {
                        inputs.put(ins.get(i), a);
                    }
                }
                Map<String, NDArray> got = network.run(scope, inputs, outs);
                for (int i = 0; i < outs.size(); i++) {
                    NDArray expected = tensor(data.resolve("output_" + i + ".pb"), scope);
                    compare(name + " " + outs.get(i), expected, got.get(outs.get(i)));
                }
                same++;
                gradients(name, network, scope, inputs, outs, input -> editable.graph().nodes().stream()
                        .allMatch(n -> IntStream.range(0, n.inputs().size()).allMatch(i -> !n.input(i).equals(input) || Operators.trains(n, i))));
            } catch (UnsupportedRequestException e) {
                unknown.merge(reason(e.getMessage()), 1, Integer::sum);
                if (e.getCause() != null) {
                    wrong.add(name + ": " + e.getMessage());
                }
            } catch (MalformedModelException e) {
                unknown.merge("operands that are no tensors", 1, Integer::sum);
            } catch (RuntimeException e) {
                wrong.add(name + ": " + e);
            }
        } catch (MalformedModelException | UnsupportedRequestException e) {
            unknown.merge(e.getClass().getSimpleName(), 1, Integer::sum);
        }
    }

    /** Along one direction of all inputs, in f64, against differences. */
    private void gradients(String name, Network network, NDManager scope, Map<String, NDArray> inputs, List<String> outs,
            Predicate<String> trains) {
        Map<String, NDArray> at = new LinkedHashMap<>();
        Map<String, NDArray> along = new LinkedHashMap<>();
        inputs.forEach((input, x) -> {
            boolean floating = x.getDataType() == DataType.FLOAT32 && x.size() > 0 && trains.test(input);
            at.put(input, x.getDataType() == DataType.FLOAT32 ? x.toType(DataType.FLOAT64, true) : x);
            if (floating) {
                at.get(input).setRequiresGradient(true);
                double[] direction = new double[(int) x.size()];
                for (int i = 0; i < direction.length; i++) {
                    direction[i] = Math.sin(1 + 3 * i);
                }
                along.put(input, scope.create(direction, x.getShape()));
            }
        });
        if (along.isEmpty()) {
            return;
        }
        Map<String, NDArray> wide = new LinkedHashMap<>();
        network.parameters().forEach(p -> wide.put(p, network.parameter(p).toType(DataType.FLOAT64, true)));
        double found = 0;
        try (GradientCollector collector = Engines.engine().newGradientCollector()) {
            NDArray loss = loss(network.run(scope, at, wide, outs));
            if (loss == null) {
                return;
            }
            collector.backward(loss);
        } catch (EngineException e) {
            if (e.getMessage().contains("does not require grad")) {
                return; // nothing of it depends on numbers
            }
            throw e;
        }
        for (Map.Entry<String, NDArray> e : along.entrySet()) {
            NDArray gradient = at.get(e.getKey()).getGradient();
            found += gradient == null ? 0 : gradient.mul(e.getValue()).sum().getDouble();
        }
        double step = 1e-6;
        double[] losses = new double[3];
        for (int i = 0; i < 3; i++) {
            double by = (i - 1) * step;
            Map<String, NDArray> moved = new LinkedHashMap<>(at);
            along.forEach((input, direction) -> moved.put(input, at.get(input).stopGradient().add(direction.mul(by))));
            losses[i] = loss(network.run(scope, moved, wide, outs)).getDouble();
        }
        double expected = (losses[2] - losses[0]) / (2 * step);
        double bend = (losses[2] - 2 * losses[1] + losses[0]) / step;
        double size = Math.max(1, Math.abs(expected));
        if (!(Math.abs(bend) <= 1e-3 * size) || Math.abs(expected) > 1e5) {
            bent++; // a kink, a jump, a number that is not there, or rounding to f32 in between
        } else if (Math.abs(found - expected) <= 1e-5 * size) {
            derived++;
        } else {
            wrong.add(name + ": derivative " + found + ", by differences " + expected);
        }
    }

    /** Null if nothing of it is differentiable. */
    private static NDArray loss(Map<String, NDArray> results) {
        NDArray loss = null;
        for (NDArray y : results.values()) {
            if (y.getDataType().isFloating() && y.size() > 0) {
                double[] weights = new double[(int) y.size()];
                for (int i = 0; i < weights.length; i++) {
                    weights[i] = Math.cos(2 + 5 * i);
                }
                NDArray one = y.toType(DataType.FLOAT64, false).mul(y.getManager().create(weights, y.getShape())).sum();
                loss = loss == null ? one : loss.add(one);
            }
        }
        return loss;
    }

    private static String reason(String message) {
        int at = message.lastIndexOf('(');
        return at >= 0 ? message.substring(at).replaceAll("[(), ].*?and.*", "") : message;
    }

    private void compare(String what, NDArray expected, NDArray got) {
        if (!expected.getShape().equals(got.getShape())) {
            wrong.add(what + ": " + got.getShape() + ", expected " + expected.getShape());
            return;
        }
        if (expected.size() == 0) {
            return;
        }
        double[] e = expected.toType(DataType.FLOAT64, false).toDoubleArray();
        double[] g = got.toType(DataType.FLOAT64, false).toDoubleArray();
        for (int i = 0; i < e.length; i++) {
            if (!(Math.abs(e[i] - g[i]) <= 1e-5 + 2e-3 * Math.abs(e[i])) && !(Double.isNaN(e[i]) && Double.isNaN(g[i])) && e[i] != g[i]) {
                wrong.add(what + ": element " + i + " is " + g[i] + ", expected " + e[i]);
                return;
            }
        }
    }

    /** A TensorProto as the initializer of a model that has nothing else; null of sequences and the like. */
    private NDArray tensor(Path file, NDManager scope) throws IOException {
        byte[] named = Protobuf.concat(Files.readAllBytes(file), Protobuf.field(8, "x"));
        Path alone = Files.write(folder.resolve("x.onnx"), Protobuf.model(Protobuf.field(5, named)));
        try (OnnxModel model = OnnxModel.open(alone, false); Arena arena = Arena.ofConfined()) {
            EditableTensor t = EditableModel.of(model, arena).graph().initializers().get("x");
            return Tensors.array(scope, file.toString(), t);
        }
    }
}
