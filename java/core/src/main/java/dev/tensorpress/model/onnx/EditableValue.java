package dev.tensorpress.model.onnx;

import dev.tensorpress.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * What a graph says of a value: a ValueInfoProto.
 *
 * @param type of its elements; empty if it is no tensor, or of a type that this library does not know
 * @param axes empty if even their number is not known
 * @param encoded the whole of it
 */
public record EditableValue(String name, Optional<DType> type, Optional<List<Axis>> axes, byte[] encoded) {
    /**
     * An axis.
     *
     * @param size -1 if it is not known before the model runs
     * @param symbol that stands for the size; empty if there is none
     */
    public record Axis(long size, String symbol) {}

    /** A tensor of known type and number of axes. */
    public static EditableValue of(String name, DType type, List<Axis> axes) {
        Proto shape = new Proto();
        for (Axis a : axes) {
            Proto dim = new Proto();
            if (a.size >= 0) {
                dim.integer(1, a.size);
            } else if (!a.symbol.isEmpty()) {
                dim.string(2, a.symbol);
            }
            shape.message(1, dim);
        }
        Proto tensor = new Proto().integer(1, EditableTensor.code(type)).message(2, shape);
        byte[] encoded = new Proto().string(1, name).message(2, new Proto().message(1, tensor)).toBytes();
        return new EditableValue(name, Optional.of(type), Optional.of(List.copyOf(axes)), encoded);
    }

    static EditableValue read(byte[] encoded) {
        Wire w = new Wire(Path.of("ValueInfoProto"), MemorySegment.ofArray(encoded));
        String name = "";
        TensorInfo element = new TensorInfo();
        List<Axis> axes = null;
        while (w.next()) {
            if (w.field == 1) {
                name = w.string("ValueInfoProto.name");
            } else if (w.field == 2) {
                long type = w.enter("ValueInfoProto.type");
                while (w.next()) {
                    if (w.field == 1) {
                        long tensor = w.enter("TypeProto.tensor_type");
                        while (w.next()) {
                            if (w.field == 1) {
                                element.type = Math.clamp(w.integer("TypeProto.Tensor.elem_type"), -1, 1 << 20);
                            } else if (w.field == 2) {
                                axes = axes(w);
                            }
                        }
                        w.leave(tensor);
                    }
                }
                w.leave(type);
            }
        }
        return new EditableValue(name, Optional.ofNullable(element.elementType()), Optional.ofNullable(axes), encoded);
    }

    private static List<Axis> axes(Wire w) {
        List<Axis> all = new ArrayList<>();
        long outer = w.enter("TypeProto.Tensor.shape");
        while (w.next()) {
            if (w.field == 1) {
                long size = -1;
                String symbol = "";
                long inner = w.enter("TensorShapeProto.dim");
                while (w.next()) {
                    if (w.field == 1) {
                        size = Math.max(-1, w.integer("TensorShapeProto.Dimension.dim_value"));
                    } else if (w.field == 2) {
                        symbol = w.string("TensorShapeProto.Dimension.dim_param");
                    }
                }
                w.leave(inner);
                all.add(new Axis(size, symbol));
            }
        }
        w.leave(outer);
        return all;
    }
}
