package dev.tensorpress.runtime;

import dev.tensorpress.kernel.Coding;
import dev.tensorpress.kernel.CodingFormatException;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import java.io.ByteArrayOutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.function.IntToDoubleFunction;
import java.util.stream.IntStream;

/**
 * Codes matrices of integers by rANS, the coder of archives, each column under a table of its own that both sides have. What is coded takes what the tables
 * say, and about 100 bytes for each sequence: columns whose tables are much alike share one sequence, and the mean of their tables, where that is
 * shorter.
 *
 * <p>Bytes, little-endian: a byte, the count of sequences; if it is above 1, a byte for each column, its sequence; then for each sequence u32 how many of its
 * elements no table has, and these, i32; u32 bytes of rANS ({@code tensorpress/coding.h}), and these, of u16. A symbol is the element less the lowest one of
 * all tables of the sequence; the one above the highest stands for what no table has. Elements lie column by column.
 */
public final class LatentCoder {
    /** Frequencies of a table sum to 2^this. */
    public static final int LOG_TOTAL = 15;
    /** Values of a table, at most. */
    public static final int MOST_VALUES = 4095;
    /** Bytes of states that say nothing about symbols, and of lengths. */
    private static final int EXTRA = 104;
    private static final int MOST_SEQUENCES = 255;
    private static final int ALPHABET = 4096;

    private final List<Table> tables;

    /**
     * How often which integer is expected.
     *
     * @param lowest value that has a frequency
     * @param frequencies of it and the next ones, 1 to {@value #MOST_VALUES}, and behind them that of all other integers, each at least 1; they sum to 2^{@value #LOG_TOTAL}
     */
    public record Table(int lowest, int[] frequencies) {
        public Table {
            frequencies = frequencies.clone();
            if (frequencies.length < 2 || frequencies.length > MOST_VALUES + 1 || Math.abs((long) lowest) > 1 << 25
                    || Arrays.stream(frequencies).anyMatch(f -> f < 1 || f >= 1 << LOG_TOTAL) || Arrays.stream(frequencies).asLongStream().sum() != 1 << LOG_TOTAL) {
                throw new IllegalArgumentException("no table of frequencies");
            }
        }

        @Override
        public int[] frequencies() {
            return frequencies.clone();
        }

        private int values() {
            return frequencies.length - 1;
        }

        /**
         * Of what was seen, and what is expected besides: as if that had been seen {@code weight} times.
         *
         * @param seen at least one
         * @param expected probability of each integer
         * @param weight above 0
         */
        public static Table of(int[] seen, IntToDoubleFunction expected, double weight) {
            int least = Arrays.stream(seen).min().getAsInt();
            int most = Arrays.stream(seen).max().getAsInt();
            int margin = 1 + (int) Math.min(MOST_VALUES, ((long) most - least) / 4);
            int lowest = least - margin;
            long values = (long) most - least + 1 + 2 * margin;
            if (values > MOST_VALUES) {
                int[] sorted = seen.clone();
                Arrays.sort(sorted);
                values = MOST_VALUES;
                lowest = Math.max(least, sorted[seen.length / 2] - MOST_VALUES / 2);
            }
            double[] counts = new double[(int) values + 1];
            double rest = weight;
            for (int i = 0; i < values; i++) {
                counts[i] = weight * expected.applyAsDouble(lowest + i);
                rest -= counts[i];
            }
            counts[(int) values] = Math.max(0, rest);
            for (int x : seen) {
                long at = (long) x - lowest;
                counts[at >= 0 && at < values ? (int) at : (int) values]++;
            }
            return new Table(lowest, normalized(counts));
        }
    }

