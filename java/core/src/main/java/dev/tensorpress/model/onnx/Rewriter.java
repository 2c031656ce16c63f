package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Activations;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.onnx.DataFiles.DataFile;
import dev.tensorpress.model.onnx.Graph.Attribute;
import dev.tensorpress.model.onnx.Graph.Node;
import dev.tensorpress.model.onnx.Graph.Use;
import dev.tensorpress.model.onnx.Graph.Value;
import dev.tensorpress.model.onnx.Rope.Edit;
import dev.tensorpress.model.onnx.Rope.Part;
import dev.tensorpress.model.onnx.WeightFinder.Info;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Lays out a model with some weights compressed: which bytes of the old file stay, which small messages are new, and
 * where encoded weights go. Operators are those of onnx.ai/onnx/operators and of ONNX Runtime's ContribOperators.md.
 */
final class Rewriter {
    private static final String MICROSOFT = "com.microsoft";
    /** Offsets into data files, as the standard recommends, so that runtimes can map tensors. */
    private static final long PAGE = 4096;
    /** Runtimes want to see small constants without opening another file. */
    private static final long SMALL = 1024;
    private static final int BYTES = 256;

    /** Which of the encodings that make up the one of a weight. */
    enum Piece { WHOLE, BASE, LEFT, RIGHT }

    /** A weight to compress, or a matrix that is part of one. */
    static final class Job {
        final Info info;
        /** The form of the whole weight. */
        final Form asked;
        final Piece piece;
        final Choice choice;
        /** The codes; null if there are none. */
        final Form.Quantized form;
        final Shape shape;
        /** What the tensor has for dimensions where it is used; other than those of the matrix if that is of a kernel. */
        final long[] dims;
        /** The axis that a product sums over. */
        final int in;
        final String name;
        /** The graph that gets the tensors, and the one the weight is in. */
        final Graph home;
        final Graph graph;
        final Rope tensors;
        final Rope inputs;
        boolean external;
        /** The operands that make a product with this, once prepared: floats by themselves, or codes and what they need. */
        String values = "";
        String codes = "";
        String scales = "";
        String zeros = "";
        /** What rows are looked up in. */
        String rows = "";
        String rowScales = "";
        String rowZeros = "";
        /** Decoded values before they are converted to the type of the weight, if that takes a Cast. */
        String unconverted;

        Job(Info info, Choice choice, Graph home) {
            this.info = info;
            this.asked = choice.form();
            this.piece = Piece.WHOLE;
            this.choice = choice;
            this.form = codes(asked instanceof Form.Sparse s ? s.values() : asked);
            this.shape = info.weight.tensor().shape();
            this.dims = shape.dims();
            this.in = info.weight.inputAxis();
            this.name = info.value.name;
            this.graph = info.value.graph;
            this.home = home;
            this.tensors = new Rope();
            this.inputs = new Rope();
        }

        /** A matrix of which {@code whole} is made; its tensors go where those of the whole go. */
        Job(Job whole, Piece piece, Choice choice, Shape shape, long[] dims, int in, String name) {
            this.info = whole.info;
            this.asked = whole.asked;
            this.piece = piece;
            this.choice = choice;
            this.form = codes(choice.form());
            this.shape = shape;
            this.dims = dims;
            this.in = in;
            this.name = name;
            this.graph = whole.graph;
            this.home = whole.home;
            this.tensors = whole.tensors;
            this.inputs = whole.inputs;
            this.external = whole.external;
        }

        private static Form.Quantized codes(Form f) {
            return f instanceof Form.Quantized q ? q : null;
        }

        long groups() {
            return form.grid(shape).groups();
        }

        /** Dimensions of codes that are decoded: those of use, unless groups run along an axis that only the matrix has. */
        long[] decodedDims() {
            return form.block() == 0 && form.axis() <= 0 ? dims : shape.dims();
        }
    }

    /** A tensor in the data file. */
    record Placed(long offset, Rope.Payload payload, DataFile file, long fileOffset, long length) {}

    private record Region(Path file, long offset, long length) {}

    private final OnnxModel model;
    private final Parser parsed;
    /** Level of MatMulNBits at which activations may be quantized to int8, block by block. */
    private static final int INT8_ACTIVATIONS = 4;

    /** -1 to follow the forms. */
    private final int accuracy;
    /** Name of the data file; null if there is none. */
    private final String location;
    private final boolean moveRaw;

    private final Map<Graph, List<Edit>> edits = new IdentityHashMap<>();
    private final Map<Attribute, List<Edit>> attributeEdits = new IdentityHashMap<>();
    private final Map<Graph, List<Node>> touched = new IdentityHashMap<>();
    private final Set<Node> seen = new HashSet<>();
    private final List<Placed> placed = new ArrayList<>();
    private final Map<Region, Long> copied = new HashMap<>();
    private long dataLength;
    private Set<String> names;
    /** The last number that a name was given, where several nodes want it. */
    private final Map<String, Integer> numbers = new HashMap<>();
    private boolean microsoft;

    /**
     * @param location name of the file for large tensors, or null to keep everything in the model
     * @param moveRaw whether tensors that are not compressed move there too
     */
    Rewriter(OnnxModel model, int accuracy, String location, boolean moveRaw) {
        this.model = model;
        this.parsed = model.parsed();
        this.accuracy = accuracy;
        this.location = location;
        this.moveRaw = moveRaw;
    }

    List<Placed> placed() {
        return placed;
    }

    long dataLength() {
        return dataLength;
    }

    /** The whole model file. */
    Rope rewrite(List<Info> infos, List<Choice> choices) {
        for (int i = 0; i < infos.size(); i++) {
            if (choices.get(i).kind() != Choice.Kind.KEEP) {
                Graph graph = infos.get(i).value.graph;
                lower(new Job(infos.get(i), choices.get(i), parsed.irVersion < 4 ? parsed.graph : graph));
            }
        }
        if (location != null) {
            moveTensors(infos, choices);
        }
        return assemble();
    }

