package dev.tensorpress;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.archive.Archive;
import dev.tensorpress.model.archive.Unpacker;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** A model where a path may name an archive: what it holds is expanded into a temporary folder, which is removed in the end. */
public final class Mount implements AutoCloseable {
    private final Path folder;
    private final Path model;

    private Mount(Path folder, Path model) {
        this.folder = folder;
        this.model = model;
    }

    /**
     * Expands an archive; anything else stays where it is.
     *
     * @throws dev.tensorpress.model.MalformedModelException if it is a damaged archive
     * @throws dev.tensorpress.model.UnsupportedRequestException if the archive cannot be read without a base or a key
     * @throws IOException if it cannot be read, or there is no room for what it holds
     */
    public static Mount of(Path path) throws IOException {
        if (!Archive.isArchive(path)) {
            return new Mount(null, path);
        }
        try (Archive archive = Archive.open(path)) {
            Path folder = Files.createTempDirectory("tensorpress-");
            try {
                Path out = folder.resolve(archive.isFolder() ? "model" : archive.entry());
                Unpacker.expand(archive, out, new Unpacker.Settings(false, false, 0, Destination.DEFAULT_MEMORY, null));
                return new Mount(folder, archive.isFolder() ? out.resolve(archive.entry()) : out);
            } catch (IOException | RuntimeException | Error e) {
                Unpacker.delete(folder);
                throw e;
            }
        }
    }

    /** What is to be opened; the path itself if that is no archive. */
    public Path model() {
        return model;
    }

    /** Removes what was expanded. */
    @Override
    public void close() throws IOException {
        if (folder != null) {
            Unpacker.delete(folder);
        }
    }
}
