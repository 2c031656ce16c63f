package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.Archives;
import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.Packer;
import dev.tensorpress.model.archive.SigningKey;
import java.io.IOException;
import java.io.StringWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** {@code tensorpress pack}: makes an archive. */
final class PackCommand implements Command {
    @Override
    public Syntax syntax() {
        return KeyOptions.declare(new Syntax("pack", "Packs a model, or anything else, into an archive, bit for bit.", "MODEL")
                .option("o", "output", "FILE.tpa", "the archive to write, which must be given")
                .flag("lossless", "packs the files as they are, which it does anyway")
                .option("threads", "N", "that code; all processors if left out")
                .option("memory", "SIZE", RecipeOptions.MEMORY)
                .option("report", "FILE.json", "writes what each array takes in the archive")
                .flag("force", "replaces the archive, and the report, if they exist")
                .flag("allow-links", RecipeOptions.LINKS)
                .option("sign", "KEY.pem", "signs the archive with this key of keygen --sign"));
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o FILE.tpa");
        }
        ArchiveKey key = KeyOptions.toSeal(arguments);
        SigningKey signer = arguments.value("sign") == null ? null : SigningKey.read(arguments.path("sign"));
        long start = System.nanoTime();
        boolean force = arguments.flag("force");
        Archives.Found found = Archives.find(arguments.path(0), arguments.flag("allow-links"));
        List<Path> inputs = new ArrayList<>(found.contents().files().values());
        OutputFile.checkModel(arguments, "-o", out, force, inputs);
        Path report = arguments.path("report");
        if (report != null) {
            inputs.add(out);
            OutputFile.check(arguments, "--report", report, force, inputs);
        }
        for (String note : found.notes()) {
            console.err().println("note: packed as bytes of no type: " + Text.plain(note));
        }
        console.begin("packing", found.contents().bytes());
        Packer.Packed packed = Packer.pack(found.contents(), new Packer.Settings(key, signer, arguments.threads(),
                RecipeOptions.memory(arguments), console::reached), out, force);
        console.clearProgress();
        if (report != null) {
            OutputFile.writeJson(report, json(packed));
        }
        console.out().println(out + ": " + Text.count(packed.bytesBefore()) + " -> " + Text.count(packed.bytes()) + " bytes, "
                + Text.percent(packed.bytesBefore() == 0 ? 1 : (double) packed.bytes() / packed.bytesBefore()) + ", of "
                + Text.plural(found.contents().files().size(), "file") + " with " + Text.plural(packed.arrays().size(), "array") + ", in "
                + Text.time(System.nanoTime() - start) + (key == null ? "" : ", encrypted with " + key)
                + (signer == null ? "" : ", signed by " + signer.verifying()));
    }

    private static String json(Packer.Packed packed) throws IOException {
        StringWriter text = new StringWriter();
        try (JsonGenerator json = new JsonFactory().createGenerator(text)) {
            json.useDefaultPrettyPrinter();
            json.writeStartObject();
            json.writeNumberField("bytesBefore", packed.bytesBefore());
            json.writeNumberField("bytesAfter", packed.bytes());
            json.writeArrayFieldStart("arrays");
            for (Map.Entry<String, Packer.Stored> e : packed.arrays().entrySet()) {
                json.writeStartObject();
                json.writeStringField("name", e.getKey());
                json.writeStringField("dtype", e.getValue().type().name().toLowerCase(Locale.ROOT));
                json.writeNumberField("bytesBefore", e.getValue().bytes());
                json.writeNumberField("bytesAfter", e.getValue().stored());
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        }
        return text.toString();
    }
}