    private void lower(Job job) {
        if (job.choice.kind() == Choice.Kind.MASKED) {
            masked(job);
            return;
        }
        if (job.choice.kind() == Choice.Kind.COORDINATES) {
            TensorInfo t = job.info.tensor;
            long nonzeros = ((Form.Sparse) job.choice.form()).nonzeros();
            edit(job.graph, t.fieldStart, t.end, sparseInitializer(model.wire(), t, nonzeros, job));
            return;
        }
        // All or nothing: whoever encodes the weight is asked for it once, and the files are written one after the other.
        job.external = location != null
                && (job.form != null ? job.form.codeBytes(job.shape) : job.asked.bytes(job.shape)) >= SMALL;
        Rope nodes = switch (job.choice.kind()) {
            case NBITS, NBITS_GATHERED, INTEGER, INTEGER_GATHERED -> product(job);
            case GATHER -> gather(job);
            case GATHER_BLOCKS -> gatherBlocks(job);
            case DEQUANTIZE, ARITHMETIC -> prepare(job);
            case FACTORS, CORRECTED -> factors(job);
            case KEEP, MASKED, COORDINATES, DENSE -> throw new IllegalArgumentException();
        };
        Value v = job.info.value;
        TensorInfo t = v.tensor;
        boolean inPlace = job.info.isInitializer() && job.home == job.graph;
        if (job.info.isInitializer()) {
            edit(job.graph, t.fieldStart, t.end, inPlace ? job.tensors : new Rope());
            long at = firstUse(v);
            edit(job.graph, at, at, nodes);
        } else {
            edit(job.graph, v.producer.fieldStart, v.producer.end, nodes);
        }
        if (!inPlace) {
            edit(job.home, job.home.afterInitializers, job.home.afterInitializers, job.tensors);
        }
        if (parsed.irVersion < 4) {
            edit(job.home, job.home.afterInputs, job.home.afterInputs, job.inputs);
            remove(job.graph, job.graph.inputs, job.name);
        }
        boolean named = job.choice.kind() == Choice.Kind.DEQUANTIZE || job.choice.kind() == Choice.Kind.ARITHMETIC;
        if (!named) {
            remove(job.graph, job.graph.valueInfos, job.name);
        }
    }

    private void remove(Graph g, List<Graph.Described> from, String name) {
        for (Graph.Described d : from) {
            if (d.name().equals(name)) {
                edit(g, d.fieldStart(), d.end(), new Rope());
            }
        }
    }

    private void edit(Graph g, long from, long to, Rope with) {
        list(edits, g).add(new Edit(from, to, with));
    }

    private static <K, V> List<V> list(Map<K, List<V>> map, K key) {
        List<V> l = map.get(key);
        if (l == null) {
            l = new ArrayList<>();
            map.put(key, l);
        }
        return l;
    }

    /** Where nodes can go that the first reader of a value needs; the reader may be in a graph further in. */
    private static long firstUse(Value v) {
        Node first = null;
        for (Use u : v.uses) {
            Node n = u.node();
            while (n.graph != v.graph) {
                n = n.graph.owner;
            }
            if (first == null || n.index < first.index) {
                first = n;
            }
        }
        return first == null ? v.graph.afterNodes : first.fieldStart;
    }

    // Lowerings

    /** Everything about the tensor stays but its data. */
    private void masked(Job job) {
        TensorInfo t = job.info.tensor;
        long length = job.info.weight.tensor().bytes();
        Rope.Payload payload = new Rope.Payload(job, Part.ELEMENTS, length);
        boolean external = location != null && length >= SMALL;
        if (!external && inPlace(t, length)) {
            edit(job.graph, t.rawStart, t.rawStart + length, new Rope().add(payload));
            return;
        }
        Proto p = description(model.wire(), t, true);
        Rope tensor;
        if (external) {
            external(p, place(payload, null, 0, length), length);
            tensor = new Rope().add(p);
        } else {
            tensor = new Rope().add(p.header(9, length)).add(payload);
        }
        if (job.info.isInitializer()) {
            edit(job.graph, t.fieldStart, t.end, tensor.field(5));
        } else {
            Node n = job.info.value.producer;
            Attribute a = n.attribute("value");
            touch(n);
            list(attributeEdits, a).add(new Edit(a.tensorField, a.tensorEnd, tensor.field(5)));
        }
    }

    private static boolean inPlace(TensorInfo t, long length) {
        return t.hasRaw && !t.external && t.rawLength == length;
    }

    /** Bytes that the field of a masked initializer takes in a model without data files. */
    static long maskedLength(Wire w, TensorInfo t) {
        if (inPlace(t, t.bytes())) {
            return t.end - t.fieldStart;
        }
        Proto p = description(w, t, true).header(9, t.bytes());
        return new Rope().add(p).add(new Rope.Payload(null, Part.ELEMENTS, t.bytes())).field(5).length();
    }

    /** A SparseTensorProto in the graph: named values, their positions, the shape. */
    static Rope sparseInitializer(Wire w, TensorInfo t, long nonzeros, Job job) {
        long valueBytes = t.dtype().bytes(nonzeros);
        long indexBytes = DType.I64.bytes(nonzeros);
        Proto values = new Proto().integer(1, nonzeros).fields(description(w, t, false).toBytes());
        Proto indices = new Proto().integer(1, nonzeros).integer(2, TensorInfo.INT64);
        Proto shape = new Proto();
        for (long d : t.dims) {
            shape.integer(3, d);
        }
        return new Rope()
                .add(new Rope().add(values.header(9, valueBytes))
                        .add(new Rope.Payload(job, Part.NONZEROS, valueBytes)).field(1))
                .add(new Rope().add(indices.header(9, indexBytes))
                        .add(new Rope.Payload(job, Part.INDICES, indexBytes)).field(2))
                .add(shape).field(15);
    }

