package dev.tensorpress;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Sparse;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.method.Workspace;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What a pruned weight takes in each way of leaving its zeros out.
 *
 * @param dense bytes with the zeros in place, scales and zero points included, as in {@code layouts}
 * @param layouts by name; null where the weight does not fit
 * @param smallest name of the smallest of all, {@code dense} included
 * @param least its bytes
 */
record StoredSizes(long dense, Map<String, Long> layouts, String smallest, long least, String why) {
    private static final String COORDINATES = "coordinates";
    private static final long WIDEST = 0xffff;
    private static final long COORDINATE_BYTES = 8;

    /** @param twoOfFourDown each four elements of a column have at most two that are not zero */
    static StoredSizes of(Encoding.Sparse encoding, boolean twoOfFourDown, Workspace workspace) {
        Encoding values = encoding.values();
        return switch (values.kind()) {
            case DENSE -> of(((Encoding.Dense) values).tensor(), twoOfFourDown, workspace);
            case QUANTIZED -> of((Encoding.Quantized) values, workspace);
            case CODEBOOK -> of((Encoding.Codebook) values, workspace);
            case TRANSFORMED, HASHED, SPARSE, LOW_RANK, CHAIN, SUM -> throw new IllegalStateException("no form has " + encoding.form());
        };
    }

    private static StoredSizes of(Tensor t, boolean twoOfFourDown, Workspace workspace) {
        Elements m = new Elements(t.dtype(), Form.Sparse.matrix(t.shape()), 0);
        Sparse.Survey survey = m.survey(t.data(), workspace.executor());
        Map<String, Long> layouts = m.layouts(survey);
        if (layouts.get("2:4") == null && twoOfFourDown) {
            layouts.put("2:4", m.transposed().bytes(Layout.NM24, 0, 0));
        }
        layouts.put(COORDINATES, survey.entries() * (COORDINATE_BYTES + m.type.bytes(1)));
        return of(t.bytes(), layouts, survey, m.shape.elements());
    }

    /** Zeros have code 0. */
    private static StoredSizes of(Encoding.Codebook c, Workspace workspace) {
        Elements m = new Elements(c.codes().dtype(), Form.Sparse.matrix(c.shape()), c.form().tableBytes(c.shape()));
        Sparse.Survey survey = m.survey(c.codes().data(), workspace.executor());
        Map<String, Long> layouts = m.layouts(survey);
        layouts.put(COORDINATES, null);
        return of(c.form().bytes(c.shape()), layouts, survey, m.shape.elements());
    }

    private static StoredSizes of(Encoding.Quantized q, Workspace workspace) {
        Form.Quantized form = q.form();
        long dense = form.bytes(q.shape());
        Elements m = new Elements(form.type(), Form.Sparse.matrix(form.codes(q.shape())), dense - form.codeBytes(q.shape()));
        Map<String, Long> layouts = Elements.none();
        Sparse.Survey survey = null;
        if (form.symmetric() && form.type().bits() == 8) {
            MemorySegment codes = q.codes().data();
            int middle = form.type() == DType.U8 ? form.middle() : 0; // the code for zero
            if (middle != 0) {
                codes = workspace.take(Workspace.Slot.DECODED, codes.byteSize());
                xor(q.codes().data(), middle, codes);
            }
            survey = m.survey(codes, workspace.executor());
            layouts = m.layouts(survey);
        }
        layouts.put(COORDINATES, null);
        return of(dense, layouts, survey, m.shape.elements());
    }

    /** out[i] = in[i] ^ value, byte by byte. */
    private static void xor(MemorySegment in, int value, MemorySegment out) {
        long wide = (value & 0xffL) * 0x0101010101010101L;
        long n = in.byteSize();
        long at = 0;
        for (; at + 8 <= n; at += 8) {
            out.set(ValueLayout.JAVA_LONG_UNALIGNED, at, in.get(ValueLayout.JAVA_LONG_UNALIGNED, at) ^ wide);
        }
        for (; at < n; at++) {
            out.set(ValueLayout.JAVA_BYTE, at, (byte) (in.get(ValueLayout.JAVA_BYTE, at) ^ value));
        }
    }

    private static StoredSizes of(long dense, Map<String, Long> layouts, Sparse.Survey survey, long elements) {
        String smallest = "dense";
        long least = dense;
        for (Map.Entry<String, Long> layout : layouts.entrySet()) {
            if (layout.getValue() == null) {
                continue;
            }
            if (layout.getValue() < least) {
                smallest = layout.getKey();
                least = layout.getValue();
            }
        }
        return new StoredSizes(dense, layouts, smallest, least, why(smallest, survey, elements));
    }

    /** @param beside bytes that do not depend on the layout */
    private record Elements(DType type, Shape shape, long beside) {
        Sparse.Survey survey(MemorySegment data, Executor executor) {
            return Sparse.survey(type, shape.dim(0), shape.dim(1), data, executor);
        }

        Elements transposed() {
            return new Elements(type, Shape.of(shape.dim(1), shape.dim(0)), beside);
        }

        static Map<String, Long> none() {
            Map<String, Long> layouts = new LinkedHashMap<>();
            for (String name : new String[] {"csr16", "csr32", "bsr4x4", "bsr8x8", "bitmask", "2:4"}) {
                layouts.put(name, null);
            }
            return layouts;
        }

        Map<String, Long> layouts(Sparse.Survey s) {
            Map<String, Long> layouts = none();
            if (s.widest() <= WIDEST) {
                layouts.put("csr16", bytes(Layout.CSR16, 0, s.entries()));
            }
            layouts.put("csr32", bytes(Layout.CSR32, 0, s.entries()));
            layouts.put("bsr4x4", bytes(Layout.BSR, 4, s.blocks4x4()));
            layouts.put("bsr8x8", bytes(Layout.BSR, 8, s.blocks8x8()));
            layouts.put("bitmask", bytes(Layout.BITMASK, 0, s.entries()));
            if (s.overfull() == 0) {
                layouts.put("2:4", bytes(Layout.NM24, 0, 0));
            }
            return layouts;
        }

        long bytes(Layout layout, int block, long units) {
            return Sparse.sizes(layout, type, shape.dim(0), shape.dim(1), block, units).stored(layout) + beside;
        }
    }

    private static String why(String smallest, Sparse.Survey s, long elements) {
        if (s == null) {
            return "these codes share bytes, or have no one code for zero";
        }
        String zeros = percent(elements - s.entries(), elements) + " zeros";
        return switch (smallest) {
            case "dense" -> "with " + zeros + ", positions of the others take more than the zeros do";
            case "bitmask" -> "with " + zeros + ", a bit for each element takes less than positions of the others";
            case "2:4" -> "no group of four has more than two elements, and four bits say which two";
            case "csr16" -> "with " + zeros + ", positions of the others take less than a bit for each element";
            case "csr32" -> "with " + zeros + ", the others are few, and some too far apart for 16 bits";
            case COORDINATES -> "with " + zeros + ", there are fewer others than rows";
            default -> "what is not zero lies together: " + percent(s.entries(),
                    smallest.equals("bsr4x4") ? s.blocks4x4() * 16 : s.blocks8x8() * 64) + " of the kept blocks";
        };
    }

    private static String percent(long part, long all) {
        long tenths = all == 0 ? 0 : Math.round(1000.0 * part / all);
        return tenths / 10 + (tenths % 10 == 0 ? "" : "." + tenths % 10) + " %";
    }
}
