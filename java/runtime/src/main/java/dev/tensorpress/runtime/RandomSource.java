package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.TensorInfo;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.Shape;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;

/** Random values in the shapes and types that a model declares. */
final class RandomSource extends Samples {
    /** Of the dimensions that a model leaves open, the first one excepted. Many graphs of images halve them up to five times. */
    private static final long[] LENGTHS = {8, 32, 64, 224, 256};
    private static final long LARGEST = 1L << 28;

    private final int count;
    private final long seed;
    /** Rows of embedding tables. */
    private final List<Long> tables = new ArrayList<>();
    private final Map<String, Shape> given;
    /** Of all inputs; chosen when the first session, that of the reference, is fed. */
    private Map<String, Comparison.Input> inputs;

    /**
     * @param model whose embedding tables are looked up
     * @param given shapes of inputs by name, all or some
     */
    RandomSource(Model model, int count, long seed, Map<String, Shape> given) {
        this.count = count;
        this.seed = seed;
        this.given = given;
        for (Weight weight : model.weights()) {
            if (isTable(weight)) {
                tables.add(weight.tensor().shape().dim(0));
            }
        }
    }

    /** One that is the matrix of a product as well has the role of that. */
    private static boolean isTable(Weight weight) {
        boolean gathered = weight.role() == Role.EMBEDDING;
        for (String use : weight.uses()) {
            gathered |= weight.role().isProduct() && use.startsWith("Gather ");
        }
        return gathered;
    }

    /** What a model was fed with. */
    List<Comparison.Input> inputs() {
        return List.copyOf(inputs.values());
    }

    @Override
    public String source() {
        return "random inputs";
    }

    @Override
    public int size() {
        return count;
    }

    @Override
    Map<String, OnnxTensor> feed(Session session, int i) {
        if (inputs == null) {
            choose(session);
        }
        SplittableRandom random = new SplittableRandom(seed * count + i);
        long bound = indexBound(session.inputs());
        Map<String, OnnxTensor> feed = new LinkedHashMap<>();
        for (Map.Entry<String, TensorInfo> input : session.inputs().entrySet()) {
            Comparison.Input chosen = inputs.get(input.getKey());
            if (chosen == null) {
                throw new UnsupportedRequestException(session.model() + " has an input " + input.getKey()
                        + ", which the reference has not: these are not the same model");
            }
            feed.put(input.getKey(),
                    tensor(session, input.getKey(), input.getValue().type, chosen.shape().dims(), bound, random));
        }
        return feed;
    }

    /** Takes the first length that the model runs with, if there is one to choose. */
    private void choose(Session session) {
        check(session);
        if (!lengthsAreOpen(session.inputs())) {
            inputs = inputs(session.inputs(), LENGTHS[0]);
            return;
        }
        UnsupportedRequestException first = null;
        for (long length : LENGTHS) {
            inputs = inputs(session.inputs(), length);
            Map<String, OnnxTensor> feed = feed(session, 0);
            try {
                session.run(feed, outputs -> { });
                return;
            } catch (UnsupportedRequestException e) {
                first = first == null ? e : first;
            }
        }
        UnsupportedRequestException none = new UnsupportedRequestException(session.model() + " does not run with "
                + Arrays.toString(LENGTHS) + " in the dimensions that it leaves open: " + session.declared()
                + "; give the shape of an input; with " + LENGTHS[0] + ", " + first.getMessage(), "shapes");
        none.initCause(first);
        throw none;
    }

    /** @throws InputException if a given shape is of no input, or does not fit the declared one */
    private void check(Session session) {
        for (Map.Entry<String, Shape> shape : given.entrySet()) {
            if (!session.inputs().containsKey(shape.getKey())) {
                throw new InputException("there is no input '" + shape.getKey() + "' to give a shape to; " + session.model()
                        + " has " + session.declared());
            }
            session.check(shape.getKey(), shape.getValue());
        }
    }

    private boolean lengthsAreOpen(Map<String, TensorInfo> inputs) {
        for (Map.Entry<String, TensorInfo> input : inputs.entrySet()) {
            if (!given.containsKey(input.getKey()) && Arrays.stream(input.getValue().getShape()).skip(1).anyMatch(d -> d < 0)) {
                return true;
            }
        }
        return false;
    }

    private Map<String, Comparison.Input> inputs(Map<String, TensorInfo> inputs, long length) {
        Map<String, Long> sizes = sizes(inputs, length);
        Map<String, Comparison.Input> shapes = new LinkedHashMap<>();
        inputs.forEach((name, info) -> {
            long[] shape = given.containsKey(name) ? given.get(name).dims() : shape(info, sizes, length);
            boolean chosen = !given.containsKey(name) && Arrays.stream(info.getShape()).anyMatch(d -> d < 0);
            shapes.put(name, new Comparison.Input(name, checked(name, shape), chosen));
        });
        return shapes;
    }