    /** The fields of a TensorProto that are neither data nor say where data lie. */
    private static Proto description(Wire w, TensorInfo t, boolean dims) {
        Proto p = new Proto();
        w.seek(t.start, t.end);
        while (w.next()) {
            boolean keep = switch (w.field) {
                case 1 -> dims;
                case 4, 5, 6, 7, 9, 10, 11, 13, 14 -> false;
                default -> true;
            };
            if (keep) {
                p.fields(w.bytes(w.fieldStart, Math.toIntExact(w.end() - w.fieldStart)));
            }
        }
        return p;
    }

    /** Products with codes, which lie as they need them, in place of those with floats. */
    private Rope product(Job job) {
        Rope before = prepare(job);
        for (Use u : job.info.value.uses) {
            Node n = u.node();
            if (n.is("Gather")) {
                boolean blocks = job.choice.kind() == Choice.Kind.NBITS_GATHERED;
                edit(n.graph, n.fieldStart, n.end, blocks ? gatherBlocks(job, n) : gather(job, n, "", "", ""));
            } else if (n.is("Transpose")) {
                Value turned = n.graph.values.get(n.outputs.getFirst());
                edit(n.graph, n.fieldStart, n.end, new Rope());
                remove(n.graph, n.graph.valueInfos, turned.name);
                for (Use product : turned.uses) {
                    multiply(job, product.node());
                }
            } else {
                multiply(job, n);
            }
        }
        return before;
    }

    private void multiply(Job job, Node n) {
        Rope r = new Rope();
        multiply(r, job, n.inputs.get(0), n.outputs.get(0), n.is("Gemm") ? input(n, 2) : "", n.label(), kept(n));
        edit(n.graph, n.fieldStart, n.end, r);
    }

    /**
     * Two products, or two convolutions, in place of each one. Where there is a base they are added to the product with
     * that, as the bias of a Gemm is.
     */
    private Rope factors(Job job) {
        List<Choice> parts = job.choice.parts();
        boolean corrected = job.choice.kind() == Choice.Kind.CORRECTED;
        boolean conv = job.info.weight.role() == Role.CONV;
        Form.LowRank f = corrected ? ((Form.Sum) job.asked).correction() : (Form.LowRank) job.asked;
        Job base = !corrected ? null : new Job(job, Piece.BASE, parts.getFirst(), job.shape, job.dims, job.in,
                name(job, "base"));
        long[] leftDims = f.left(job.shape).dims();
        long[] rightDims = f.right(job.shape).dims();
        if (conv) {
            leftDims = new long[job.dims.length];
            Arrays.fill(leftDims, 1);
            leftDims[0] = job.dims[0];
            leftDims[1] = f.rank();
            rightDims = job.dims.clone();
            rightDims[0] = f.rank();
        }
        Job left = new Job(job, Piece.LEFT, parts.get(parts.size() - 2), f.left(job.shape), leftDims, 0,
                name(job, "left"));
        Job right = new Job(job, Piece.RIGHT, parts.getLast(), f.right(job.shape), rightDims, 0, name(job, "right"));
        Rope before = corrected ? prepare(base) : new Rope();
        before.add(prepare(left)).add(prepare(right));
        for (Use u : job.info.value.uses) {
            Node n = u.node();
            Rope r = new Rope();
            if (conv) {
                convolve(r, n, left, right);
            } else {
                multiply(r, n, base, left, right);
            }
            edit(n.graph, n.fieldStart, n.end, r);
        }
        return before;
    }

    private void multiply(Rope r, Node n, Job base, Job left, Job right) {
        boolean gemm = n.is("Gemm");
        String x = n.inputs.get(0);
        String y = n.outputs.get(0);
        String c = gemm ? input(n, 2) : "";
        byte[] kept = kept(n);
        if (base != null) {
            String coarse = fresh(y + ".base");
            if (gemm && !base.values.isEmpty()) {
                gemm(r, n, kept, coarse, x, base.values, c, "alpha", "beta", "transA", "transB");
            } else {
                multiply(r, base, x, coarse, c, n.label(), kept);
            }
            c = coarse;
            kept = named(n, "right");
        }
        String h = fresh(y + ".left");
        if (gemm && n.integer("transA", 0) != 0) {
            // Older ones want something to add.
            String nothing = parsed.opsets.get("") >= 11 ? ""
                    : constant(left, "nothing", left.info.weight.tensor().dtype(), new byte[left.info.tensor.bits() / 8]);
            gemm(r, n, named(n, "left"), h, x, left.values, nothing, "transA");
        } else {
            multiply(r, left, x, h, "", n.label() + "/left", named(n, "left"));
        }
        if (gemm && !right.values.isEmpty()) {
            gemm(r, n, kept, y, h, right.values, c, base == null ? new String[] {"alpha", "beta"} : new String[] {"alpha"});
        } else {
            multiply(r, right, h, y, c, n.label() + "/right", kept);
        }
    }

    /** Kernels of few channels with all that the node says, then each place by itself to the channels it had. */
    private void convolve(Rope r, Node n, Job left, Job right) {
        String y = n.outputs.get(0);
        String h = fresh(y + ".right");
        Proto p = start("Conv", h, n.inputs.get(0), right.values).fields(named(n, "right"));
        for (Attribute a : n.attributes) {
            copy(p, a);
        }
        r.add(new Proto().message(1, p)).add(new Proto().message(1,
                start("Conv", y, h, left.values, input(n, 2)).fields(kept(n))));
    }

