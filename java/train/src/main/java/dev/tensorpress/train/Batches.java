package dev.tensorpress.train;

import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.DataType;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.EditableTensor;
import dev.tensorpress.runtime.SampleReader;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.Collectors;

/**
 * Samples, some at a time, stacked along their first axis. Texts are padded to the longest of a batch, where an input {@value #MASK} says what is padding;
 * without such an input a batch has samples of one shape.
 */
final class Batches {
    /** 0 where a token is padding. */
    static final String MASK = "attention_mask";
    /** Batches among which texts are sorted by length, so that little is padded. */
    private static final int SORTED = 16;

    private final SampleReader reader;
    private final int size;
    private final long seed;
    /** Samples by number, with what their shapes are in one line, and how long they are. */
    private final List<Sample> samples = new ArrayList<>();
    private final boolean masked;
    private final int[] labels;
    private final Augmentation augmentation;

    private record Sample(int number, String shapes, long length) {}

    /**
     * @param from first sample; {@code to} is behind the last
     * @param size of a batch at most
     * @param labels of all samples of the reader; null if there are none
     * @param augmentation of images, in epochs from 1 on
     * @param digest takes what the samples are
     * @throws UnsupportedRequestException if one is empty, or holds NaN or infinity, or none of its inputs is an image that could be augmented
     */
    Batches(SampleReader reader, int from, int to, int size, long seed, int[] labels, Augmentation augmentation, Digest digest) throws IOException {
        this.reader = reader;
        this.size = size;
        this.seed = seed;
        this.labels = labels;
        this.augmentation = augmentation;
        boolean all = true;
        for (int i = from; i < to; i++) {
            try (Arena arena = Arena.ofConfined()) {
                Map<String, Tensor> one = reader.read(i, arena);
                all &= one.containsKey(MASK);
                if (one.values().stream().allMatch(t -> t.shape().elements() == 0)) {
                    throw new UnsupportedRequestException("sample " + (i + 1) + " is empty");
                }
                if (!augmentation.equals(Augmentation.NONE) && one.values().stream().noneMatch(Augmentation::isImage)) {
                    throw new UnsupportedRequestException("augmentation is for images, inputs of F32 with four axes, but these are "
                            + one.entrySet().stream().map(e -> e.getKey() + " of " + e.getValue().dtype() + " " + e.getValue().shape()).collect(Collectors.joining(", ")));
                }
                StringBuilder shapes = new StringBuilder();
                int number = i;
                new TreeMap<>(one).forEach((name, t) -> {
                    shapes.append(t.shape()).append(' ');
                    digest.add(name, t);
                    checkFinite(name, t, number);
                });
                samples.add(new Sample(i, shapes.toString(), one.values().stream().mapToLong(t -> t.shape().elements()).sum()));
            }
        }
        masked = all;
    }

