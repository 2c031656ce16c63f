package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_block;
import dev.tensorpress.bindings.tp_coded;
import dev.tensorpress.bindings.tp_plane;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/**
 * Kernel family {@code coding}: makes arrays smaller without loss, a block at a time, by how often which value is there. A block says itself
 * what it is; {@code tensorpress/coding.h} describes its bytes. They are the same on every machine.
 *
 * <p>Memory is off-heap, at any byte unless said. All runs on the caller's thread: who has much to code cuts it into blocks of one to four
 * MiB, and spreads these over threads, with scratch for each.
 */
public final class Coding {
    /** Bytes that a block may have before it is coded. */
    public static final long MAX_BYTES = 1L << 26;

    private static final long SLACK = 64;

    /** What the bytes of a block are. */
    public enum Elements {
        BYTES(1),
        /** Two codes of 4 bits a byte. */
        NIBBLES(1),
        /** u16 below 4096. */
        SYMBOLS(2),
        F8_E4M3(1),
        F8_E5M2(1),
        F16(2),
        BF16(2),
        F32(4);

        private final int bytes;

        Elements(int bytes) {
            this.bytes = bytes;
        }

        /** Bytes of an element; of nibbles, of two. A block has whole ones. */
        public int bytes() {
            return bytes;
        }

        /** The {@code tp_elements}; pinned. */
        public int id() {
            return ordinal() + 1;
        }
    }

    /** How a plane is coded; {@code tensorpress/coding.h} says what that means. */
    public enum Kind {
        STORED,
        CONSTANT,
        RANS,
        HUFFMAN,
        /** A bit for each zero, and what is not 0. */
        MASKED,
        /** Runs of zeros, and what is between. */
        RUNS,
        /** Nibbles one by one. */
        CODES
    }

    /** What a plane has in it. */
    public enum Part { BYTES, SYMBOLS, EXPONENTS, MANTISSAS, MIDDLE, LOW }

    /**
     * What became of a plane, and why.
     *
     * @param bytesIn of the plane
     * @param bytesOut in the block
     * @param sizes what it would have taken in each way that was considered, in part estimated
     */
    public record Plane(Part part, Kind kind, long bytesIn, long bytesOut, Map<Kind, Long> sizes) {
        public Plane {
            sizes = Map.copyOf(sizes);
        }
    }

    /**
     * What became of a block.
     *
     * @param bytes of it
     * @param planes that its elements were taken apart into
     */
    public record Coded(long bytes, List<Plane> planes) {
        public Coded {
            planes = List.copyOf(planes);
        }
    }

    static {
        dev.tensorpress.internal.NativeLibrary.load();
    }

    private Coding() {}

    /** The most bytes that a block of so many may have, all of which {@link #encode} may write. */
    public static long bound(Elements elements, long bytes) {
        check(elements, bytes);
        return bytes + SLACK;
    }

    /** Bytes of scratch for a block of so many, in both directions. */
    public static long scratchBytes(Elements elements, long bytes) {
        check(elements, bytes);
        return Native.size("tp_block_scratch", out -> Kernels.tp_block_scratch(elements.id(), bytes, out));
    }

    private static void check(Elements elements, long bytes) {
        if (bytes < 0 || bytes > MAX_BYTES || bytes % elements.bytes != 0) {
            throw new IllegalArgumentException("a block of " + elements + " cannot have " + bytes + " bytes: it has whole elements of "
                    + elements.bytes + " bytes, and at most " + MAX_BYTES);
        }
    }

