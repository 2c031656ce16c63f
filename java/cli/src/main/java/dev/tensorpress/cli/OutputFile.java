package dev.tensorpress.cli;

import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.DurableFolder;
import dev.tensorpress.io.InputFiles;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Collection;
import java.util.List;

/** A file, or a folder, that an option names for writing. */
final class OutputFile {
    private OutputFile() {}

    /**
     * Refuses, before any work, a file that could not be written, or that the command reads or writes otherwise.
     *
     * @param models files that must stay as they are, of models and others
     * @throws UsageException if it is a folder or one of {@code models}
     */
    static void check(Arguments arguments, String option, Path file, boolean force, Collection<Path> models)
            throws IOException {
        Path folder = file.toAbsolutePath().getParent();
        if (folder == null || Files.isDirectory(file)) {
            throw arguments.wrong(option + " " + file + " is a folder; name a file in it");
        }
        if (InputFiles.replacedBy(file, models) != null) {
            throw arguments.wrong(option + " " + file + " is read, or written, by this command; write to another file");
        }
        checkPlace(file, folder, force);
    }

    /**
     * {@link #check} for a model: it takes the place of what is there, which is no use of a pipe or a device.
     *
     * @throws UsageException also if it is no regular file
     */
    static void checkModel(Arguments arguments, String option, Path file, boolean force, Collection<Path> models)
            throws IOException {
        check(arguments, option, file, force, models);
        if (Files.exists(file) && !Files.isRegularFile(file)) {
            throw arguments.wrong(option + " " + file + " is a pipe or a device; name a file");
        }
        if (!Files.exists(file) && Files.isSymbolicLink(file)) {
            throw arguments.wrong(option + " " + file + " is a link to nothing; name a file");
        }
    }

    /**
     * {@link #check} for a folder.
     *
     * @throws UsageException if it is a file, or if one of {@code models} is in it
     */
    static void checkFolder(Arguments arguments, String option, Path out, boolean force, Collection<Path> models)
            throws IOException {
        if (InputFiles.replacedBy(out, models) != null) {
            throw arguments.wrong(option + " " + out + " is where the model is; write to another folder");
        }
        Path whole = out.toAbsolutePath().normalize();
        if (whole.getParent() == null || Files.exists(out) && !Files.isDirectory(out)) {
            throw arguments.wrong(option + " " + out + " is no folder; name one, which need not exist");
        }
        checkPlace(out, whole.getParent(), force);
    }

    /**
     * Refuses a report that would be in one of the folders that are written, or where its files are made.
     *
     * @throws UsageException if it is
     */
    static void checkOutside(Arguments arguments, String option, Path file, Collection<Path> folders) throws IOException {
        for (Path folder : folders) {
            if (InputFiles.replacedBy(folder, List.of(file)) != null
                    || InputFiles.replacedBy(DurableFolder.partial(folder), List.of(file)) != null) {
                throw arguments.wrong(option + " " + file + " would be in the folder " + folder
                        + ", which is written; write it elsewhere");
            }
        }
    }

    private static void checkPlace(Path out, Path folder, boolean force) throws IOException {
        if (!Files.isDirectory(folder)) {
            throw new NoSuchFileException(out.toString(), null, "its folder " + folder + " does not exist; make it first");
        }
        if (!force && Files.exists(out)) {
            throw new FileAlreadyExistsException(out.toString(), null, "exists; it is replaced only when asked to");
        }
    }

    /** What is left to go on with after writing the folder failed; null if nothing of it is finished. */
    static String resumption(Path out) {
        return DurableFolder.holdsFinished(out)
                ? "what is finished stays in " + DurableFolder.partial(out) + ", from where --resume goes on" : null;
    }

    static void writeJson(Path file, String json) throws IOException {
        write(file, (json + "\n").getBytes(StandardCharsets.UTF_8));
    }

    /** Writes a report, whole or not at all unless it goes to a pipe or a device, or by way of a link. */
    static void write(Path file, byte[] bytes) throws IOException {
        if (Files.isSymbolicLink(file) || Files.exists(file) && !Files.isRegularFile(file)) {
            Files.write(file, bytes);
            return;
        }
        try (DurableFile out = new DurableFile(file.toAbsolutePath().getParent(), file.getFileName().toString())) {
            out.write(ByteBuffer.wrap(bytes));
            out.commit(file, true);
        }
    }
}
