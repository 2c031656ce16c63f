package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.Archives;
import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Report;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.KeptEncodings;
import dev.tensorpress.model.archive.Mount;
import dev.tensorpress.model.archive.Packer;
import dev.tensorpress.model.archive.SigningKey;
import dev.tensorpress.model.archive.Unpacker;
import dev.tensorpress.model.archive.VerifyingKey;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.io.StringWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** {@code tensorpress pack}: makes an archive. */
final class PackCommand implements Command {
    /** Of recipes: what is said of them without one would have no effect. */
    private static final List<String> OF_RECIPES = List.of("set", "target", "exclude", "statistics", "force-scheme", "role");

    @Override
    public Syntax syntax() {
        return KeyOptions.declare(KeyOptions.declareBase(RecipeOptions.declare(new Syntax("pack", "Packs a model, or anything else, into an archive: bit for bit, unless a recipe is"
                        + " given.", "MODEL")
                .option("o", "output", "FILE.tpa", "the archive to write, which must be given")
                .flag("lossless", "packs the files as they are, which it does without a recipe anyway"))
                .option("threads", "N", "that code; all processors if left out")
                .option("memory", "SIZE", RecipeOptions.MEMORY)
                .option("report", "FILE.json", "writes how each array is stored in the archive, and why")
                .flag("force", "replaces the archive, and the report, if they exist")
                .option("sign", "KEY.pem", "signs the archive with this key of keygen --sign"),
                "stores what changed since this model, or the one in this archive, without which nobody can expand it"));
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o FILE.tpa");
        }
        boolean compressed = arguments.value("recipe") != null;
        if (compressed && arguments.flag("lossless")) {
            throw arguments.wrong("--lossless and --recipe exclude each other");
        }
        for (String option : OF_RECIPES) {
            if (!compressed && arguments.flag(option)) {
                throw arguments.wrong("--" + option + " is for packing by a --recipe");
            }
        }
        if (!compressed && arguments.value("signed-by") != null && arguments.value("base") == null) {
            throw arguments.wrong("--signed-by is for a --base, or for packing by a --recipe; without these what is packed is nothing but bytes");
        }
        ArchiveKey key = KeyOptions.toSeal(arguments); // before the work that it is for
        SigningKey signer = arguments.value("sign") == null ? null : SigningKey.read(arguments.path("sign"));
        ArchiveKey baseKey = KeyOptions.ofBase(arguments);
        VerifyingKey wanted = KeyOptions.signer(arguments);
        OutputFile.checkModel(arguments, "-o", out, arguments.flag("force"), List.of(arguments.path(0)));
        Path model = compressed ? arguments.model(0) : arguments.path(0);
        Mount old = arguments.value("base") == null ? null : arguments.mount(arguments.path("base"), baseKey, wanted);
        if (old != null && old.encrypted() && key == null) {
            console.err().println("note: " + arguments.path("base") + " is encrypted, and " + out + " will not be: it tells what changed since, and what did not");
        }
        if (!compressed) {
            pack(arguments, model, null, old, key, signer, out, console);
            return;
        }
        Path folder = DurableFile.temporaryFolder(out.toAbsolutePath().getParent(), out.getFileName().toString());
        try (KeptEncodings kept = new KeptEncodings(folder)) {
            pack(arguments, compress(arguments, model, folder, kept, console), kept, old, key, signer, out, console);
        } finally {
            Unpacker.delete(folder);
        }
    }

    /** Makes the model that is packed. */
    private static Path compress(Arguments arguments, Path model, Path folder, KeptEncodings kept, Console console) throws IOException {
        CompressCommand.Progress progress = new CompressCommand.Progress(console);
        Compressor.Options options = RecipeOptions.model(arguments).threads(arguments.threads()).memory(RecipeOptions.memory(arguments))
                .progress(progress);
        try (Compressor compressor = Compressor.open(model, options);
                Statistics _ = RecipeOptions.statistics(arguments, compressor, console)) {
            Plan plan = compressor.plan(RecipeOptions.recipe(arguments, compressor));
            progress.begin(plan);
            Report report = compressor.compress(plan, folder.resolve(model.toAbsolutePath().normalize().getFileName()), kept);
            console.clearProgress();
            console.out().println("recipe " + plan.recipe().name() + ": " + Text.count(report.bytesBefore()) + " -> " + Text.count(report.bytesAfter())
                    + " bytes, " + Text.percent(report.ratio()) + ", relative error " + Text.digits(report.relativeError()));
            return report.output();
        }
    }

    private static void pack(Arguments arguments, Path model, KeptEncodings kept, Mount old, ArchiveKey key, SigningKey signer,
            Path out, Console console) throws IOException {
        long start = System.nanoTime();
        boolean force = arguments.flag("force");
        Archives.Found found = Archives.find(model, arguments.flag("allow-links"));
        Packer.Contents base = old == null ? null : Archives.find(old.model(), arguments.flag("allow-links")).contents();
        List<Path> inputs = new ArrayList<>(found.contents().files().values());
        inputs.add(arguments.path(0));
        if (base != null) {
            inputs.addAll(base.files().values());
            inputs.add(arguments.path("base"));
        }
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
        Packer.Packed packed = Packer.pack(found.contents(), kept, new Packer.Settings(key, signer, base, arguments.threads(),
                RecipeOptions.memory(arguments), console::reached), out, force);
        console.clearProgress();
        long encoded = packed.arrays().stream().filter(a -> a.form().isPresent()).count();
        if (report != null) {
            OutputFile.writeJson(report, json(packed));
        }
        console.out().println(out + ": " + Text.count(packed.bytesBefore()) + " -> " + Text.count(packed.bytes()) + " bytes, "
                + Text.percent(packed.bytesBefore() == 0 ? 1 : (double) packed.bytes() / packed.bytesBefore()) + ", of "
                + Text.plural(found.contents().files().size(), "file") + " with " + Text.plural(packed.arrays().size(), "array")
                + (encoded == 0 ? "" : ", " + encoded + " of them as encodings") + ", in "
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
            for (Packer.Stored a : packed.arrays()) {
                json.writeStartObject();
                json.writeStringField("name", a.name());
                json.writeStringField("dtype", a.type().name().toLowerCase(Locale.ROOT));
                json.writeNumberField("bytesBefore", a.bytes());
                json.writeNumberField("bytesAfter", a.stored());
                json.writeStringField("coding", a.way());
                json.writeObjectFieldStart("firstChunk");
                for (Map.Entry<String, Integer> size : a.sizes().entrySet()) {
                    json.writeNumberField(size.getKey(), size.getValue());
                }
                json.writeEndObject();
                json.writeArrayFieldStart("planes");
                for (Packer.Plane plane : a.planes()) {
                    json.writeStartObject();
                    json.writeStringField("part", plane.part());
                    json.writeStringField("coding", plane.kind());
                    json.writeNumberField("bytesBefore", plane.bytes());
                    json.writeNumberField("bytesAfter", plane.stored());
                    json.writeEndObject();
                }
                json.writeEndArray();
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        }
        return text.toString();
    }
}