    private void gemm(Rope r, Node n, byte[] kept, String y, String a, String b, String c, String... attributes) {
        Proto p = start("Gemm", y, a, b, c).fields(kept);
        for (String name : attributes) {
            Attribute attribute = n.attribute(name);
            if (attribute != null) {
                copy(p, attribute);
            }
        }
        r.add(new Proto().message(1, p));
    }

    private void copy(Proto node, Attribute a) {
        node.fields(model.wire().bytes(a.fieldStart, Math.toIntExact(a.end - a.fieldStart)));
    }

    private byte[] named(Node n, String part) {
        return new Proto().string(3, fresh(n.label() + "/" + part)).toBytes();
    }

    /** Empty if absent. */
    private static String input(Node n, int i) {
        return i < n.inputs.size() ? n.inputs.get(i) : "";
    }

    /** Makes the tensors of a matrix, and the nodes that it takes before anything can be multiplied with it. */
    private Rope prepare(Job m) {
        switch (m.choice.kind()) {
            case DENSE -> {
                DType type = m.info.weight.tensor().dtype();
                m.values = payload(m, m.name, type, m.dims, Part.ELEMENTS, type.bytes(m.shape.elements()));
                return new Rope();
            }
            case NBITS, NBITS_GATHERED -> {
                return nbits(m);
            }
            case INTEGER, INTEGER_GATHERED -> {
                return integer(m);
            }
            case DEQUANTIZE, ARITHMETIC -> {
                Rope r = m.choice.kind() == Choice.Kind.DEQUANTIZE ? dequantize(m) : arithmetic(m);
                m.values = m.name;
                if (m.decodedDims().length != m.dims.length) {
                    m.values = name(m, "kernel");
                    r.add(node("Reshape", m.values, m.name, constant(m, "kernel_shape", DType.I64, longs(m.dims))));
                }
                return r;
            }
            default -> throw new IllegalArgumentException();
        }
    }

    /**
     * y = x times a matrix, plus c unless that is empty.
     *
     * @param label what names of further nodes begin with
     * @param kept name and whatever else the node that multiplies is to have
     */
    private void multiply(Rope r, Job m, String x, String y, String c, String label, byte[] kept) {
        String product = c.isEmpty() ? y : fresh(y + ".product");
        switch (m.choice.kind()) {
            case NBITS, NBITS_GATHERED -> nbits(r, m, x, product, kept);
            case INTEGER, INTEGER_GATHERED -> integer(r, m, x, y, product, label, kept);
            default -> r.add(new Proto().message(1, start("MatMul", product, x, m.values).fields(kept)));
        }
        if (!c.isEmpty()) {
            r.add(node("Add", y, product, c));
        }
    }

    /** B of MatMulNBits is [N, blocks, block bytes] with blocks along K; scales [N, blocks]. */
    private Rope nbits(Job job) {
        microsoft = true;
        Form.Quantized f = job.form;
        long k = job.shape.dim(job.in);
        long n = job.shape.dim(1 - job.in);
        long blocks = (k + f.block() - 1) / f.block();
        if (job.choice.kind() == Choice.Kind.NBITS_GATHERED) {
            blockedRows(job);
            job.scales = job.rowScales;
            job.zeros = job.rowZeros;
            job.codes = name(job, "quantized.blocks");
            return new Rope().add(node("Reshape", job.codes, job.rows,
                    constant(job, "blocks", DType.I64, longs(n, blocks, f.type().bytes(f.block())))));
        }
        job.codes = codes(job, DType.U8, n, blocks, f.type().bytes(f.block()));
        job.scales = scales(job, n * blocks);
        // Absent zero points mean the middle of the stored bits.
        if (!f.symmetric()) {
            long bytes = n * f.type().bytes(blocks);
            job.zeros = payload(job, name(job, "zero"), DType.U8, new long[] {bytes},
                    f.type().bits() == 4 ? Part.ZEROS_PACKED_BY_ROW : Part.ZEROS, bytes);
        }
        return new Rope();
    }

    private void nbits(Rope r, Job job, String x, String y, byte[] kept) {
        Form.Quantized f = job.form;
        Proto p = start("MatMulNBits", y, x, job.codes, job.scales, job.zeros).string(7, MICROSOFT).fields(kept);
        attribute(p, "K", job.shape.dim(job.in));
        attribute(p, "N", job.shape.dim(1 - job.in));
        attribute(p, "bits", f.type().bits());
        attribute(p, "block_size", f.block());
        int level = accuracy >= 0 ? accuracy : f.activations() == Activations.BLOCKWISE ? INT8_ACTIVATIONS : 0;
        if (level > 0) {
            attribute(p, "accuracy_level", level);
        }
        r.add(new Proto().message(1, p));
    }

    private Rope integer(Job job) {
        Form.Quantized f = job.form;
        Rope before = new Rope();
        if (job.choice.kind() == Choice.Kind.INTEGER_GATHERED) {
            rows(job);
            String flat = constant(job, "flat", DType.I64, longs(-1));
            job.codes = job.rows;
            job.scales = name(job, "scale.flat");
            before.add(node("Reshape", job.scales, job.rowScales, flat));
            if (!f.symmetric()) {
                job.zeros = name(job, "zero.flat");
                before.add(node("Reshape", job.zeros, job.rowZeros, flat));
            }
        } else {
            job.codes = codes(job, f.type(), job.shape.dims());
            job.scales = f.axis() < 0 ? scales(job) : scales(job, job.groups());
            if (!f.symmetric()) {
                job.zeros = payload(job, name(job, "zero"), f.type(), f.axis() < 0 ? new long[0] : new long[] {job.groups()},
                        Part.ZEROS, job.groups());
            }
        }
        if (f.symmetric()) {
            job.zeros = constant(job, "zero", f.type(), new byte[] {(byte) f.middle()});
        }
        if (job.in == 1) {
            // Runtimes fold this when they load the model: both its input and its permutation are constant.
            String turned = fresh(job.name + ".quantized.transposed");
            Proto p = start("Transpose", turned, job.codes).string(3, fresh(job.name + "/transpose"));
            p.message(5, new Proto().string(1, "perm").integer(8, 1).integer(8, 0).integer(20, 7));
            before.add(new Proto().message(1, p));
            job.codes = turned;
        }
        return before;
    }

