package dev.tensorpress.model.onnx;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** A node of an {@link EditableGraph}: an operator, what it reads and makes, and its attributes. */
public final class EditableNode {
    private static final int FLOAT = 1;
    private static final int INT = 2;
    private static final int STRING = 3;
    private static final int TENSOR = 4;
    private static final int FLOATS = 6;
    private static final int INTS = 7;

    private final String type;
    private final String domain;
    private final String name;
    private final List<String> inputs;
    private final List<String> outputs;
    private final Map<String, Attribute> attributes = new LinkedHashMap<>();
    /** Whatever else it has, as fields of a NodeProto. */
    private final byte[] kept;

    /**
     * The value of an attribute.
     *
     * @param fields of its AttributeProto, but for tensor and graphs
     * @param tensor null if it has none
     * @param graphs that it holds
     * @param field of the graphs
     */
    record Attribute(byte[] fields, EditableTensor tensor, List<EditableGraph> graphs, int field) {}

    /**
     * A node without attributes.
     *
     * @param domain empty for standard operators
     * @param name may be empty
     * @param inputs names of values; an empty one is an input that is left out
     * @param outputs alike
     */
    public EditableNode(String type, String domain, String name, List<String> inputs, List<String> outputs) {
        this(type, domain, name, inputs, outputs, new byte[0]);
    }

    EditableNode(String type, String domain, String name, List<String> inputs, List<String> outputs, byte[] kept) {
        this.type = type;
        this.domain = domain;
        this.name = name;
        this.inputs = new ArrayList<>(inputs);
        this.outputs = new ArrayList<>(outputs);
        this.kept = kept;
    }

    /** Such as {@code MatMul}. */
    public String type() {
        return type;
    }

    /** Empty for standard operators. */
    public String domain() {
        return domain;
    }

    /** May be empty. */
    public String name() {
        return name;
    }

    /** What messages call it: its name, or else that of its first result. */
    public String label() {
        return !name.isEmpty() ? name : outputs.isEmpty() || outputs.getFirst().isEmpty() ? type : outputs.getFirst();
    }

    /** Whether it is the standard operator of this type. */
    public boolean is(String standard) {
        return domain.isEmpty() && type.equals(standard);
    }

    /** Names of the values that it reads, empty where one is left out. The list can be changed. */
    public List<String> inputs() {
        return inputs;
    }

    /** The name of an input; empty if it is left out. */
    public String input(int i) {
        return i < inputs.size() ? inputs.get(i) : "";
    }

    /** Names of the values that it makes, empty where one is left out. The list can be changed. */
    public List<String> outputs() {
        return outputs;
    }

    /** Names of its attributes. */
    public List<String> attributes() {
        return List.copyOf(attributes.keySet());
    }

    /** Whether it has an attribute. */
    public boolean has(String attribute) {
        return attributes.containsKey(attribute);
    }

    /** An attribute; {@code absent} if there is none, or it is no integer. */
    public long integer(String attribute, long absent) {
        long found = absent;
        for (Wire w = fields(attribute); w.next();) {
            found = w.field == 3 ? w.integer("AttributeProto.i") : found;
        }
        return found;
    }

    /** An attribute; {@code absent} if there is none, or it is no number. */
    public float real(String attribute, float absent) {
        float found = absent;
        for (Wire w = fields(attribute); w.next();) {
            found = w.field == 2 ? w.real("AttributeProto.f") : found;
        }
        return found;
    }

    /** An attribute; {@code absent} if there is none, or it is no text. */
    public String text(String attribute, String absent) {
        String found = absent;
        for (Wire w = fields(attribute); w.next();) {
            found = w.field == 4 ? w.string("AttributeProto.s") : found;
        }
        return found;
    }

    /** An attribute; empty if there is none, or it is no list of integers. */
    public Optional<long[]> integers(String attribute) {
        List<Long> all = new ArrayList<>();
        boolean list = false;
        for (Wire w = fields(attribute); w.next();) {
            if (w.field == 8 && w.type == Wire.VARINT) {
                all.add(w.value);
            } else if (w.field == 8) {
                long outer = w.enter("AttributeProto.ints");
                while (w.more()) {
                    all.add(w.varint());
                }
                w.leave(outer);
            }
            list |= w.field == 8 || w.field == 20 && w.value == INTS;
        }
        return list ? Optional.of(all.stream().mapToLong(Long::longValue).toArray()) : Optional.empty();
    }

    /** An attribute; empty if there is none, or it is no list of numbers. */
    public Optional<float[]> reals(String attribute) {
        List<Float> all = new ArrayList<>();
        boolean list = false;
        for (Wire w = fields(attribute); w.next();) {
            if (w.field == 7 && w.type == Wire.FIXED32) {
                all.add(Float.intBitsToFloat((int) w.value));
            } else if (w.field == 7) {
                long outer = w.enter("AttributeProto.floats");
                while (w.more()) {
                    all.add(Float.intBitsToFloat((int) w.fixed(4)));
                }
                w.leave(outer);
            }
            list |= w.field == 7 || w.field == 20 && w.value == FLOATS;
        }
        if (!list) {
            return Optional.empty();
        }
        float[] reals = new float[all.size()];
        for (int i = 0; i < reals.length; i++) {
            reals[i] = all.get(i);
        }
        return Optional.of(reals);
    }

