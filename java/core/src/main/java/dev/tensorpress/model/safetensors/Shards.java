package dev.tensorpress.model.safetensors;

import dev.tensorpress.tensor.DType;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;

/**
 * How weights are laid out in files: in the order of the input, all tensors of a weight in one file. Within a file the tensors
 * whose size is a multiple of 8 come first, in that order, so that what is read and written is read and written from start to
 * end; the others come after them, those with the largest elements first. So each is aligned to its elements.
 */
public final class Shards {
    private static final int ALIGNMENT = 8;

    private Shards() {}

    /** A tensor to lay out. */
    public interface Item {
        DType dtype();

        /** Size of the data. */
        long bytes();
    }

    /**
     * Cuts a model into files.
     *
     * @param weights tensors of each weight
     * @param largest bytes of tensors in a file, unless one weight has more
     * @return tensors of each file, in the order of their data; at least one file
     */
    public static <T extends Item> List<List<T>> cut(List<List<T>> weights, long largest) {
        List<List<T>> shards = new ArrayList<>();
        List<T> shard = new ArrayList<>();
        long bytes = 0;
        for (List<T> w : weights) {
            long more = 0;
            for (T item : w) {
                more = Math.addExact(more, item.bytes());
            }
            if (!shard.isEmpty() && more > largest - bytes) {
                shards.add(ordered(shard));
                shard = new ArrayList<>();
                bytes = 0;
            }
            shard.addAll(w);
            bytes = Math.addExact(bytes, more);
        }
        shards.add(ordered(shard));
        return shards;
    }

    private static <T extends Item> List<T> ordered(List<T> items) {
        List<T> first = new ArrayList<>(items.size());
        List<T> last = new ArrayList<>();
        for (T p : items) {
            (p.bytes() % ALIGNMENT == 0 ? first : last).add(p);
        }
        last.sort(Comparator.comparingInt((T p) -> -p.dtype().bits()));
        first.addAll(last);
        return first;
    }

    /** The name of a file, counted from 0. */
    public static String name(int shard, int of) {
        return of == 1 ? "model.safetensors" : String.format(Locale.ROOT, "model-%05d-of-%05d.safetensors", shard + 1, of);
    }
}
