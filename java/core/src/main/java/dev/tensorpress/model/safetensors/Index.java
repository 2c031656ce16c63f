package dev.tensorpress.model.safetensors;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonToken;
import dev.tensorpress.io.PlannedFile;
import dev.tensorpress.io.StrictJson;
import dev.tensorpress.model.MalformedModelException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** The index of a model in several files: which tensor is in which. */
@SuppressWarnings("exports") // for the formats of this module
public final class Index {
    /** What the names of indexes end with. */
    static final String SUFFIX = ".safetensors.index.json";
    public static final String NAME = "model" + SUFFIX;

    /** Of an entry, more or less, and how many entries are made room for at once. */
    private static final int BYTES_OF_ENTRY = 100;
    private static final int MOST_EXPECTED = 1 << 20;

    final Path path;
    /** In the order of the index. */
    final Map<String, Place> tensors;
    /** Bytes of all tensors as the index has them, or -1; what writers put here differs, and nothing depends on it. */
    private long totalSize = -1;

    /**
     * Where the index says that a tensor is.
     *
     * @param shard name of a file in the folder of the index
     * @param at where the index says so
     */
    record Place(String shard, long at) {}

    private final long bytes;

    private Index(Path path) throws IOException {
        this.path = path;
        this.bytes = Files.size(path);
        this.tensors = LinkedHashMap.newLinkedHashMap((int) Math.min(bytes / BYTES_OF_ENTRY, MOST_EXPECTED));
    }

    /**
     * Reads an index; whether its shards exist is not looked at.
     *
     * @throws MalformedModelException if it is not an index, or names a file outside of its folder
     * @throws IOException if it cannot be read
     */
    static Index read(Path path) throws IOException {
        return StrictJson.read(path, "the index of a model", new Index(path)::read);
    }

    /** Bytes of the index itself. */
    long bytes() {
        return bytes;
    }

    long totalSize() {
        return totalSize;
    }

    MalformedModelException bad(long at, String expected) {
        return new MalformedModelException(path, at, expected);
    }

    /** The index that these shards need, by its name; nothing for one that stands alone. The caller adds what else is made. */
    public static Map<String, byte[]> madeFor(List<PlannedFile> shards) {
        Map<String, byte[]> made = new TreeMap<>();
        if (shards.size() > 1) {
            made.put(NAME, of(shards));
        }
        return made;
    }

    /** The index of these shards. */
    public static byte[] of(List<PlannedFile> shards) {
        Map<String, String> places = new TreeMap<>();
        long total = 0;
        for (PlannedFile s : shards) {
            for (PlannedFile.Tensor i : s.tensors()) {
                places.put(i.name(), s.name());
                total = Math.addExact(total, i.bytes());
            }
        }
        ByteArrayOutputStream text = new ByteArrayOutputStream();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            json.writeObjectFieldStart("metadata");
            json.writeNumberField("total_size", total);
            json.writeEndObject();
            json.writeObjectFieldStart("weight_map");
            for (Map.Entry<String, String> e : places.entrySet()) {
                json.writeStringField(e.getKey(), e.getValue());
            }
            json.writeEndObject();
            json.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e); // memory throws none
        }
        text.write('\n');
        return text.toByteArray();
    }

    private Index read(StrictJson json) {
        boolean[] mapped = new boolean[1];
        json.next();
        json.members("the index", key -> {
            if (key.equals("weight_map")) {
                mapped[0] = true;
                readMap(json);
            } else if (key.equals("metadata")) {
                json.ifObject("'metadata'", fact -> {
                    if (fact.equals("total_size") && json.token() == JsonToken.VALUE_NUMBER_INT && json.fits()) {
                        totalSize = json.number();
                    }
                    json.skip();
                });
            } else {
                json.skip();
            }
        });
        json.end();
        if (!mapped[0]) {
            throw bad(0, "the index has no 'weight_map'");
        }
        return this;
    }

    private void readMap(StrictJson json) {
        if (json.token() != JsonToken.START_OBJECT) {
            throw json.bad("expected an object as 'weight_map'");
        }
        Map<String, String> shards = new HashMap<>();
        while (json.next() == JsonToken.FIELD_NAME) {
            long at = json.at();
            String name = json.text();
            if (json.next() != JsonToken.VALUE_STRING) {
                throw json.bad("expected the name of a file as the place of tensor '" + name + "'");
            }
            String shard = json.text();
            String known = shards.putIfAbsent(shard, shard);
            if (known == null) {
                checkName(json, name, shard);
            }
            // Looked at here: there may be more of these than a further set of keys is good for.
            if (tensors.put(name, new Place(known == null ? shard : known, json.at())) != null) {
                throw bad(at, "'" + name + "' of 'weight_map' is there twice");
            }
        }
    }

    /** A model from a stranger must not pull other files of this machine in. */
    private static void checkName(StrictJson json, String tensor, String shard) {
        boolean plain = !shard.isEmpty() && !shard.equals(".") && !shard.equals("..")
                && !(shard.length() > 1 && shard.charAt(1) == ':');
        for (int i = 0; i < shard.length() && plain; i++) {
            char c = shard.charAt(i);
            plain = c != '/' && c != '\\' && c != 0;
        }
        if (!plain) {
            throw json.bad("tensor '" + tensor + "' is in '" + shard.replace('\0', '?')
                    + "', expected the name of a file beside the index, without a path");
        }
    }
}