    /**
     * Each reader quantizes its activations by itself: ONNX Runtime fuses the five nodes into DynamicQuantizeMatMul only
     * if nothing else reads what DynamicQuantizeLinear makes.
     */
    private void integer(Rope r, Job job, String x, String y, String product, String label, byte[] kept) {
        String aq = fresh(y + ".input.quantized");
        String as = fresh(y + ".input.scale");
        String az = fresh(y + ".input.zero");
        String sums = fresh(y + ".sums");
        String floats = fresh(y + ".floats");
        String scale = fresh(y + ".scale");
        Proto dql = start("DynamicQuantizeLinear", aq, x).string(2, as).string(2, az).string(3, fresh(label + "/quantize"));
        Proto mm = start("MatMulInteger", sums, aq, job.codes, az, job.zeros).fields(kept);
        r.add(new Proto().message(1, dql)).add(new Proto().message(1, mm)).add(cast(floats, sums, DType.F32))
                .add(node("Mul", scale, as, job.scales)).add(node("Mul", product, floats, scale));
    }

    private Rope gather(Job job) {
        Form.Quantized f = job.form;
        rows(job);
        boolean nibbles = f.type() == DType.U4;
        long cols = job.shape.dim(-1);
        String pairs = nibbles ? pairs(job, f.scaleType()) : "";
        String width = nibbles ? constant(job, "width", DType.I64, longs(cols)) : "";
        String split = f.block() > 0 ? constant(job, "blocks", DType.I64, longs(cols / f.block(), f.block())) : "";
        for (Use u : job.info.value.uses) {
            Node n = u.node();
            edit(n.graph, n.fieldStart, n.end, gather(job, n, pairs, width, split));
        }
        return new Rope();
    }

    /** Codes in rows, with scales and zero points of such shapes that each row finds its own. */
    private void rows(Job job) {
        Form.Quantized f = job.form;
        boolean nibbles = f.type() == DType.U4;
        long rows = job.shape.dim(0);
        long cols = job.shape.dim(-1);
        long[] perRow = new long[job.shape.rank()];
        Arrays.fill(perRow, 1);
        perRow[0] = rows;
        if (f.block() > 0) {
            perRow = new long[] {rows, cols / f.block(), 1};
        }
        job.rows = nibbles ? codes(job, DType.U8, rows, cols / 2) : codes(job, f.type(), job.shape.dims());
        job.rowScales = scales(job, perRow);
        if (!f.symmetric()) {
            job.rowZeros = payload(job, name(job, "zero"), nibbles ? DType.U8 : f.type(), perRow, Part.ZEROS, job.groups());
        }
    }

    /** Only the rows that are looked up become floats; blocks have an axis of their own until the last step. */
    private Rope gather(Job job, Node node, String pairs, String width, String split) {
        Form.Quantized f = job.form;
        boolean blocks = f.block() > 0;
        DType type = f.scaleType();
        String index = node.inputs.get(1);
        String y = node.outputs.get(0);
        String rowCodes = fresh(y + ".quantized");
        String rowScales = fresh(y + ".scale");
        Proto first = start("Gather", rowCodes, job.rows, index).fields(kept(node));
        attribute(first, "axis", 0);
        Rope r = new Rope().add(new Proto().message(1, first)).add(node("Gather", rowScales, job.rowScales, index));
        String x = fresh(y + ".floats");
        String shape = "";
        if (!pairs.isEmpty()) {
            unpack(r, x, rowCodes, pairs);
            shape = fresh(y + ".shape");
            String packed = x;
            x = fresh(y + ".unpacked");
            r.add(node("Shape", shape, index));
            r.add(node("Reshape", x, packed, extended(r, y, shape, blocks ? split : width)));
        } else {
            r.add(cast(x, rowCodes, type));
        }
        if (!f.symmetric()) {
            String rowZeros = fresh(y + ".zero");
            String zeroFloats = fresh(y + ".zero.floats");
            r.add(node("Gather", rowZeros, job.rowZeros, index)).add(cast(zeroFloats, rowZeros, type));
            x = subtract(r, y, x, zeroFloats);
        } else if (pairs.isEmpty() && f.middle() != 0) {
            x = subtract(r, y, x, constant(job, "middle", type, floats(type, f.middle())));
        }
        String result = decoded(job, y);
        String scaled = blocks ? fresh(y + ".scaled") : result;
        r.add(node("Mul", scaled, x, rowScales));
        if (blocks) {
            r.add(node("Reshape", result, scaled, extended(r, y, shape, width)));
        }
        return convert(r, job, y);
    }

    /** A shape with further dimensions behind it. */
    private String extended(Rope r, String y, String shape, String more) {
        String full = fresh(y + ".shape.full");
        Proto concat = start("Concat", full, shape, more).string(3, fresh(y + "/shape"));
        attribute(concat, "axis", 0);
        r.add(new Proto().message(1, concat));
        return full;
    }

    private Rope gatherBlocks(Job job) {
        blockedRows(job);
        for (Use u : job.info.value.uses) {
            Node n = u.node();
            edit(n.graph, n.fieldStart, n.end, gatherBlocks(job, n));
        }
        return new Rope();
    }

