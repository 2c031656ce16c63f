package dev.tensorpress.model.safetensors;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.io.PlannedFile;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** What precedes the data of a file that {@link Safetensors} reads: which tensors there are, and where. */
@SuppressWarnings("exports") // for the formats of this module
public final class Header {
    private Header() {}

    /** @throws IllegalArgumentException if the format has no such type */
    public static PlannedFile.Tensor tensor(String name, DType dtype, Shape shape) {
        return new PlannedFile.Tensor(name, id(dtype), shape, dtype.bytes(shape.elements()));
    }

    /**
     * A file to be written.
     *
     * @param tensors in the order of their data
     * @param metadata sorted when written
     * @throws IllegalArgumentException if readers would refuse so long a header
     */
    public static PlannedFile plan(String file, List<PlannedFile.Tensor> tensors, Map<String, String> metadata) {
        return new PlannedFile(file, write(tensors, metadata), tensors);
    }

    /** With its length in front, and filled up with spaces so that the data start at a multiple of 8. */
    static byte[] write(List<PlannedFile.Tensor> tensors, Map<String, String> metadata) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes(new byte[8]);
        try (JsonGenerator json = new JsonFactory().createGenerator(out)) {
            json.writeStartObject();
            if (!metadata.isEmpty()) {
                json.writeObjectFieldStart(Safetensors.METADATA);
                for (Map.Entry<String, String> e : new TreeMap<>(metadata).entrySet()) {
                    json.writeStringField(e.getKey(), e.getValue());
                }
                json.writeEndObject();
            }
            long at = 0;
            for (PlannedFile.Tensor t : tensors) {
                json.writeObjectFieldStart(t.name());
                json.writeStringField("dtype", t.dtype());
                json.writeArrayFieldStart("shape");
                for (long d : t.shape().dims()) {
                    json.writeNumber(d);
                }
                json.writeEndArray();
                json.writeArrayFieldStart("data_offsets");
                json.writeNumber(at);
                at = Math.addExact(at, t.bytes());
                json.writeNumber(at);
                json.writeEndArray();
                json.writeEndObject();
            }
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // memory throws none
        }
        while (out.size() % 8 != 0) {
            out.write(' ');
        }
        byte[] all = out.toByteArray();
        if (all.length - 8 > Safetensors.LARGEST_HEADER) {
            throw new IllegalArgumentException("the header would take " + (all.length - 8) + " bytes; readers accept "
                    + Safetensors.LARGEST_HEADER);
        }
        ByteBuffer.wrap(all).order(ByteOrder.LITTLE_ENDIAN).putLong(0, all.length - 8);
        return all;
    }

    /**
     * A type as headers name it.
     *
     * @throws IllegalArgumentException if the format has no such type
     */
    public static String id(DType type) {
        return switch (type) {
            case F64, F32, F16, BF16, F4, C64, I64, I32, I16, I8, U64, U32, U16, U8, BOOL -> type.name();
            case F8E4M3 -> "F8_E4M3";
            case F8E5M2 -> "F8_E5M2";
            case F8E4M3FNUZ -> "F8_E4M3FNUZ";
            case F8E5M2FNUZ -> "F8_E5M2FNUZ";
            case F8E8M0 -> "F8_E8M0";
            case F6E2M3 -> "F6_E2M3";
            case F6E3M2 -> "F6_E3M2";
            default -> throw new IllegalArgumentException("safetensors files have no " + type);
        };
    }
}
