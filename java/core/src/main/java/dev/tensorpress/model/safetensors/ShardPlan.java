package dev.tensorpress.model.safetensors;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
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

/** A file to be written: its name, and what it holds in the order of the data. */
final class ShardPlan {
    private final String file;
    private final List<Item> items;
    private final byte[] header;
    private final long bytes;

    /** A tensor. */
    record Item(String name, DType dtype, Shape shape) {
        /** Size of the data. */
        long bytes() {
            return dtype.bytes(shape.elements());
        }
    }

    /**
     * @param metadata sorted when written
     * @throws IllegalArgumentException if the format has no such type, or readers would refuse so long a header
     */
    ShardPlan(String file, List<Item> items, Map<String, String> metadata) {
        this.file = file;
        this.items = List.copyOf(items);
        this.header = header(this.items, new TreeMap<>(metadata));
        long n = header.length;
        for (Item i : items) {
            n = Math.addExact(n, i.bytes());
        }
        this.bytes = n;
    }

    String file() {
        return file;
    }

    List<Item> items() {
        return items;
    }

    /** What precedes the data: with its length in front, and filled up with spaces so that the data start at a multiple of 8. */
    byte[] header() {
        return header;
    }

    /** Bytes of the file. */
    long bytes() {
        return bytes;
    }

    private static byte[] header(List<Item> items, Map<String, String> metadata) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes(new byte[8]);
        try (JsonGenerator json = new JsonFactory().createGenerator(out)) {
            json.writeStartObject();
            if (!metadata.isEmpty()) {
                json.writeObjectFieldStart(Safetensors.METADATA);
                for (Map.Entry<String, String> e : metadata.entrySet()) {
                    json.writeStringField(e.getKey(), e.getValue());
                }
                json.writeEndObject();
            }
            long at = 0;
            for (Item i : items) {
                json.writeObjectFieldStart(i.name);
                json.writeStringField("dtype", SafetensorsWriter.id(i.dtype));
                json.writeArrayFieldStart("shape");
                for (long d : i.shape.dims()) {
                    json.writeNumber(d);
                }
                json.writeEndArray();
                json.writeArrayFieldStart("data_offsets");
                json.writeNumber(at);
                at = Math.addExact(at, i.bytes());
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
}