    /** Codes as they lie in each row, scales [rows, blocks], zero points as in MatMulNBits. */
    private void blockedRows(Job job) {
        microsoft = true;
        Form.Quantized f = job.form;
        long rows = job.shape.dim(0);
        long cols = job.shape.dim(1);
        long blocks = cols / f.block();
        job.rows = codes(job, DType.U8, rows, f.type().bytes(cols));
        job.rowScales = scales(job, rows, blocks);
        if (!f.symmetric()) {
            long bytes = f.type().bytes(blocks);
            job.rowZeros = payload(job, name(job, "zero"), DType.U8, new long[] {rows, bytes},
                    f.type().bits() == 4 ? Part.ZEROS_PACKED_BY_ROW : Part.ZEROS, rows * bytes);
        }
    }

    private Rope gatherBlocks(Job job, Node n) {
        Proto p = start("GatherBlockQuantized", n.outputs.get(0), job.rows, n.inputs.get(1), job.rowScales, job.rowZeros)
                .string(7, MICROSOFT).fields(kept(n));
        attribute(p, "bits", job.form.type().bits());
        attribute(p, "block_size", job.form.block());
        attribute(p, "gather_axis", 0);
        attribute(p, "quantize_axis", 1);
        return new Rope().add(new Proto().message(1, p));
    }

    private String subtract(Rope r, String base, String x, String zero) {
        String centred = fresh(base + ".centred");
        r.add(node("Sub", centred, x, zero));
        return centred;
    }

    private Rope dequantize(Job job) {
        Form.Quantized f = job.form;
        long[] dims = job.shape.dims();
        dims[f.axis()] = (dims[f.axis()] + f.block() - 1) / f.block();
        String codes = codes(job, f.type(), job.shape.dims());
        String scales = scales(job, dims);
        String zeros = f.symmetric() ? "" : payload(job, name(job, "zero"), f.type(), dims, Part.ZEROS_PACKED,
                f.type().bytes(job.groups()));
        Proto p = start("DequantizeLinear", decoded(job, job.name), codes, scales, zeros)
                .string(3, fresh(job.name + "/dequantize"));
        attribute(p, "axis", f.axis());
        attribute(p, "block_size", f.block());
        return convert(new Rope().add(new Proto().message(1, p)), job, job.name);
    }

    /** The name under which decoded values appear that are to become {@code result}: another if a Cast follows. */
    private String decoded(Job job, String result) {
        if (job.form.scaleType() == job.info.weight.tensor().dtype()) {
            return result;
        }
        job.unconverted = fresh(result + ".f32");
        return job.unconverted;
    }

    private Rope convert(Rope r, Job job, String result) {
        return job.unconverted == null ? r : r.add(cast(result, job.unconverted, job.info.weight.tensor().dtype()));
    }

    /** {@code (codes - zero) * scale}, blocks having an axis of their own until the last step. */
    private Rope arithmetic(Job job) {
        Form.Quantized f = job.form;
        DType type = f.scaleType();
        long[] dims = job.decodedDims();
        long[] split = dims;
        long[] perGroup = new long[f.axis() < 0 ? 0 : dims.length];
        Arrays.fill(perGroup, 1);
        if (f.block() > 0) {
            split = new long[dims.length + 1];
            System.arraycopy(dims, 0, split, 0, f.axis());
            split[f.axis()] = dims[f.axis()] / f.block();
            split[f.axis() + 1] = f.block();
            System.arraycopy(dims, f.axis() + 1, split, f.axis() + 2, dims.length - f.axis() - 1);
            perGroup = split.clone();
            perGroup[f.axis() + 1] = 1;
        } else if (f.axis() >= 0) {
            perGroup[f.axis()] = dims[f.axis()];
        }
        Rope r = new Rope();
        boolean nibbles = f.type().bits() == 4;
        boolean reshaped = f.block() > 0;
        String x = fresh(job.name + ".floats");
        if (nibbles && split.length > 0 && split[split.length - 1] % 2 == 0) {
            // Pairs have an axis of their own as well, until the last step.
            long[] packed = split.clone();
            packed[packed.length - 1] /= 2;
            unpack(r, x, codes(job, DType.U8, packed), pairs(job, type));
            perGroup = paired(perGroup);
            reshaped = true;
        } else if (nibbles) {
            long n = job.shape.elements();
            unpack(r, x, codes(job, DType.U8, (n + 1) / 2), pairs(job, type));
            if (n % 2 != 0) {
                x = dropLast(r, job, x, n);
            }
            String shaped = fresh(job.name + ".unpacked");
            r.add(node("Reshape", shaped, x, constant(job, "unpacked_shape", DType.I64, longs(split))));
            x = shaped;
        } else {
            r.add(cast(x, codes(job, f.type(), split), type));
        }
        String scales = scales(job, perGroup);
        if (!f.symmetric()) {
            String zeros = payload(job, name(job, "zero"), DType.U8, perGroup, Part.ZEROS, job.groups());
            String zeroFloats = fresh(job.name + ".zero.floats");
            r.add(cast(zeroFloats, zeros, type));
            x = subtract(r, job.name, x, zeroFloats);
        }
        if (!reshaped) {
            return convert(r.add(node("Mul", decoded(job, job.name), x, scales)), job, job.name);
        }
        String scaled = fresh(job.name + ".scaled");
        r.add(node("Mul", scaled, x, scales)).add(node("Reshape", decoded(job, job.name), scaled,
                constant(job, "shape", DType.I64, longs(dims))));
        return convert(r, job, job.name);
    }

