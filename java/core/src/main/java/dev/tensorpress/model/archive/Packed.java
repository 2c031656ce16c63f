package dev.tensorpress.model.archive;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.kernel.Sparse;
import dev.tensorpress.kernel.Sparse.Layout;
import dev.tensorpress.model.SeparableTarget.Content;
import dev.tensorpress.model.safetensors.Header;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/** How the elements of one weight lie in a sparse file: what the file's metadata say of it. */
final class Packed {
    static final String DENSE = "dense";
    static final String OFFSETS = "offsets";
    static final String INDICES = "indices";
    static final String VALUES = "values";
    static final String SCALES = "scales";
    static final String ZEROS = "zeros";

    /** Bytes of a row at most, so that a weight can be restored in pieces of bounded size. */
    private static final long LONGEST_ROW = 1 << 27;

    final String name;
    final DType dtype;
    final long rows;
    final long cols;
    /** Null for dense. */
    Layout layout;
    int block;
    long units;
    /** Elements with a bit set. */
    long nnz;
    /** What the elements were changed by, exclusive or, so that the code for zero became 0. */
    int xor;
    final Map<String, Integer> checksums = new TreeMap<>();
    final List<Place> places = new ArrayList<>(1);
    /** Only in a file without a model: what the weight is. */
    Form form;
    Shape shape;

    /** How elements stand in the model, and where. */
    record Place(Content content, long offset) {}

    /** As the metadata name it. */
    static String id(Content content) {
        return content.name().toLowerCase(Locale.ROOT);
    }

    Packed(String name, DType dtype, long rows, long cols) {
        this.name = name;
        this.dtype = dtype;
        this.rows = rows;
        this.cols = cols;
    }

    static Packed of(String name, DType dtype, Shape shape) {
        Shape matrix = Form.Sparse.matrix(shape);
        return new Packed(name, dtype, matrix.dim(0), matrix.dim(1));
    }

    /** True if the elements can be in another layout than dense. */
    boolean packable() {
        return switch (dtype) {
            case F32, F16, BF16, I8, U8 -> cols > 0 && rows > 0 && cols <= LONGEST_ROW / (dtype.bits() / 8);
            default -> false;
        };
    }

    String layoutId() {
        return layout == null ? DENSE : layout.id();
    }

    String array(String part) {
        return name + "." + part;
    }

    DType indexType() {
        return switch (layout) {
            case CSR16 -> DType.U16;
            case CSR32, BSR -> DType.U32;
            case BITMASK, NM24 -> DType.U8;
        };
    }

    Shape indexShape() {
        return switch (layout) {
            case CSR16, CSR32, BSR -> Shape.of(units);
            case BITMASK -> Shape.of(rows, (cols + 7) / 8);
            case NM24 -> Shape.of(rows, ((cols + 3) / 4 + 1) / 2);
        };
    }

    Shape valueShape() {
        return layout == null ? Shape.of(rows, cols) : switch (layout) {
            case CSR16, CSR32, BITMASK -> Shape.of(units);
            case BSR -> Shape.of(units, block, block);
            case NM24 -> Shape.of(rows, (cols + 3) / 4, 2);
        };
    }

    /** Null where the layout has none, or where they are counted. */
    Shape offsetShape() {
        return layout == null || layout == Layout.BITMASK || layout == Layout.NM24 ? null
                : Shape.of((layout == Layout.BSR ? (rows + block - 1) / block : rows) + 1);
    }

    long bytes() {
        return layout == null ? dtype.bytes(Math.multiplyExact(rows, cols))
                : Sparse.sizes(layout, dtype, rows, cols, block, units).stored(layout);
    }

    void write(JsonGenerator json) throws IOException {
        json.writeStartObject();
        json.writeStringField("name", name);
        json.writeStringField("layout", layoutId());
        json.writeStringField("dtype", Header.id(dtype));
        json.writeNumberField("rows", rows);
        json.writeNumberField("cols", cols);
        if (block != 0) {
            json.writeNumberField("block", block);
        }
        if (layout != null) {
            json.writeNumberField("units", units);
        }
        if (xor != 0) {
            json.writeNumberField("xor", xor);
        }
        json.writeObjectFieldStart("crc32c");
        for (Map.Entry<String, Integer> c : checksums.entrySet()) {
            json.writeStringField(c.getKey(), SparseFormat.hex(c.getValue()));
        }
        json.writeEndObject();
        if (!places.isEmpty()) {
            json.writeNumberField("nonzeros", nnz);
            json.writeArrayFieldStart("parts");
            for (Place p : places) {
                json.writeStartObject();
                json.writeStringField("as", id(p.content));
                json.writeNumberField("offset", p.offset);
                json.writeEndObject();
            }
            json.writeEndArray();
        }
        if (form != null) {
            json.writeArrayFieldStart("shape");
            for (long d : shape.dims()) {
                json.writeNumber(d);
            }
            json.writeEndArray();
            write(json, form);
        }
        json.writeEndObject();
    }

    private static void write(JsonGenerator json, Form form) throws IOException {
        Form.Sparse s = form.sparse();
        if (s != null) {
            json.writeObjectFieldStart("sparse");
            json.writeStringField("pattern", s.pattern());
            json.writeNumberField("nonzeros", s.nnz());
            json.writeStringField("storage", s.storage().name().toLowerCase(Locale.ROOT));
            json.writeEndObject();
        }
        Form.Quantized q = form.quantized();
        if (q != null) {
            json.writeObjectFieldStart("quantized");
            json.writeNumberField("bits", q.bits());
            json.writeNumberField("axis", q.axis());
            json.writeNumberField("block", q.block());
            json.writeBooleanField("symmetric", q.symmetric());
            // Codes of activations are known to the rest of the file.
            json.writeStringField("activations", (q.activations() == Form.Activations.STATIC ? Form.Activations.FLOAT : q.activations()).id());
            json.writeStringField("type", q.type().name());
            json.writeStringField("scale_type", Header.id(q.scaleType()));
            json.writeBooleanField("transposed", q.transposed());
            json.writeBooleanField("padded", q.padded());
            json.writeEndObject();
        }
    }
}
