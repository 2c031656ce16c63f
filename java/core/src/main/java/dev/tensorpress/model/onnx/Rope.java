package dev.tensorpress.model.onnx;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** Contents of a file to be: pieces of the old one, small new ones, and places for what encoders will make. */
final class Rope {
    private final List<Section> sections = new ArrayList<>();
    private long length;

    sealed interface Section {
        long length();
    }

    /** Bytes of the model that was read. */
    record Slice(long offset, long length) implements Section {}

    /** Bytes at hand. */
    record Bytes(byte[] bytes) implements Section {
        @Override
        public long length() {
            return bytes.length;
        }
    }

    /** An array of a weight's encoding, made when the file is written. */
    record Payload(Job job, Array array, long length) implements Section, DataLayout.Stored {}

    /** Bytes in memory, or in a mapping. */
    record Memory(MemorySegment data) implements Section, DataLayout.Stored {
        @Override
        public long length() {
            return data.byteSize();
        }
    }

    /**
     * The arrays of an encoding, and how zero points are laid out: a byte each, or packed in fours. Of dense values: all
     * elements, or those with a bit set, and where these are in row-major order as int64. Of convolutions of codes: scales of
     * outputs, with what stands behind the convolution, and biases in i32.
     */
    enum Array {
        ELEMENTS, NONZEROS, INDICES, CODES, SCALES, TABLES, OUTPUT_SCALES, BIASES, ZEROS, ZEROS_PACKED, ZEROS_PACKED_BY_ROW
    }

    /** Replaces bytes {@code from} to {@code to} of the model; inserts if they are the same. */
    record Edit(long from, long to, Rope with) implements Comparable<Edit> {
        /** Insertions at one place precede what is replaced there. */
        @Override
        public int compareTo(Edit o) {
            return from != o.from ? Long.compare(from, o.from) : Boolean.compare(to > from, o.to > o.from);
        }
    }

    Rope add(Section p) {
        // Empty parts stay: asking for one is asking for its weight.
        if (p.length() > 0 || p instanceof Payload) {
            sections.add(p);
            length = Math.addExact(length, p.length());
        }
        return this;
    }

    Rope add(Proto fields) {
        return add(new Bytes(fields.toBytes()));
    }

    Rope add(Rope other) {
        sections.addAll(other.sections);
        length = Math.addExact(length, other.length);
        return this;
    }

    long length() {
        return length;
    }

    List<Section> sections() {
        return sections;
    }

    /** This as the content of a field. */
    Rope field(int number) {
        return new Rope().add(new Proto().header(number, length)).add(this);
    }

    /** Bytes {@code from} to {@code to} of the model after edits, which may come in any order but must not overlap. */
    static Rope splice(long from, long to, List<Edit> edits) {
        List<Edit> sorted = new ArrayList<>(edits);
        // Stable: insertions at one place stay in the order they were made.
        Collections.sort(sorted);
        Rope r = new Rope();
        long at = from;
        for (Edit e : sorted) {
            if (e.from < at || e.to > to) {
                throw new IllegalStateException("edits overlap at byte " + e.from);
            }
            r.add(new Slice(at, e.from - at)).add(e.with);
            at = e.to;
        }
        return r.add(new Slice(at, to - at));
    }
}
