package dev.tensorpress.cli;

import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Collection;

/** A file that an option names for writing. */
final class OutputFile {
    private OutputFile() {}

    /**
     * Refuses, before any work, a file that could not be written or that is one of the models'.
     *
     * @param models that must stay as they are
     * @throws UsageException if it is a folder or one of {@code models}
     */
    static void check(Arguments arguments, String option, Path file, boolean force, Collection<Path> models)
            throws IOException {
        for (Path model : models) {
            if (file.toAbsolutePath().normalize().equals(model.toAbsolutePath().normalize())
                    || Files.exists(file) && Files.exists(model) && Files.isSameFile(file, model)) {
                throw arguments.wrong(option + " " + file + " is one of the models; write to another file");
            }
        }
        Path folder = file.toAbsolutePath().getParent();
        if (folder == null || Files.isDirectory(file)) {
            throw arguments.wrong(option + " " + file + " is a folder; name a file in it");
        }
        if (!Files.isDirectory(folder)) {
            throw new NoSuchFileException(folder.toString());
        }
        if (!force && Files.exists(file)) {
            throw new FileAlreadyExistsException(file.toString(), null, "exists; it is replaced only when asked to (--force)");
        }
    }

    static void writeJson(Path file, String json) throws IOException {
        Files.writeString(file, json + "\n");
    }
}