    /** Dimensions of what is the same for both of a pair, or differs as its values do, with the axis of pairs behind the others. */
    private static long[] paired(long[] dims) {
        int rank = dims.length;
        if (rank == 0) {
            return dims;
        }
        boolean same = dims[rank - 1] == 1;
        long[] all = Arrays.copyOf(dims, rank + 1);
        all[rank] = same ? 1 : 2;
        all[rank - 1] = same ? 1 : dims[rank - 1] / 2;
        return all;
    }

    /** An odd number of nibbles fills its last byte half. */
    private String dropLast(Rope r, Job job, String pairs, long n) {
        String flat = fresh(job.name + ".flat");
        String cut = fresh(job.name + ".cut");
        r.add(node("Reshape", flat, pairs, constant(job, "flat_shape", DType.I64, longs(-1))));
        if (parsed.opsets.get("") >= 10) {
            r.add(node("Slice", cut, flat, constant(job, "first", DType.I64, longs(0)),
                    constant(job, "last", DType.I64, longs(n))));
            return cut;
        }
        Proto p = start("Slice", cut, flat).string(3, fresh(cut + "/slice"));
        p.message(5, new Proto().string(1, "starts").integer(8, 0).integer(20, 7));
        p.message(5, new Proto().string(1, "ends").integer(8, n).integer(20, 7));
        r.add(new Proto().message(1, p));
        return cut;
    }

    /**
     * What each byte means, as two floats, for operator sets without 4-bit types. Looking them up takes fewer steps than arithmetic does,
     * and a runtime that computes them when it loads a model has the results of all in memory at once.
     */
    private String pairs(Job job, DType type) {
        int middle = job.form.symmetric() ? job.form.middle() : 0;
        ByteBuffer all = ByteBuffer.allocate(BYTES * 2 * type.bits() / 8);
        for (int i = 0; i < BYTES; i++) {
            all.put(floats(type, (i & 15) - middle)).put(floats(type, (i >> 4) - middle));
        }
        return constant(job, "pairs", type, new long[] {BYTES, 2}, all.array());
    }

    /** Adds an axis of 2 behind those of the bytes. */
    private void unpack(Rope r, String result, String bytes, String pairs) {
        String indices = fresh(bytes + ".indices");
        r.add(cast(indices, bytes, DType.I32)).add(node("Gather", result, pairs, indices));
    }

    // Messages

    private static Proto start(String op, String out, String... in) {
        Proto p = new Proto();
        int n = in.length;
        while (n > 0 && in[n - 1].isEmpty()) {
            n--;
        }
        for (int i = 0; i < n; i++) {
            p.string(1, in[i]);
        }
        return p.string(2, out).string(4, op);
    }

    private Proto node(String op, String out, String... in) {
        return new Proto().message(1, start(op, out, in).string(3, fresh(out + "/" + op)));
    }

    private Proto cast(String out, String in, DType type) {
        Proto p = start("Cast", out, in).string(3, fresh(out + "/Cast"));
        attribute(p, "to", TensorInfo.code(type));
        return new Proto().message(1, p);
    }

    private static void attribute(Proto node, String name, long value) {
        node.message(5, new Proto().string(1, name).integer(3, value).integer(20, 2));
    }

    /** What a replaced node keeps: its name, documentation, metadata and everything not understood here. */
    private byte[] kept(Node n) {
        Wire w = model.wire();
        Proto p = new Proto();
        w.seek(n.start, n.end);
        while (w.next()) {
            switch (w.field) {
                case 1, 2, 4, 5, 7, 8 -> { }
                default -> p.fields(w.bytes(w.fieldStart, Math.toIntExact(w.end() - w.fieldStart)));
            }
        }
        return p.toBytes();
    }

    private String codes(Job job, DType type, long... dims) {
        return payload(job, name(job, "quantized"), type, dims, Part.CODES, job.form.codeBytes(job.shape));
    }

    private String scales(Job job, long... dims) {
        return payload(job, name(job, "scale"), job.form.scaleType(), dims, Part.SCALES,
                job.form.scaleType().bytes(job.groups()));
    }

    private String name(Job job, String what) {
        return fresh(job.name + "." + what);
    }

    private String payload(Job job, String name, DType type, long[] dims, Part part, long length) {
        Proto t = describe(name, type, dims);
        Rope.Payload payload = new Rope.Payload(job, part, length);
        if (job.external) {
            external(t, place(payload, null, 0, length), length);
            job.tensors.add(new Proto().message(5, t));
        } else {
            job.tensors.add(new Rope().add(t.header(9, length)).add(payload).field(5));
        }
        input(job, name, type, dims);
        return name;
    }

    private String constant(Job job, String what, DType type, byte[] data) {
        return constant(job, what, type, type == DType.I64 ? new long[] {data.length / 8} : new long[0], data);
    }

    private String constant(Job job, String what, DType type, long[] dims, byte[] data) {
        String name = name(job, what);
        job.tensors.add(new Proto().message(5, describe(name, type, dims).bytes(9, data)));
        input(job, name, type, dims);
        return name;
    }

    private static Proto describe(String name, DType type, long[] dims) {
        Proto t = new Proto();
        for (long d : dims) {
            t.integer(1, d);
        }
        return t.integer(2, TensorInfo.code(type)).string(8, name);
    }

    /** Before version 4 of the format every initializer was an input as well. */
    private void input(Job job, String name, DType type, long[] dims) {
        if (parsed.irVersion >= 4) {
            return;
        }
        Proto shape = new Proto();
        for (long d : dims) {
            shape.message(1, new Proto().integer(1, d));
        }
        Proto tensor = new Proto().integer(1, TensorInfo.code(type)).message(2, shape);
        job.inputs.add(new Proto().message(11,
                new Proto().string(1, name).message(2, new Proto().message(1, tensor))));
    }