    /**
     * Codes a block.
     *
     * @param in at most {@link #MAX_BYTES}, whole elements
     * @param base {@code NULL}, or as many bytes as {@code in}, which that is XORed with first
     * @param out at least {@link #bound} bytes
     * @param scratch at least {@link #scratchBytes}, aligned to 64
     * @throws KernelException for symbols that are 4096 or more
     */
    public static Coded encode(Elements elements, MemorySegment in, MemorySegment base, MemorySegment out, MemorySegment scratch) {
        Native.input("in", in, 0, null);
        long bytes = in.byteSize();
        check(elements, bytes);
        boolean delta = checkBase(base, bytes);
        Native.output("out", out, bound(elements, bytes), null);
        checkScratch(elements, bytes, scratch);
        Native.apart("out", out, "in", in);
        Native.apart("out", out, "base", base);
        Native.apart("scratch", scratch, "in", in);
        Native.apart("scratch", scratch, "base", base);
        Native.apart("scratch", scratch, "out", out);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment coded = arena.allocate(tp_coded.layout());
            Native.call("tp_block_encode", null, 1, Native.Cost.of(delta ? 2 * bytes : bytes, bytes), () ->
                    Kernels.tp_block_encode(elements.id(), bytes, in, base, out, out.byteSize(), scratch, coded));
            List<Plane> planes = new ArrayList<>();
            for (int p = 0; p < tp_coded.planes(coded); p++) {
                planes.add(plane(tp_coded.plane(coded, p)));
            }
            return new Coded(tp_coded.bytes(coded), planes);
        }
    }

    private static Plane plane(MemorySegment plane) {
        Map<Kind, Long> sizes = new EnumMap<>(Kind.class);
        for (Kind kind : Kind.values()) {
            long size = tp_plane.sizes(plane).getAtIndex(JAVA_LONG, kind.ordinal());
            if (size >= 0) {
                sizes.put(kind, size);
            }
        }
        return new Plane(Part.values()[tp_plane.part(plane) - 1], Kind.values()[tp_plane.coding(plane)], tp_plane.in_bytes(plane),
                tp_plane.out_bytes(plane), sizes);
    }

    /**
     * Decodes a block.
     *
     * @param block exactly its bytes, which may be any
     * @param base what it was coded with, or {@code NULL}
     * @param out exactly as many bytes as were coded; what is in it after an exception is not said
     * @param scratch as for {@link #encode}
     * @throws CodingFormatException if the block cannot be decoded, to so many bytes, or with this base. Damage may also show in nothing but what is
     *     decoded
     */
    public static void decode(MemorySegment block, MemorySegment base, MemorySegment out, MemorySegment scratch) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment header = header(block, arena);
            long bytes = tp_block.bytes(header);
            if (out.byteSize() != bytes) {
                throw new CodingFormatException("a block of " + bytes + " bytes, and not of " + out.byteSize());
            }
            boolean delta = checkBase(base, bytes);
            if (delta != (tp_block.delta(header) != 0)) {
                throw new CodingFormatException(delta ? "a block that has no base" : "a block that needs a base");
            }
            Native.output("out", out, bytes, null);
            checkScratch(Elements.values()[tp_block.elements(header) - 1], bytes, scratch);
            Native.apart("out", out, "block", block);
            Native.apart("out", out, "base", base);
            Native.apart("scratch", scratch, "block", block);
            Native.apart("scratch", scratch, "base", base);
            Native.apart("scratch", scratch, "out", out);
            int[] status = new int[1];
            Native.call("tp_block_decode", null, 1, Native.Cost.of(block.byteSize() + (delta ? bytes : 0), bytes), () -> {
                status[0] = Kernels.tp_block_decode(block, block.byteSize(), base, out, bytes, scratch);
                return status[0] == KernelException.FORMAT ? 0 : status[0];
            });
            if (status[0] != 0) {
                throw new CodingFormatException("a block that is damaged");
            }
        }
    }

    /**
     * Bytes that a block decodes to, by its header: at most {@link #MAX_BYTES}.
     *
     * @param block exactly its bytes, which may be any
     * @throws CodingFormatException if it is no block
     */
    public static long decodedBytes(MemorySegment block) {
        try (Arena arena = Arena.ofConfined()) {
            return tp_block.bytes(header(block, arena));
        }
    }

    /**
     * What a block has in it, by its header.
     *
     * @throws CodingFormatException if it is no block
     */
    public static Elements elements(MemorySegment block) {
        try (Arena arena = Arena.ofConfined()) {
            return Elements.values()[tp_block.elements(header(block, arena)) - 1];
        }
    }

    private static MemorySegment header(MemorySegment block, Arena arena) {
        Native.input("block", block, 0, null);
        MemorySegment header = arena.allocate(tp_block.layout());
        if (!Native.check("tp_block_header", Kernels.tp_block_header(block, block.byteSize(), header), KernelException.FORMAT)) {
            throw new CodingFormatException(block.byteSize() + " bytes that are no block");
        }
        return header;
    }

    /** Whether there is one. */
    private static boolean checkBase(MemorySegment base, long bytes) {
        if (base.equals(MemorySegment.NULL)) {
            return false;
        }
        Native.input("base", base, 0, null);
        if (base.byteSize() != bytes) {
            throw new IllegalArgumentException("base must have " + bytes + " bytes, but has " + base.byteSize());
        }
        return true;
    }

    private static void checkScratch(Elements elements, long bytes, MemorySegment scratch) {
        Native.output("scratch", scratch, scratchBytes(elements, bytes), null);
        Native.aligned("scratch", scratch, 64);
    }
}
