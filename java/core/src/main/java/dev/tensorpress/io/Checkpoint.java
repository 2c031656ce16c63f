package dev.tensorpress.io;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.channels.Channels;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/** What is done of a folder that is being written, in a file of it, so that another run can go on. */
final class Checkpoint {
    static final String NAME = ".tensorpress-progress.json";
    /** What identifies the file's own format; part of the identity. */
    private static final String FORMAT = "2";
    private static final int LONGEST_SHOWN = 200;

    /** All that decides the bytes, in words, by what it is. */
    private final Map<String, String> identity = new TreeMap<>();
    /** Names of all files that the folder gets; what else lies in it is not ours. */
    final Set<String> files = new TreeSet<>();
    /** The finished files by name. */
    final Map<String, StreamFile.Summary> shards = new TreeMap<>();

    Checkpoint(Map<String, String> identity) {
        this.identity.putAll(identity);
        this.identity.put("format", FORMAT);
    }

    /** The progress of a folder; null if there is none. */
    static Checkpoint read(Path folder) throws IOException {
        Path file = folder.resolve(NAME);
        return Files.exists(file) ? StrictJson.read(file, "the progress of an interrupted run", Checkpoint::read) : null;
    }

    private static Checkpoint read(StrictJson json) {
        Checkpoint p = new Checkpoint(Map.of());
        json.next();
        json.members("the progress", key -> {
            switch (key) {
                case "files" -> {
                    if (json.token() != JsonToken.START_ARRAY) {
                        throw json.bad("expected an array as 'files'");
                    }
                    while (json.next() != JsonToken.END_ARRAY) {
                        p.files.add(string(json));
                    }
                }
                case "identity" -> json.members("'identity'", fact -> p.identity.put(fact, string(json)));
                case "shards" -> json.members("'shards'", file -> p.shards.put(file, summary(json)));
                default -> throw json.bad("expected files, identity or shards, found '" + key + "'");
            }
        });
        json.end();
        return p;
    }

    private static StreamFile.Summary summary(StrictJson json) {
        Map<String, String> facts = new HashMap<>();
        Map<String, String> tensors = new HashMap<>();
        json.members("a shard", key -> {
            if (key.equals("tensors")) {
                json.members("'tensors'", name -> tensors.put(name, string(json)));
            } else {
                facts.put(key, string(json));
            }
        });
        try {
            return new StreamFile.Summary(Long.parseLong(facts.get("bytes")), facts.getOrDefault("sha256", ""), tensors);
        } catch (NumberFormatException e) {
            throw json.bad("expected the bytes of a shard");
        }
    }

    private static String string(StrictJson json) {
        String s = json.textOrNull();
        if (s == null) {
            throw json.bad("expected a string");
        }
        return s;
    }

    /** What differs between the run that left this and another one, in words; null if nothing does. */
    String difference(Checkpoint other) {
        Map<String, String> all = new TreeMap<>(identity);
        all.putAll(other.identity);
        for (String key : all.keySet()) {
            String was = identity.get(key);
            String is = other.identity.get(key);
            if (was == null || is == null || !was.equals(is)) {
                String text = key + " is not the same";
                boolean shown = was != null && is != null && was.length() + is.length() <= LONGEST_SHOWN && was.indexOf('\n') < 0
                        && is.indexOf('\n') < 0;
                return shown ? text + " (" + was + " then, " + is + " now)" : text;
            }
        }
        return null;
    }

    /** Writes this, so that it outlasts a loss of power. */
    void write(Path folder) throws IOException {
        try (DurableFile file = new DurableFile(folder, NAME)) {
            // Closing it would close the channel, which is still to be forced.
            JsonGenerator json = new JsonFactory().createGenerator(Channels.newOutputStream(file.channel()));
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            json.writeArrayFieldStart("files");
            for (String name : files) {
                json.writeString(name);
            }
            json.writeEndArray();
            json.writeObjectFieldStart("identity");
            strings(json, identity);
            json.writeEndObject();
            json.writeObjectFieldStart("shards");
            for (Map.Entry<String, StreamFile.Summary> e : shards.entrySet()) {
                json.writeObjectFieldStart(e.getKey());
                json.writeStringField("bytes", Long.toString(e.getValue().bytes()));
                json.writeStringField("sha256", e.getValue().sha256());
                json.writeObjectFieldStart("tensors");
                strings(json, new TreeMap<>(e.getValue().tensors()));
                json.writeEndObject();
                json.writeEndObject();
            }
            json.writeEndObject();
            json.writeEndObject();
            json.flush();
            file.commit(folder.resolve(NAME));
        }
    }

    private static void strings(JsonGenerator json, Map<String, String> map) throws IOException {
        for (Map.Entry<String, String> e : map.entrySet()) {
            json.writeStringField(e.getKey(), e.getValue());
        }
    }
}
