package dev.tensorpress.model.safetensors;

import dev.tensorpress.io.PlannedFile;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * Writes the format that {@link Safetensors} reads. Tensors are ordered by the size of their elements, the largest first,
 * then by name, so that each is aligned to its elements; keys of the metadata are sorted. So the same tensors give the same
 * bytes.
 */
public final class SafetensorsWriter {
    private static final long STEP = 8 << 20;

    private final List<Item> items;
    private final Map<String, String> metadata = new TreeMap<>();

    /** Contents that are made when they are written. */
    @FunctionalInterface
    public interface Data {
        /** Appends the tensor's bytes, all of them and no more. */
        void write(FileChannel to) throws IOException;

        /** Bytes at hand. */
        static Data of(MemorySegment bytes) {
            return to -> {
                for (long at = 0; at < bytes.byteSize(); at += STEP) {
                    ByteBuffer b = bytes.asSlice(at, Math.min(STEP, bytes.byteSize() - at)).asByteBuffer();
                    while (b.hasRemaining()) {
                        to.write(b);
                    }
                }
            };
        }
    }

    /** A tensor to write. */
    public record Item(String name, DType dtype, Shape shape, Data data) {
        /** Size of the data. */
        public long bytes() {
            return dtype.bytes(shape.elements());
        }
    }

    /**
     * @throws IllegalArgumentException if two tensors have one name, or the format has no such type, or a tensor does not end with
     *     a whole byte
     */
    public SafetensorsWriter(List<Item> items, Map<String, String> metadata) {
        this.items = new ArrayList<>(items);
        Set<String> names = new HashSet<>();
        for (Item i : items) {
            if (!names.add(i.name) || i.name.equals(Safetensors.METADATA)) {
                throw new IllegalArgumentException("a second tensor, or metadata, has the name '" + i.name + "'");
            }
            Header.id(i.dtype);
            if (i.dtype.bits() < 8 && i.shape.elements() % 8 * i.dtype.bits() % 8 != 0) {
                throw new IllegalArgumentException("tensor '" + i.name + "' would end inside a byte");
            }
        }
        this.items.sort(Comparator.comparingInt((Item i) -> -i.dtype.bits()).thenComparing(Item::name));
        this.metadata.putAll(metadata);
    }

    /** Bytes of the file. */
    public long length() {
        long n = headerLength();
        for (Item i : items) {
            n = Math.addExact(n, i.bytes());
        }
        return n;
    }

    /** Bytes that precede the data. */
    public long headerLength() {
        return header().length;
    }

    /**
     * Writes all, from the channel's start.
     *
     * @throws IllegalStateException if a tensor's data are not as long as its shape says
     */
    public void write(FileChannel to) throws IOException {
        ByteBuffer header = ByteBuffer.wrap(header());
        long at = header.capacity();
        while (header.hasRemaining()) {
            to.write(header);
        }
        for (Item i : items) {
            i.data.write(to);
            at += i.bytes();
            if (to.position() != at) {
                throw new IllegalStateException("tensor '" + i.name + "' of " + i.bytes() + " bytes wrote "
                        + (to.position() - at + i.bytes()));
            }
        }
    }

    private byte[] header() {
        List<PlannedFile.Tensor> all = new ArrayList<>(items.size());
        for (Item i : items) {
            all.add(Header.tensor(i.name, i.dtype, i.shape));
        }
        return Header.write(all, metadata);
    }
}
