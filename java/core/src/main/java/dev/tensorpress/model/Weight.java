package dev.tensorpress.model;

import dev.tensorpress.tensor.Tensor;
import java.util.List;
import java.util.Optional;

/**
 * A constant array of a model.
 *
 * @param name unique within the model; a weight inside a subgraph is qualified by the path to it
 * @param tensor a view of the mapped file
 * @param inputAxis the axis that a product sums over (K of [K, N]), or -1 if the role has none
 * @param outputAxis the axis whose indices are output channels (N of [K, N], rows of an embedding), or -1
 * @param uses the operators that read it, for example {@code MatMul /encoder/layer.0/query}; empty if none does, or if
 *     the format has no graph
 * @param obstacle why no method can touch this weight in its place, if that is so
 */
public record Weight(String name, Role role, Tensor tensor, int inputAxis, int outputAxis, List<String> uses,
        Optional<String> obstacle) {
    public Weight {
        uses = List.copyOf(uses);
    }

    /**
     * This weight with other data in the place of its own: a copy of them, or some of its rows.
     *
     * @param data of the same type, with as many axes
     */
    public Weight over(Tensor data) {
        return data == tensor ? this : new Weight(name, role, data, inputAxis, outputAxis, uses, obstacle);
    }

    /** Identity: two weights of a model are never equal, even if their bytes are. */
    @Override
    public boolean equals(Object o) {
        return this == o;
    }

    @Override
    public int hashCode() {
        return System.identityHashCode(this);
    }
}