    private static byte[] longs(long... values) {
        ByteBuffer b = ByteBuffer.allocate(values.length * 8).order(ByteOrder.LITTLE_ENDIAN);
        for (long v : values) {
            b.putLong(v);
        }
        return b.array();
    }

    private static byte[] floats(DType type, float value) {
        ByteBuffer b = ByteBuffer.allocate(type.bits() / 8).order(ByteOrder.LITTLE_ENDIAN);
        if (type == DType.F32) {
            b.putFloat(value);
        } else {
            b.putShort(Float.floatToFloat16(value));
        }
        return b.array();
    }

    /** A name that nothing in the model has; the whole model, since graphs inside see the names of those around. */
    private String fresh(String wanted) {
        if (names == null) {
            names = new HashSet<>();
            for (Graph g : parsed.graphs) {
                names.addAll(g.values.keySet());
                for (Node n : g.nodes) {
                    names.add(n.name);
                    names.addAll(n.inputs);
                }
            }
        }
        String name = wanted;
        while (!names.add(name)) {
            int number = numbers.getOrDefault(wanted, 1) + 1;
            numbers.put(wanted, number);
            name = wanted + "_" + number;
        }
        return name;
    }

    // Data files

    private long place(Rope.Payload payload, DataFile file, long fileOffset, long length) {
        long offset = (dataLength + PAGE - 1) / PAGE * PAGE;
        placed.add(new Placed(offset, payload, file, fileOffset, length));
        dataLength = Math.addExact(offset, length);
        return offset;
    }

    private void external(Proto tensor, long offset, long length) {
        entry(tensor, "location", location);
        entry(tensor, "offset", Long.toString(offset));
        entry(tensor, "length", Long.toString(length));
        tensor.integer(14, 1);
    }

    private static void entry(Proto tensor, String key, String value) {
        tensor.message(13, new Proto().string(1, key).string(2, value));
    }

    /** Tensors that are external already follow into the new data file, so that the output does not need the old one. */
    private void moveTensors(List<Info> infos, List<Choice> choices) {
        Set<TensorInfo> done = Collections.newSetFromMap(new IdentityHashMap<>());
        for (int i = 0; i < infos.size(); i++) {
            if (choices.get(i).kind() != Choice.Kind.KEEP) {
                done.add(infos.get(i).tensor);
            }
        }
        for (Graph g : parsed.graphs) {
            for (TensorInfo t : g.initializers) {
                boolean big = moveRaw && t.hasRaw && !t.external && t.bytes() == t.rawLength && t.rawLength >= SMALL;
                if ((t.external || big) && !done.contains(t)) {
                    edit(g, t.fieldStart, t.end, new Rope().add(new Proto().message(5, moved(t))));
                }
            }
            for (Node n : g.nodes) {
                Attribute a = n.is("Constant") ? n.attribute("value") : null;
                if (a != null && a.tensor != null && a.tensor.external && !done.contains(a.tensor)) {
                    touch(n);
                    list(attributeEdits, a).add(new Edit(a.tensorField, a.tensorEnd,
                            new Rope().add(new Proto().message(5, moved(a.tensor)))));
                }
            }
        }
    }

    private Proto moved(TensorInfo t) {
        Proto p = new Proto();
        Wire w = model.wire();
        w.seek(t.start, t.end);
        while (w.next()) {
            if (w.field != 9 && w.field != 13 && w.field != 14) {
                p.fields(w.bytes(w.fieldStart, Math.toIntExact(w.end() - w.fieldStart)));
            }
        }
        long length = t.external ? t.externalLength : t.rawLength;
        long offset;
        try {
            DataFile file = t.external ? model.dataFiles().of(t) : null;
            Region region = new Region(file == null ? model.path() : file.path(),
                    file == null ? t.rawStart : t.externalOffset, length);
            Long before = copied.get(region);
            if (before == null) {
                before = place(null, file, region.offset, length);
                copied.put(region, before);
            }
            offset = before;
        } catch (IOException e) {
            // Opened already, with the model.
            throw new UncheckedIOException(e);
        }
        external(p, offset, length);
        return p;
    }

    // Assembly

    private void touch(Node n) {
        if (seen.add(n)) {
            list(touched, n.graph).add(n);
        }
    }

    /** From the innermost graphs outwards, since the length of each is written in front of it. */
    private Rope assemble() {
        List<Edit> top = new ArrayList<>();
        for (int i = parsed.graphs.size() - 1; i >= 0; i--) {
            Graph g = parsed.graphs.get(i);
            List<Node> nodes = touched.get(g);
            if (nodes != null) {
                for (Node n : nodes) {
                    edit(g, n.fieldStart, n.end, node(n));
                }
            }
            List<Edit> own = edits.get(g);
            if (own == null) {
                continue;
            }
            Edit e = new Edit(g.fieldStart, g.end, Rope.splice(g.start, g.end, own).field(g.field));
            if (g.parent == null) {
                top.add(e);
            } else {
                list(attributeEdits, g.attribute).add(e);
                touch(g.owner);
            }
        }
        if (microsoft && !parsed.opsets.containsKey(MICROSOFT)) {
            top.add(new Edit(parsed.afterOpsets, parsed.afterOpsets, new Rope().add(new Proto().message(8,
                    new Proto().string(1, MICROSOFT).integer(2, 1)))));
        }
        return Rope.splice(0, model.size(), top);
    }

    private Rope node(Node n) {
        List<Edit> inNode = new ArrayList<>();
        for (Attribute a : n.attributes) {
            List<Edit> inAttribute = attributeEdits.get(a);
            if (inAttribute != null) {
                inNode.add(new Edit(a.fieldStart, a.end, Rope.splice(a.start, a.end, inAttribute).field(5)));
            }
        }
        return Rope.splice(n.start, n.end, inNode).field(1);
    }
}
