package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDArrays;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.index.NDIndex;
import ai.djl.ndarray.types.Shape;
import java.util.Arrays;
import java.util.List;

/** LSTM, GRU and RNN, step by step: f, g and h are sigmoid and tanh, as operators have them where nothing else is said. */
final class Recurrent {
    private final Operators.Call call;
    private final String type;
    private final int hidden;
    /** Inputs times weights, all steps at once: [steps, batch, gates]. */
    private NDArray fed;
    private NDArray r;
    private NDArray recurrentBias;

    private Recurrent(Operators.Call call, int hidden) {
        this.call = call;
        this.type = call.node().type();
        this.hidden = hidden;
    }

    static NDArray[] run(Operators.Call c) {
        check(c);
        boolean batchFirst = c.node().integer("layout", 0) != 0;
        NDArray x = batchFirst ? c.in(0).swapAxes(0, 1) : c.in(0);
        long steps = x.getShape().get(0);
        long batch = x.getShape().get(1);
        if (c.has(4) && Arrays.stream(c.integers(4)).anyMatch(n -> n != steps)) {
            throw c.refuse("of sequences of different lengths");
        }
        int hidden = Math.toIntExact(c.in(2).getShape().get(2));
        NDList all = new NDList();
        NDList lastH = new NDList();
        NDList lastC = new NDList();
        String direction = c.node().text("direction", "forward");
        int directions = direction.equals("bidirectional") ? 2 : 1;
        for (int d = 0; d < directions; d++) {
            boolean reverse = direction.equals("reverse") || d == 1;
            NDArray[] state = new NDArray[2];
            for (int i = 0; i < 2; i++) {
                NDArray first = c.has(5 + i) ? c.in(5 + i) : null;
                state[i] = first == null ? x.getManager().zeros(new Shape(batch, hidden), x.getDataType())
                        : (batchFirst ? first.swapAxes(0, 1) : first).get(new NDIndex(d));
            }
            NDArray[] hs = new Recurrent(c, hidden).steps(x, d, reverse, state);
            all.add(NDArrays.stack(new NDList(hs)));
            lastH.add(state[0]);
            lastC.add(state[1]);
        }
        // [directions, steps, batch, hidden] to [steps, directions, batch, hidden].
        NDArray y = NDArrays.stack(all).swapAxes(0, 1);
        NDArray h = NDArrays.stack(lastH);
        NDArray cell = NDArrays.stack(lastC);
        return batchFirst ? new NDArray[] {y.transpose(2, 0, 1, 3), h.swapAxes(0, 1), cell.swapAxes(0, 1)} : new NDArray[] {y, h, cell};
    }

    private static void check(Operators.Call c) {
        List<String> usual = switch (c.node().type()) {
            case "LSTM" -> List.of("Sigmoid", "Tanh", "Tanh");
            case "GRU" -> List.of("Sigmoid", "Tanh");
            default -> List.of("Tanh");
        };
        if (c.has(7)) {
            throw c.refuse("with peepholes");
        }
        if (c.node().has("clip") || c.node().integer("input_forget", 0) != 0) {
            throw c.refuse("with clip or input_forget");
        }
        List<String> given = c.node().texts("activations").orElse(usual);
        for (int i = 0; i < given.size(); i++) {
            if (!given.get(i).equals(usual.get(i % usual.size()))) {
                throw c.refuse("with activations " + given);
            }
        }
    }

    /** @param state the first ones; afterwards the last ones */
    private NDArray[] steps(NDArray x, int direction, boolean reverse, NDArray[] state) {
        NDIndex at = new NDIndex(direction);
        r = call.in(2).get(at).transpose();
        NDArray bias = call.has(3) ? call.in(3).get(at) : null;
        int gates = Math.toIntExact(r.getShape().get(1));
        fed = x.matMul(call.in(1).get(at).transpose());
        recurrentBias = bias == null ? null : bias.get(new NDIndex().addSliceDim(gates, 2L * gates));
        if (bias != null) {
            fed = fed.add(bias.get(new NDIndex().addSliceDim(0, gates)));
        }
        int steps = Math.toIntExact(x.getShape().get(0));
        NDArray[] hs = new NDArray[steps];
        for (int s = 0; s < steps; s++) {
            int t = reverse ? steps - 1 - s : s;
            NDArray in = fed.get(new NDIndex(t));
            switch (type) {
                case "LSTM" -> lstm(in, state);
                case "GRU" -> gru(in, state);
                default -> state[0] = in.add(recurrent(state[0], r, 0, hidden)).tanh();
            }
            hs[t] = state[0];
        }
        return hs;
    }

    private NDArray recurrent(NDArray h, NDArray weights, long from, long to) {
        NDArray product = h.matMul(weights);
        return recurrentBias == null ? product : product.add(recurrentBias.get(new NDIndex().addSliceDim(from, to)));
    }

    /** Gates: input, output, forget, cell. */
    private void lstm(NDArray in, NDArray[] state) {
        NDList gates = in.add(recurrent(state[0], r, 0, 4L * hidden)).split(4, 1);
        state[1] = Operators.sigmoid(gates.get(2)).mul(state[1]).add(Operators.sigmoid(gates.get(0)).mul(gates.get(3).tanh()));
        state[0] = Operators.sigmoid(gates.get(1)).mul(state[1].tanh());
    }

    /** Gates: update, reset, hidden. */
    private void gru(NDArray in, NDArray[] state) {
        NDArray h = state[0];
        NDArray first = Operators.sigmoid(columns(in, 0, 2).add(recurrent(h, columns(r, 0, 2), 0, 2L * hidden)));
        NDArray update = columns(first, 0, 1);
        NDArray reset = columns(first, 1, 2);
        NDArray weights = columns(r, 2, 3);
        NDArray more = call.node().integer("linear_before_reset", 0) != 0 ? reset.mul(recurrent(h, weights, 2L * hidden, 3L * hidden))
                : recurrent(reset.mul(h), weights, 2L * hidden, 3L * hidden);
        NDArray candidate = columns(in, 2, 3).add(more).tanh();
        state[0] = candidate.add(update.mul(h.sub(candidate)));
    }

    private NDArray columns(NDArray a, int from, int to) {
        return a.get(new NDIndex().addAllDim().addSliceDim((long) from * hidden, (long) to * hidden));
    }
}