    /** Natural numbers that sum to 2^LOG_TOTAL. */
    private static int[] normalized(double[] counts) {
        double scale = (1 << 26) / Arrays.stream(counts).sum();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment whole = arena.allocate(ValueLayout.JAVA_INT, ALPHABET);
            MemorySegment frequencies = arena.allocate(ValueLayout.JAVA_SHORT, ALPHABET);
            for (int i = 0; i < counts.length; i++) {
                whole.setAtIndex(ValueLayout.JAVA_INT, i, (int) Math.max(1, Math.round(counts[i] * scale)));
            }
            Coding.frequencies(DType.U16, whole, LOG_TOTAL, frequencies);
            int[] found = new int[counts.length];
            for (int i = 0; i < found.length; i++) {
                found[i] = Short.toUnsignedInt(frequencies.getAtIndex(ValueLayout.JAVA_SHORT, i));
            }
            return found;
        }
    }

    /** Columns that share a sequence, with the table that comes of it. */
    private record Sequence(int[] columns, int lowest, double[] weights) {
        static Sequence of(List<Table> tables, int... columns) {
            int lowest = Arrays.stream(columns).map(c -> tables.get(c).lowest).min().getAsInt();
            long end = Arrays.stream(columns).mapToLong(c -> (long) tables.get(c).lowest + tables.get(c).values()).max().getAsLong();
            if (end - lowest > MOST_VALUES) {
                return null;
            }
            double[] weights = new double[(int) (end - lowest) + 1];
            for (int c : columns) {
                Table t = tables.get(c);
                for (int i = 0; i < t.values(); i++) {
                    weights[t.lowest - lowest + i] += t.frequencies[i];
                }
                weights[weights.length - 1] += t.frequencies[t.values()];
            }
            return new Sequence(columns, lowest, weights);
        }

        int values() {
            return weights.length - 1;
        }

        int symbol(int x) {
            long at = (long) x - lowest;
            return at >= 0 && at < values() ? (int) at : values();
        }

        MemorySegment frequencies(Arena arena) {
            MemorySegment all = arena.allocate(ValueLayout.JAVA_SHORT, ALPHABET);
            int[] found = normalized(weights);
            for (int i = 0; i < found.length; i++) {
                all.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) found[i]);
            }
            return all;
        }
    }

    /**
     * A sequence with how often which of its symbols is there.
     *
     * @param bits that these take
     */
    private record Counted(Sequence sequence, double[] counts, double bits) {
        private static Counted of(Sequence s, double[] counts) {
            double total = Math.log(Arrays.stream(s.weights).sum());
            double bits = 32 * counts[s.values()];
            for (int i = 0; i < counts.length; i++) {
                bits += counts[i] == 0 ? 0 : counts[i] * (total - Math.log(s.weights[i])) / Math.log(2);
            }
            return new Counted(s, counts, bits);
        }

        static Counted of(List<Table> tables, int column, int[] codes) {
            Sequence s = Sequence.of(tables, column);
            double[] counts = new double[s.weights.length];
            for (int at = column; at < codes.length; at += tables.size()) {
                counts[s.symbol(codes[at])]++;
            }
            return of(s, counts);
        }

        /** Both in one; null if that has too many symbols. What has a symbol only now counts as if it had none still. */
        static Counted of(Counted a, Counted b) {
            int lowest = Math.min(a.sequence.lowest, b.sequence.lowest);
            long end = Math.max((long) a.sequence.lowest + a.sequence.values(), (long) b.sequence.lowest + b.sequence.values());
            if (end - lowest > MOST_VALUES) {
                return null;
            }
            double[] weights = new double[(int) (end - lowest) + 1];
            double[] counts = new double[weights.length];
            for (Counted one : new Counted[] {a, b}) {
                int values = one.sequence.values();
                for (int i = 0; i <= values; i++) {
                    int to = i == values ? weights.length - 1 : one.sequence.lowest - lowest + i;
                    weights[to] += one.sequence.weights[i];
                    counts[to] += one.counts[i];
                }
            }
            int[] columns = IntStream.concat(Arrays.stream(a.sequence.columns), Arrays.stream(b.sequence.columns)).sorted().toArray();
            return of(new Sequence(columns, lowest, weights), counts);
        }

        /** Bits that are saved where both become one. */
        static double gain(Counted a, Counted b) {
            Counted both = of(a, b);
            return both == null ? Double.NEGATIVE_INFINITY : a.bits + b.bits + 8 * EXTRA - both.bits;
        }
    }

    /** @param tables one for each column */
    public LatentCoder(List<Table> tables) {
        this.tables = List.copyOf(tables);
    }

    /** Columns of matrices. */
    public int columns() {
        return tables.size();
    }

    /** Bits that the tables ask for, one sequence each, without what sequences take besides. */
    public double bits(int[] codes) {
        return IntStream.range(0, tables.size()).mapToDouble(c -> Counted.of(tables, c, codes).bits).sum();
    }

    /** @param codes a matrix [rows, columns] */
    public byte[] encode(int[] codes) {
        List<Sequence> sequences = sequences(codes);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(sequences.size());
        if (sequences.size() > 1) {
            byte[] of = new byte[tables.size()];
            for (int s = 0; s < sequences.size(); s++) {
                for (int c : sequences.get(s).columns) {
                    of[c] = (byte) s;
                }
            }
            out.writeBytes(of);
        }
        int rows = codes.length / tables.size();
        for (Sequence s : sequences) {
            short[] symbols = new short[rows * s.columns.length];
            List<Integer> others = new ArrayList<>();
            int to = 0;
            for (int c : s.columns) {
                for (int at = c; at < codes.length; at += tables.size()) {
                    int symbol = s.symbol(codes[at]);
                    symbols[to++] = (short) symbol;
                    if (symbol == s.values()) {
                        others.add(codes[at]);
                    }
                }
            }
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment in = arena.allocate(Math.max(2, 2L * symbols.length), 2).asSlice(0, 2L * symbols.length).copyFrom(MemorySegment.ofArray(symbols));
                MemorySegment coded = arena.allocate(Coding.ransBound(DType.U16, symbols.length));
                long bytes = Coding.encodeRans(DType.U16, in, LOG_TOTAL, s.frequencies(arena), coded).bytes();
                ByteBuffer numbers = ByteBuffer.allocate(8 + 4 * others.size()).order(ByteOrder.LITTLE_ENDIAN).putInt(others.size());
                others.forEach(numbers::putInt);
                out.writeBytes(numbers.putInt((int) bytes).array());
                out.writeBytes(coded.asSlice(0, bytes).toArray(ValueLayout.JAVA_BYTE));
            }
        }
        return out.toByteArray();
    }

    /** Columns by how much their tables leave open, neighbours put together as long as that makes it shorter. */
    private List<Sequence> sequences(int[] codes) {
        List<Counted> all = new ArrayList<>(IntStream.range(0, tables.size()).boxed().sorted(Comparator.comparingDouble(c -> entropy(tables.get(c))))
                .map(c -> Counted.of(tables, c, codes)).toList());
        List<Double> gains = new ArrayList<>();
        for (int i = 0; i + 1 < all.size(); i++) {
            gains.add(Counted.gain(all.get(i), all.get(i + 1)));
        }
        while (all.size() > 1) {
            int best = IntStream.range(0, gains.size()).boxed().max(Comparator.comparingDouble(gains::get)).get();
            if (gains.get(best) <= 0 && all.size() <= MOST_SEQUENCES) {
                break;
            }
            Counted both = Counted.of(all.get(best), all.get(best + 1));
            if (both == null) {
                throw new UnsupportedRequestException("more than " + MOST_SEQUENCES + " columns have values too far apart to share a sequence: a larger step may help");
            }
            all.set(best, both);
            all.remove(best + 1);
            gains.remove(best);
            for (int i = Math.max(0, best - 1); i <= best && i < gains.size(); i++) {
                gains.set(i, Counted.gain(all.get(i), all.get(i + 1)));
            }
        }
        return all.stream().map(Counted::sequence).toList();
    }

    private static double entropy(Table t) {
        double sum = 0;
        for (int f : t.frequencies) {
            sum -= f * Math.log(f);
        }
        return sum;
    }

    /**
     * Decodes all that there is.
     *
     * @param in whatever; what is behind its position
     * @throws CodingFormatException if it cannot be decoded to so many rows, or goes on behind them. Damage may also show in nothing but what is decoded
     */
    public int[] decode(ByteBuffer in, int rows) {
        ByteBuffer from = in.order(ByteOrder.LITTLE_ENDIAN);
        int[] codes = new int[Math.multiplyExact(rows, tables.size())];
        try (Executor executor = Executor.cpu(1)) {
            int count = from.get() & 0xff;
            if (count == 0 || count > tables.size()) {
                throw new CodingFormatException(count + " sequences of " + tables.size() + " columns");
            }
            byte[] of = new byte[tables.size()];
            if (count > 1) {
                from.get(of);
            }
            for (int s = 0; s < count; s++) {
                int number = s;
                int[] columns = IntStream.range(0, of.length).filter(c -> (of[c] & 0xff) == number).toArray();
                Sequence sequence = columns.length == 0 ? null : Sequence.of(tables, columns);
                if (sequence == null) {
                    throw new CodingFormatException("a sequence of no columns, or of such that cannot share one");
                }
                decode(from, rows, sequence, codes, executor);
            }
        } catch (BufferUnderflowException e) {
            throw new CodingFormatException("ends too early");
        }
        if (from.hasRemaining()) {
            throw new CodingFormatException("goes on for " + from.remaining() + " bytes behind its end");
        }
        return codes;
    }

    private void decode(ByteBuffer from, int rows, Sequence sequence, int[] codes, Executor executor) {
        int[] others = new int[length(from, 4)];
        for (int i = 0; i < others.length; i++) {
            others[i] = from.getInt();
        }
        byte[] coded = new byte[length(from, 1)];
        from.get(coded);
        long symbols = (long) rows * sequence.columns.length;
        try (Arena arena = Arena.ofShared()) {
            MemorySegment bytes = arena.allocate(Math.max(1, coded.length)).copyFrom(MemorySegment.ofArray(coded));
            MemorySegment out = arena.allocate(Math.max(2, 2 * symbols), 2);
            Coding.decodeRans(DType.U16, List.of(new Coding.Rans(symbols, 0, coded.length, 0, LOG_TOTAL)), sequence.frequencies(arena), bytes, out, executor);
            short[] found = out.asSlice(0, 2 * symbols).toArray(ValueLayout.JAVA_SHORT);
            int at = 0;
            int other = 0;
            for (int c : sequence.columns) {
                for (int to = c; to < codes.length; to += tables.size()) {
                    int symbol = Short.toUnsignedInt(found[at++]);
                    if (symbol == sequence.values() && other == others.length) {
                        throw new CodingFormatException("lacks elements that no table has");
                    }
                    codes[to] = symbol == sequence.values() ? others[other++] : sequence.lowest + symbol;
                }
            }
            if (other < others.length) {
                throw new CodingFormatException("has more elements that no table has than it uses");
            }
        }
    }

    /** A count of things of so many bytes, all of which are there. */
    private static int length(ByteBuffer from, int bytes) {
        int n = from.getInt();
        if (n < 0 || (long) n * bytes > from.remaining()) {
            throw new CodingFormatException("ends too early");
        }
        return n;
    }
}
