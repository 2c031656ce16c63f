package dev.tensorpress.cli;

import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Option;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.archive.Archive;
import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.Unpacker;
import dev.tensorpress.model.archive.VerifyingKey;
import dev.tensorpress.model.compressedtensors.CompressedModel;
import dev.tensorpress.model.compressedtensors.CompressedTensors;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** {@code tensorpress expand}: makes the ordinary model of a compressed folder, and what was packed of an archive. */
final class ExpandCommand implements Command {
    @Override
    public Syntax syntax() {
        return KeyOptions.declare(KeyOptions.declareSigner(KeyOptions.declareBase(RecipeOptions.declareFolder(new Syntax("expand",
                "Makes an ordinary model of a folder of compressed-tensors, and of an archive what was packed.", "FOLDER|FILE")
                .option("o", "output", "OUT", "the folder or file to write, which must be given"))
                .option("device", "D", RecipeOptions.DEVICE)
                .option("threads", "N", "that kernels use; all processors if left out")
                .flag("force", "replaces OUT if it exists")
                .flag("allow-links", RecipeOptions.LINKS), "the model, or an archive of it, that an archive was packed with")));
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path out = arguments.path("output");
        if (out == null) {
            throw arguments.wrong("missing -o OUT");
        }
        Path from = arguments.path(0);
        Destination to = new Destination(out, arguments.flag("force"), arguments.flag("resume"), RecipeOptions.memory(arguments), Map.of());
        try (Executor executor = Executor.on(arguments.device(), arguments.threads())) {
            if (Archive.isArchive(from)) {
                expandArchive(arguments, from, to, console);
                return;
            }
            if (Files.exists(from)) {
                KeyOptions.refuse(arguments);
            }
            if (!Files.isDirectory(from)) {
                InputFiles.named(from);
            }
            if (!SafetensorsModel.isFolder(from)) {
                throw new UnsupportedRequestException(from + " is neither an archive nor a folder of compressed-tensors: there is nothing to"
                        + " expand");
            }
            expandFolder(arguments, from, to, executor, console);
        }
    }

    private static void expandArchive(Arguments arguments, Path from, Destination to, Console console) throws IOException {
        long start = System.nanoTime();
        ArchiveKey key = KeyOptions.toOpen(arguments);
        ArchiveKey baseKey = KeyOptions.ofBase(arguments);
        VerifyingKey signer = KeyOptions.signer(arguments);
        try (Archive archive = Archive.open(from, key)) {
            if (signer != null) {
                archive.requireSigner(signer);
            }
            if (arguments.flag("shard-size")) {
                throw arguments.wrong("--shard-size is for compressed folders; an archive has files of sizes of their own");
            }
            if (archive.isFolder()) {
                OutputFile.checkFolder(arguments, "-o", to.path(), to.overwrite(), List.of(from));
            } else {
                RecipeOptions.refuseFolder(arguments);
                OutputFile.checkModel(arguments, "-o", to.path(), to.overwrite(), List.of(from));
            }
            if (arguments.value("base") != null) {
                archive.useBase(arguments.path("base"), baseKey);
            }
            console.begin("expanding", archive.plainBytes());
            Unpacker.expand(archive, to.path(), new Unpacker.Settings(to.overwrite(), to.resume(), arguments.threads(), to.memory(),
                    console::reached));
            console.clearProgress();
            console.out().println(to.path() + ": " + Text.count(archive.bytes()) + " -> " + Text.count(archive.plainBytes()) + " bytes, "
                    + Text.plural(archive.members().size(), "file") + ", in " + Text.time(System.nanoTime() - start));
        }
    }

    private static void expandFolder(Arguments arguments, Path from, Destination to, Executor executor, Console console)
            throws IOException {
        long start = System.nanoTime();
        Option usual = CompressedTensors.SHARD_SIZE;
        try (CompressedModel model = CompressedModel.open(from, arguments.flag("allow-links"))) {
            List<Path> files = new ArrayList<>(model.model().files());
            files.addAll(model.model().auxiliaryFiles());
            OutputFile.checkFolder(arguments, "-o", to.path(), to.overwrite(), files);
            console.begin("expanding", model.bytes());
            console.advise(() -> OutputFile.resumption(to.path()));
            model.expand(to, RecipeOptions.shardSize(arguments, usual.whole(usual.fallback())), executor,
                    (tensor, bytes) -> console.reached(bytes, tensor));
            console.advise(() -> null);
            console.clearProgress();
            console.out().println(to.path() + ": " + Text.count(model.model().bytes()) + " -> " + Text.count(model.bytes()) + " bytes, "
                    + Text.plural(model.names().size(), "weight") + " restored, in " + Text.time(System.nanoTime() - start));
        }
    }
}
