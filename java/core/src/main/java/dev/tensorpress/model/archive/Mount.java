package dev.tensorpress.model.archive;

import dev.tensorpress.model.Destination;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** A model where a path may name an archive: what it holds is expanded into a temporary folder, which is removed in the end. */
public final class Mount implements AutoCloseable {
    private final Path folder;
    private final Path model;
    private final boolean encrypted;

    private Mount(Path folder, Path model, boolean encrypted) {
        this.folder = folder;
        this.model = model;
        this.encrypted = encrypted;
    }

    /** {@link #of(Path, ArchiveKey, VerifyingKey)} of an archive that anybody may have signed, or nobody, with a key of the environment if it takes one. */
    public static Mount of(Path path) throws IOException {
        return of(path, null, null);
    }

    /**
     * Expands an archive; anything else stays where it is.
     *
     * @param key as {@link Archive#open(Path, ArchiveKey)} has it; may be null
     * @param signer who has to have signed it, which is looked at before anything is expanded; null if nobody has to
     * @throws dev.tensorpress.model.MalformedModelException if it is a damaged archive, or not signed by this key
     * @throws dev.tensorpress.model.UnsupportedRequestException if the archive cannot be read without a base or a key; if a key or a signer is given, and it
     *     is no archive, or one without a key
     * @throws IOException if it cannot be read, or there is no room for what it holds
     */
    public static Mount of(Path path, ArchiveKey key, VerifyingKey signer) throws IOException {
        if (!Archive.isArchive(path)) {
            if (Files.exists(path) && (key != null || signer != null)) {
                throw new UnsupportedRequestException(path + " is no archive, so it is neither encrypted nor signed, and a key for that was given");
            }
            return new Mount(null, path, false);
        }
        try (Archive archive = Archive.open(path, key)) {
            if (signer != null) {
                archive.requireSigner(signer);
            }
            Path folder = Files.createTempDirectory("tensorpress-");
            try {
                Path out = folder.resolve(archive.isFolder() ? "model" : archive.entry());
                Unpacker.expand(archive, out, new Unpacker.Settings(false, false, 0, Destination.DEFAULT_MEMORY, null));
                return new Mount(folder, archive.isFolder() ? out.resolve(archive.entry()) : out, archive.isEncrypted());
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

    /** Whether it is that of an archive that takes a key. */
    public boolean encrypted() {
        return encrypted;
    }

    /** Removes what was expanded. */
    @Override
    public void close() throws IOException {
        if (folder != null) {
            Unpacker.delete(folder);
        }
    }
}