    private static void checkFinite(String name, Tensor t, int number) {
        boolean floats = t.dtype() == DType.F32 || t.dtype() == DType.F64 || t.dtype() == DType.F16;
        for (long i = 0; floats && i < t.shape().elements(); i++) {
            double x = switch (t.dtype()) {
                case F64 -> t.data().get(ValueLayout.JAVA_DOUBLE_UNALIGNED, 8 * i);
                case F16 -> Float.float16ToFloat(t.data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * i));
                default -> t.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * i);
            };
            if (!Double.isFinite(x)) {
                throw new UnsupportedRequestException("input " + name + " of sample " + (number + 1) + " holds " + x);
            }
        }
    }

    int samples() {
        return samples.size();
    }

    /** Numbers of samples of each batch of an epoch; the same for the same seed. */
    List<int[]> epoch(int epoch) {
        List<Sample> order = new ArrayList<>(samples);
        Random random = new Random(seed * 0x9e3779b97f4a7c15L + epoch);
        Collections.shuffle(order, random);
        List<int[]> batches = new ArrayList<>();
        if (masked) {
            for (int at = 0; at < order.size(); at += SORTED * size) {
                List<Sample> some = order.subList(at, Math.min(order.size(), at + SORTED * size));
                some.sort(Comparator.comparingLong(Sample::length));
                cut(some, batches);
            }
        } else {
            Map<String, List<Sample>> alike = new LinkedHashMap<>();
            order.forEach(s -> alike.computeIfAbsent(s.shapes, _ -> new ArrayList<>()).add(s));
            alike.values().forEach(some -> cut(some, batches));
        }
        Collections.shuffle(batches, random);
        return batches;
    }

    private void cut(List<Sample> samples, List<int[]> batches) {
        for (int at = 0; at < samples.size(); at += size) {
            batches.add(samples.subList(at, Math.min(samples.size(), at + size)).stream().mapToInt(Sample::number).toArray());
        }
    }

    /**
     * Inputs by name.
     *
     * @param epoch of the draw by which images are augmented; 0 for images as they are
     */
    Map<String, NDArray> inputs(int[] batch, int epoch, NDManager scope) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            List<Map<String, Tensor>> all = new ArrayList<>();
            for (int number : batch) {
                Map<String, Tensor> one = reader.read(number, arena);
                if (epoch > 0 && !augmentation.equals(Augmentation.NONE)) {
                    one.values().stream().filter(Augmentation::isImage).forEach(t -> augmentation.apply(t, seed, epoch, number));
                }
                all.add(one);
            }
            Map<String, NDArray> inputs = new LinkedHashMap<>();
            for (String name : all.getFirst().keySet()) {
                inputs.put(name, Tensors.array(scope, name, EditableTensor.of(stack(name, all.stream().map(one -> one.get(name)).toList(), arena))));
            }
            return inputs;
        }
    }

    private static Tensor stack(String name, List<Tensor> parts, Arena arena) {
        DType type = parts.getFirst().dtype();
        int rank = parts.getFirst().shape().rank();
        if (rank == 0) {
            throw new UnsupportedRequestException("input " + name + " has no axis along which samples could be stacked");
        }
        long[] dims = new long[rank];
        for (Tensor t : parts) {
            if (t.shape().rank() != rank) {
                throw new UnsupportedRequestException("input " + name + " has " + rank + " axes in one sample and " + t.shape().rank() + " in another");
            }
            dims[0] += t.shape().dim(0);
            for (int i = 1; i < rank; i++) {
                dims[i] = Math.max(dims[i], t.shape().dim(i));
            }
        }
        Shape shape = Shape.of(dims);
        MemorySegment out = arena.allocate(type.bytes(shape.elements()), 64);
        long line = shape.elements() / Math.max(1, dims[0]);
        long row = 0;
        for (Tensor t : parts) {
            copy(t, 0, 0, t.shape().elements(), out, row * line, line * t.shape().dim(0), dims);
            row += t.shape().dim(0);
        }
        return new Tensor(type, shape, out);
    }

    /** Copies one axis after the other, with zeros behind what is shorter. */
    private static void copy(Tensor t, int axis, long from, long elements, MemorySegment out, long to, long room, long[] dims) {
        int width = t.dtype().bits() / 8;
        if (elements == 0) {
            return;
        }
        if (elements == room || axis == dims.length - 1) {
            MemorySegment.copy(t.data(), from * width, out, to * width, elements * width);
            return;
        }
        long n = t.shape().dim(axis);
        long wide = axis == 0 ? n : dims[axis];
        for (long i = 0; i < n; i++) {
            copy(t, axis + 1, from + i * (elements / n), elements / n, out, to + i * (room / wide), room / wide, dims);
        }
    }

    /** Classes of the samples, i64; null if there are none. */
    NDArray labels(int[] batch, NDManager scope) {
        if (labels == null) {
            return null;
        }
        long[] of = new long[batch.length];
        for (int i = 0; i < of.length; i++) {
            of[i] = labels[batch[i]];
        }
        return scope.create(of);
    }

    /** Which elements of values [batch, length, ...] count, f32 [batch, length]; null if all do. */
    NDArray mask(Map<String, NDArray> inputs) {
        return masked ? inputs.get(MASK).toType(DataType.FLOAT32, false) : null;
    }

    /** @throws UnsupportedRequestException if there is none */
    Batches checked() {
        if (samples.isEmpty()) {
            throw new UnsupportedRequestException("there is no sample to train on");
        }
        return this;
    }
}
