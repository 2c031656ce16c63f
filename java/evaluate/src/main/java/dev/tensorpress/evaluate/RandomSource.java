package dev.tensorpress.evaluate;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.TensorInfo;
import dev.tensorpress.model.UnsupportedRequestException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
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
final class RandomSource implements Evaluation.Source {
    private static final long LENGTH = 8;
    private static final long LARGEST = 1L << 28;

    private final int count;
    private final long seed;
    private final List<Long> tables;

    /** @param tables rows of the model's embedding tables */
    RandomSource(int count, long seed, List<Long> tables) {
        this.count = count;
        this.seed = seed;
        this.tables = tables;
    }

    @Override
    public int size() {
        return count;
    }

    @Override
    public Map<String, OnnxTensor> feed(Session session, int i) {
        SplittableRandom random = new SplittableRandom(seed * count + i);
        Map<String, Long> sizes = sizes(session.inputs());
        long bound = indexBound(session.inputs());
        Map<String, OnnxTensor> feed = new LinkedHashMap<>();
        for (Map.Entry<String, TensorInfo> input : session.inputs().entrySet()) {
            long[] shape = shape(input.getKey(), input.getValue(), sizes);
            feed.put(input.getKey(), tensor(session, input.getKey(), input.getValue().type, shape, bound, random));
        }
        return feed;
    }

    /**
     * Sizes of the open dimensions that have names: one that is not the first of every input is a length. Some exporters
     * give all dimensions of an input one name; that says nothing, and is left out.
     */
    private static Map<String, Long> sizes(Map<String, TensorInfo> inputs) {
        Map<String, Long> sizes = new HashMap<>();
        Set<String> repeated = new HashSet<>();
        for (TensorInfo info : inputs.values()) {
            String[] names = info.getDimensionNames();
            Set<String> seen = new HashSet<>();
            for (int d = 0; d < names.length; d++) {
                sizes.merge(names[d], d == 0 ? 1 : LENGTH, Math::max);
                if (!seen.add(names[d])) {
                    repeated.add(names[d]);
                }
            }
        }
        sizes.keySet().removeAll(repeated);
        return sizes;
    }

    private static long[] shape(String input, TensorInfo info, Map<String, Long> sizes) {
        long[] shape = info.getShape();
        String[] names = info.getDimensionNames();
        long elements = 1;
        for (int d = 0; d < shape.length; d++) {
            if (shape[d] < 0) {
                long otherwise = d == 0 ? 1 : LENGTH;
                boolean named = d < names.length && !names[d].isEmpty();
                shape[d] = named ? sizes.getOrDefault(names[d], otherwise) : otherwise;
            }
            // Both factors stay below 2^28, or this has thrown: no overflow.
            elements = shape[d] > LARGEST ? LARGEST + 1 : elements * shape[d];
            if (elements > LARGEST) {
                throw new UnsupportedRequestException("input " + input + " is too large to fill with random values");
            }
        }
        return shape;
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
