package dev.tensorpress.io;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * What a folder holds and what it was made from; {@code docs/large-models.md} lists the fields. Nothing in it depends on when or
 * where it was written.
 */
public final class Manifest {
    /** Of the file. */
    public static final String NAME = "tensorpress-manifest.json";
    private static final int FORMAT = 1;
    private static final String NO_HASH = "0".repeat(64);

    private final Map<String, String> provenance;
    private final String target;
    private final long shardSize;
    private final List<Input> inputs;
    private final List<PlannedFile> shards;

    /**
     * A file that the model was read from.
     *
     * @param sha256 of its header if it holds tensors, else of all of it
     */
    record Input(String name, long bytes, String sha256) {}

    Manifest(Map<String, String> provenance, String target, long shardSize, List<Input> inputs, List<PlannedFile> shards) {
        this.provenance = provenance;
        this.target = target;
        this.shardSize = shardSize;
        this.inputs = inputs;
        this.shards = shards;
    }

    /** How long it will be, whatever the hashes are. */
    long length(Map<String, Long> sizes) throws IOException {
        Map<String, StreamFile.Summary> files = new TreeMap<>();
        for (Map.Entry<String, Long> e : sizes.entrySet()) {
            files.put(e.getKey(), new StreamFile.Summary(e.getValue(), NO_HASH, Map.of()));
        }
        long[] n = new long[1];
        write(files, new OutputStream() {
            @Override
            public void write(int b) {
                n[0]++;
            }

            @Override
            public void write(byte[] b, int from, int length) {
                n[0] += length;
            }
        });
        return n[0];
    }

    /** @param files all of the folder but this one, by name */
    void write(Map<String, StreamFile.Summary> files, OutputStream out) throws IOException {
        try (JsonGenerator json = new JsonFactory().createGenerator(out)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            json.writeArrayFieldStart("files");
            for (Map.Entry<String, StreamFile.Summary> e : new TreeMap<>(files).entrySet()) {
                file(json, e.getKey(), e.getValue().bytes(), e.getValue().sha256());
            }
            json.writeEndArray();
            json.writeNumberField("format", FORMAT);
            json.writeArrayFieldStart("inputs");
            for (Input i : inputs) {
                file(json, i.name, i.bytes, i.sha256);
            }
            json.writeEndArray();
            json.writeObjectFieldStart("options");
            json.writeNumberField("shardSize", shardSize);
            json.writeEndObject();
            json.writeObjectFieldStart("provenance");
            for (Map.Entry<String, String> e : new TreeMap<>(provenance).entrySet()) {
                json.writeStringField(e.getKey(), e.getValue());
            }
            json.writeEndObject();
            json.writeStringField("target", target);
            json.writeArrayFieldStart("tensors");
            tensors(json, files);
            json.writeEndArray();
            json.writeEndObject();
            json.writeRaw('\n');
        }
    }

    private static void file(JsonGenerator json, String name, long bytes, String sha256) throws IOException {
        json.writeStartObject();
        json.writeNumberField("bytes", bytes);
        json.writeStringField("name", name);
        json.writeStringField("sha256", sha256);
        json.writeEndObject();
    }

    private void tensors(JsonGenerator json, Map<String, StreamFile.Summary> files) throws IOException {
        Map<String, PlannedFile.Tensor> items = new TreeMap<>();
        Map<String, String> places = new TreeMap<>();
        for (PlannedFile s : shards) {
            for (PlannedFile.Tensor i : s.tensors()) {
                items.put(i.name(), i);
                places.put(i.name(), s.name());
            }
        }
        for (PlannedFile.Tensor i : items.values()) {
            String file = places.get(i.name());
            json.writeStartObject();
            json.writeStringField("dtype", i.dtype());
            json.writeStringField("file", file);
            json.writeStringField("name", i.name());
            json.writeStringField("sha256", files.get(file).tensors().getOrDefault(i.name(), NO_HASH));
            json.writeArrayFieldStart("shape");
            for (long d : i.shape().dims()) {
                json.writeNumber(d);
            }
            json.writeEndArray();
            json.writeEndObject();
        }
    }

    /** Names of the files that a folder's manifest lists, and its own; null if it has no manifest. */
    static Set<String> filesOf(Path folder) throws IOException {
        Path manifest = folder.resolve(NAME);
        if (!Files.isRegularFile(manifest)) {
            return null;
        }
        return StrictJson.read(manifest, "the manifest", json -> {
            Set<String> names = new TreeSet<>(Set.of(NAME));
            json.next();
            json.members("the manifest", key -> {
                if (!key.equals("files") || json.token() != JsonToken.START_ARRAY) {
                    json.skip();
                    return;
                }
                while (json.next() != JsonToken.END_ARRAY) {
                    json.members("a file", fact -> {
                        if (fact.equals("name") && json.token() == JsonToken.VALUE_STRING) {
                            names.add(json.text());
                        } else {
                            json.skip();
                        }
                    });
                }
            });
            json.end();
            return names;
        });
    }
}
