package dev.tensorpress.kernel;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.tensorpress.bindings.Kernels;
import dev.tensorpress.bindings.tp_block;
import dev.tensorpress.bindings.tp_coded;
import dev.tensorpress.bindings.tp_plane;
import dev.tensorpress.bindings.tp_rans_array;
import dev.tensorpress.tensor.DType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Kernel family {@code coding}: makes arrays smaller without loss, a block at a time, by how often which value is there. A block says itself
 * what it is; {@code tensorpress/coding.h} describes its bytes. They are the same on every machine.
 *
 * <p>Memory is off-heap, at any byte unless said. Blocks are coded on the caller's thread: who has much to code cuts it into blocks of one to four
 * MiB, and spreads these over threads, with scratch for each. {@link #decodeRans} takes many arrays at once, on threads or on a device.
 */
public final class Coding {
    /** Bytes that a block may have before it is coded. */
    public static final long MAX_BYTES = 1L << 26;

    private static final long SLACK = 64;

    /**
     * Symbols that were coded by rANS with frequencies of their own, without a block around them.
     *
     * @param in their bytes are {@code in[in .. in + bytes - 1]}
     * @param out the first of them becomes symbol number {@code out}
     * @param logTotal frequencies sum to 2^this, 11 to 15
     */
    public record Rans(long symbols, long in, long bytes, long out, int logTotal) {
        /** The same at other places. */
        public Rans at(long in, long out) {
            return new Rans(symbols, in, bytes, out, logTotal);
        }
    }

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

    /** The most bytes that so many symbols of a type take, coded by rANS: all that {@link #encodeRans} may write. */
    public static long ransBound(DType type, long symbols) {
        alphabet(type);
        return Math.addExact(Math.multiplyExact(2, symbols), 2 * 4 * (long) Kernels.TP_CODING_LANES() + 4);
    }

    /** Symbols that there can be: u8, or u16 below 4096. */
    private static int alphabet(DType type) {
        Native.oneOf("symbols", type, DType.U8, DType.U16);
        return type == DType.U8 ? 256 : Kernels.TP_CODING_ALPHABET();
    }

    /**
     * Codes symbols by rANS, with the frequencies that suit them best.
     *
     * @param type u8, or u16 below 4096
     * @param in whole symbols, less than 2^28; two of them at least are different
     * @param frequencies u16 [256] or [4096], out
     * @param out at least {@link #ransBound} bytes
     * @return where they are: at 0 of {@code in} and of {@code out}
     * @throws KernelException for symbols that are 4096 or more, or all the same
     */
    public static Rans encodeRans(DType type, MemorySegment in, MemorySegment frequencies, MemorySegment out) {
        int alphabet = alphabet(type);
        Native.input("in", in, 0, null);
        int width = (int) type.bytes(1);
        long symbols = in.byteSize() / width;
        Native.result("frequencies", frequencies, DType.U16, 1, alphabet, alphabet, null);
        Native.apart("out", out, "frequencies", frequencies);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment counts = arena.allocate(JAVA_INT, alphabet);
            Native.check("tp_coding_histogram", Kernels.tp_coding_histogram(width, symbols, in, counts));
            return encodeRans(type, in, frequencies(type, counts, 0, frequencies), frequencies, out);
        }
    }

    /**
     * Frequencies that code symbols with these counts in few bits: at least 1 where the count is, 0 elsewhere.
     *
     * @param type u8, or u16 below 4096
     * @param counts i32 [256] or [4096], at least 0, that sum to less than 2^28; at least two are not 0
     * @param logTotal frequencies sum to 2^this, 11 to 15; 0 for what suits best
     * @param frequencies u16 [256] or [4096], out
     * @return what they sum to, as power of two
     * @throws KernelException for counts that are not as said
     */
    public static int frequencies(DType type, MemorySegment counts, int logTotal, MemorySegment frequencies) {
        int alphabet = alphabet(type);
        Native.operand("counts", counts, DType.I32, 1, alphabet, alphabet, null);
        Native.result("frequencies", frequencies, DType.U16, 1, alphabet, alphabet, null);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment k = arena.allocate(JAVA_INT);
            MemorySegment bits = arena.allocate(JAVA_LONG);
            Native.check("tp_coding_frequencies", Kernels.tp_coding_frequencies(alphabet, counts, logTotal, frequencies, k, bits));
            return k.get(JAVA_INT, 0);
        }
    }

    /**
     * Codes symbols by rANS, with given frequencies, which whoever decodes them has to have.
     *
     * @param type u8, or u16 below 4096
     * @param in whole symbols
     * @param logTotal frequencies sum to 2^this, 11 to 15
     * @param frequencies u16 [256] or [4096], each less than that
     * @param out at least {@link #ransBound} bytes
     * @return where they are: at 0 of {@code in} and of {@code out}
     * @throws KernelException for symbols without a frequency, or frequencies that are not as said
     */
    public static Rans encodeRans(DType type, MemorySegment in, int logTotal, MemorySegment frequencies, MemorySegment out) {
        int alphabet = alphabet(type);
        Native.input("in", in, 0, null);
        int width = (int) type.bytes(1);
        long symbols = in.byteSize() / width;
        Native.operand("frequencies", frequencies, DType.U16, 1, alphabet, alphabet, null);
        Native.output("out", out, ransBound(type, symbols), null);
        Native.apart("out", out, "in", in);
        Native.apart("out", out, "frequencies", frequencies);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment scratch = arena.allocate(Kernels.TP_CODING_SCRATCH(), 64);
            MemorySegment bytes = arena.allocate(JAVA_LONG);
            Native.call("tp_rans_encode", null, 1, Native.Cost.of(symbols * width, symbols * width), () ->
                    Kernels.tp_rans_encode(width, symbols, in, logTotal, frequencies, out, out.byteSize(), bytes, scratch));
            return new Rans(symbols, 0, bytes.get(JAVA_LONG, 0), 0, logTotal);
        }
    }

    /**
     * Decodes arrays, each with its frequencies; a device is busy with some thousand of them.
     *
     * @param type of symbols, as above
     * @param frequencies u16 [arrays, 256] or [arrays, 4096], of this process
     * @param in bytes of all arrays, which may be any
     * @param out symbols of all arrays, which do not overlap
     * @throws CodingFormatException if one of them cannot be decoded; the others are
     */
    public static void decodeRans(DType type, List<Rans> arrays, MemorySegment frequencies, MemorySegment in, MemorySegment out, Executor executor) {
        long alphabet = alphabet(type);
        int width = (int) type.bytes(1);
        long inBytes = 0;
        long symbols = 0;
        for (Rans array : arrays) {
            if (array.symbols < 0 || array.in < 0 || array.bytes < 0 || array.out < 0) {
                throw new IllegalArgumentException("an array with negative numbers: " + array);
            }
            inBytes = Math.max(inBytes, Math.addExact(array.in, array.bytes));
            symbols = Math.max(symbols, Math.addExact(array.out, array.symbols));
        }
        long readable = inBytes;
        long writable = symbols;
        Native.operand("frequencies", frequencies, DType.U16, arrays.size(), alphabet, alphabet, Native.host(executor));
        Native.input("in", in, readable, executor);
        Native.result("out", out, type, 1, writable, writable, executor);
        Native.apart("out", out, "in", in);
        AtomicBoolean damaged = new AtomicBoolean();
        long each = arrays.isEmpty() ? 1 : symbols / arrays.size();
        Native.run("tp_rans_decode_all", executor, arrays.size(), 1, Executor.worth(each), Kernels.TP_CODING_SCRATCH(),
                Native.Cost.of(readable, writable * width), (begin, end, worker) -> {
                    for (long a = begin; a < end; a++) {
                        Rans array = arrays.get((int) a);
                        int status = Kernels.tp_rans_decode(width, array.symbols, array.logTotal, frequencies.asSlice(2 * a * alphabet),
                                in.asSlice(array.in), array.bytes, out.asSlice(array.out * width), worker.scratch());
                        if (noted(status, damaged) != 0) {
                            return status;
                        }
                    }
                    return 0;
                }, (cuda, begin, end) -> {
                    try (Arena arena = Arena.ofConfined()) {
                        MemorySegment all = tp_rans_array.allocateArray(arrays.size(), arena);
                        for (int a = 0; a < arrays.size(); a++) {
                            Rans array = arrays.get(a);
                            MemorySegment s = tp_rans_array.asSlice(all, a);
                            tp_rans_array.symbols(s, array.symbols);
                            tp_rans_array.in(s, array.in);
                            tp_rans_array.bytes(s, array.bytes);
                            tp_rans_array.out(s, array.out);
                            tp_rans_array.log_total(s, array.logTotal);
                        }
                        return noted(Kernels.tp_cuda_rans_decode_all(cuda, width, arrays.size(), all, frequencies, in, readable, out, writable),
                                damaged);
                    }
                });
        if (damaged.get()) {
            throw new CodingFormatException("symbols that are damaged");
        }
    }

    /** The status, but that damage is kept for later. */
    private static int noted(int status, AtomicBoolean damaged) {
        if (status != KernelException.FORMAT) {
            return status;
        }
        damaged.set(true);
        return 0;
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
            AtomicBoolean damaged = new AtomicBoolean();
            Native.call("tp_block_decode", null, 1, Native.Cost.of(block.byteSize() + (delta ? bytes : 0), bytes), () ->
                    noted(Kernels.tp_block_decode(block, block.byteSize(), base, out, bytes, scratch), damaged));
            if (damaged.get()) {
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