    /** An attribute; empty if there is none, or it is no list of texts. */
    public Optional<List<String>> texts(String attribute) {
        List<String> all = new ArrayList<>();
        for (Wire w = fields(attribute); w.next();) {
            if (w.field == 9) {
                all.add(w.string("AttributeProto.strings"));
            }
        }
        return all.isEmpty() ? Optional.empty() : Optional.of(all);
    }

    private Wire fields(String attribute) {
        Attribute a = attributes.get(attribute);
        return new Wire(Path.of(label()), MemorySegment.ofArray(a == null ? new byte[0] : a.fields));
    }

    /** An attribute; empty if there is none, or it is no tensor. */
    public Optional<EditableTensor> tensor(String attribute) {
        return Optional.ofNullable(attributes.get(attribute)).map(Attribute::tensor);
    }

    /** What it makes if it is a Constant of numbers; empty if not. */
    public Optional<EditableTensor> constant() {
        if (!is("Constant")) {
            return Optional.empty();
        }
        if (has("value_int")) {
            return Optional.of(EditableTensor.scalar(integer("value_int", 0)));
        }
        if (has("value_float")) {
            return Optional.of(EditableTensor.scalar(real("value_float", 0)));
        }
        return tensor("value").or(() -> integers("value_ints").map(EditableTensor::of)).or(() -> reals("value_floats").map(EditableTensor::of));
    }

    /** All graphs in its attributes. */
    public List<EditableGraph> graphs() {
        List<EditableGraph> all = new ArrayList<>(0);
        for (Attribute a : attributes.values()) {
            all.addAll(a.graphs);
        }
        return all;
    }

    /** Removes an attribute, if there is one of this name. */
    public EditableNode remove(String attribute) {
        attributes.remove(attribute);
        return this;
    }

    /** Sets an attribute. */
    public EditableNode set(String attribute, long value) {
        return put(attribute, INT, new Proto().integer(3, value), null);
    }

    /** Sets an attribute. */
    public EditableNode set(String attribute, float value) {
        return put(attribute, FLOAT, new Proto().real(2, value), null);
    }

    /** Sets an attribute. */
    public EditableNode set(String attribute, String value) {
        return put(attribute, STRING, new Proto().string(4, value), null);
    }

    /** Sets an attribute. */
    public EditableNode setAll(String attribute, long... values) {
        Proto p = new Proto();
        for (long v : values) {
            p.integer(8, v);
        }
        return put(attribute, INTS, p, null);
    }

    /** Sets an attribute. */
    public EditableNode setAll(String attribute, float... values) {
        Proto p = new Proto();
        for (float v : values) {
            p.real(7, v);
        }
        return put(attribute, FLOATS, p, null);
    }

    /** Sets an attribute. */
    public EditableNode set(String attribute, EditableTensor value) {
        return put(attribute, TENSOR, new Proto(), value);
    }

    /** Sets an attribute to what it is of another node. */
    public EditableNode copy(String attribute, EditableNode from) {
        Attribute a = from.attributes.get(attribute);
        if (a == null) {
            attributes.remove(attribute);
        } else {
            attributes.put(attribute, a);
        }
        return this;
    }

    private EditableNode put(String attribute, int kind, Proto value, EditableTensor tensor) {
        Proto fields = new Proto().string(1, attribute).integer(20, kind).fields(value.toBytes());
        attributes.put(attribute, new Attribute(fields.toBytes(), tensor, List.of(), 0));
        return this;
    }

    void put(String attribute, Attribute value) {
        attributes.put(attribute, value);
    }

    /** As the field of a graph. */
    Rope rope(EditableModel.Place place) {
        Proto p = new Proto();
        inputs.forEach(input -> p.string(1, input));
        outputs.forEach(output -> p.string(2, output));
        if (!name.isEmpty()) {
            p.string(3, name);
        }
        p.string(4, type);
        if (!domain.isEmpty()) {
            p.string(7, domain);
        }
        Rope all = new Rope().add(p.fields(kept));
        attributes.forEach((attribute, a) -> {
            Rope r = new Rope().add(new Rope.Bytes(a.fields));
            if (a.tensor != null) {
                r.add(a.tensor.rope("", place).field(5));
            }
            for (EditableGraph g : a.graphs) {
                r.add(g.rope(place).field(a.field));
            }
            all.add(r.field(5));
        });
        return all.field(1);
    }

    @Override
    public String toString() {
        return type + " " + label();
    }
}