    /**
     * Sizes of the open dimensions that have names: one that is not the first of every input is a length, unless a given
     * shape says what it is. Some exporters give all dimensions of an input one name; that says nothing, and is left out.
     */
    private Map<String, Long> sizes(Map<String, TensorInfo> inputs, long length) {
        Map<String, Long> sizes = new HashMap<>();
        Set<String> repeated = new HashSet<>();
        for (TensorInfo info : inputs.values()) {
            String[] names = info.getDimensionNames();
            Set<String> seen = new HashSet<>();
            for (int d = 0; d < names.length; d++) {
                sizes.merge(names[d], d == 0 ? 1 : length, Math::max);
                if (!seen.add(names[d])) {
                    repeated.add(names[d]);
                }
            }
        }
        given.forEach((input, shape) -> {
            String[] names = inputs.get(input).getDimensionNames();
            for (int d = 0; d < names.length; d++) {
                sizes.put(names[d], shape.dim(d));
            }
        });
        sizes.keySet().removeAll(repeated);
        return sizes;
    }

    private static long[] shape(TensorInfo info, Map<String, Long> sizes, long length) {
        long[] shape = info.getShape();
        String[] names = info.getDimensionNames();
        for (int d = 0; d < shape.length; d++) {
            if (shape[d] < 0) {
                long otherwise = d == 0 ? 1 : length;
                boolean named = d < names.length && !names[d].isEmpty();
                shape[d] = named ? sizes.getOrDefault(names[d], otherwise) : otherwise;
            }
        }
        return shape;
    }

    private static Shape checked(String input, long[] shape) {
        long elements = 1;
        for (long dim : shape) {
            // Both factors stay below 2^28, or this has thrown: no overflow.
            elements = dim > LARGEST ? LARGEST + 1 : elements * dim;
            if (elements > LARGEST) {
                throw new UnsupportedRequestException("input " + input + " is too large to fill with random values");
            }
        }
        return Shape.of(shape);
    }

    private static boolean isIndex(String name, OnnxJavaType type) {
        return (type == OnnxJavaType.INT64 || type == OnnxJavaType.INT32)
                && !isMask(name) && !isPosition(name) && !isType(name);
    }

    private static boolean isMask(String name) {
        return name.toLowerCase(Locale.ROOT).contains("mask");
    }

    private static boolean isPosition(String name) {
        return name.toLowerCase(Locale.ROOT).contains("position");
    }

    private static boolean isType(String name) {
        return name.toLowerCase(Locale.ROOT).contains("type");
    }

    /**
     * Integers are mostly rows of a table. A single such input looks up the largest table, that of words; which one
     * several inputs look up is not known, and only an index into the smallest is safe then.
     */
    private long indexBound(Map<String, TensorInfo> inputs) {
        long indices = 0;
        for (Map.Entry<String, TensorInfo> input : inputs.entrySet()) {
            indices += isIndex(input.getKey(), input.getValue().type) ? 1 : 0;
        }
        return tables.isEmpty() ? 2 : Math.max(1, indices > 1 ? Collections.min(tables) : Collections.max(tables));
    }

    private static OnnxTensor tensor(Session session, String name, OnnxJavaType type, long[] shape, long bound,
            SplittableRandom random) {
        int n = 1;
        for (long dim : shape) {
            n = (int) (n * dim);
        }
        ByteBuffer data = ByteBuffer.allocateDirect(Math.multiplyExact(Math.max(n, 1), type.size))
                .order(ByteOrder.nativeOrder());
        int last = shape.length == 0 ? 1 : (int) Math.max(1, shape[shape.length - 1]);
        for (int i = 0; i < n; i++) {
            switch (type) {
                case FLOAT -> data.putFloat((float) random.nextGaussian());
                case DOUBLE -> data.putDouble(random.nextGaussian());
                case FLOAT16 -> data.putShort(Float.floatToFloat16((float) random.nextGaussian()));
                case BFLOAT16 -> data.putShort((short) (Float.floatToIntBits((float) random.nextGaussian()) >> 16));
                case INT64 -> data.putLong(integer(name, i % last, bound, random));
                case INT32 -> data.putInt((int) integer(name, i % last, bound, random));
                case INT8, UINT8 -> data.put((byte) random.nextInt(256));
                case BOOL -> data.put((byte) random.nextInt(2));
                default -> throw new UnsupportedRequestException("input " + name + " of " + session.model() + " is "
                        + type + ", for which there are no random values");
            }
        }
        try {
            return OnnxTensor.createTensor(Session.environment(), data.rewind().limit(n * type.size), shape, type);
        } catch (OrtException e) {
            throw new IllegalStateException(e);
        }
    }

    private static long integer(String name, int position, long bound, SplittableRandom random) {
        return isMask(name) ? 1 : isPosition(name) ? position : isType(name) ? 0 : random.nextLong(bound);
    }
}
