package dev.tensorpress.model.onnx;

import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The files beside a model that hold tensors of it (onnx/docs/ExternalDataSecurity.md). A model from a stranger must not
 * be able to pull other files of this machine into its output, so locations stay inside the model's folder, and links
 * that lead out of it, as {@link InputFiles} has it, are refused unless the user asked for them; as are hard links.
 */
final class DataFiles {
    private final Path model;
    private final Path folder;
    private final boolean allowLinks;
    private final Arena arena;
    private final InputFiles inputs;
    private final Map<Path, DataFile> files = new LinkedHashMap<>();
    private final Map<String, DataFile> byLocation = new HashMap<>();

    DataFiles(Path model, boolean allowLinks, Arena arena, InputFiles inputs) {
        this.model = model;
        this.folder = model.toAbsolutePath().normalize().getParent();
        this.allowLinks = allowLinks;
        this.arena = arena;
        this.inputs = inputs;
    }

    /** An open data file. */
    record DataFile(Path path, String location, FileChannel channel, MemorySegment data) {}

    Collection<DataFile> all() {
        return files.values();
    }

    /** The file that holds this external tensor, checked to hold all of it. */
    DataFile of(TensorInfo t) throws IOException {
        DataFile f = byLocation.get(t.location);
        if (f == null) {
            Path path = resolve(t);
            f = files.get(path);
            if (f == null) {
                f = open(t, path);
                files.put(path, f);
            }
            byLocation.put(t.location, f);
        }
        long size = f.data.byteSize();
        if (t.externalOffset > size || t.externalLength > size - t.externalOffset) {
            throw bad(t, "claims bytes " + t.externalOffset + " to " + t.externalOffset + "+" + t.externalLength + " of "
                    + f.path + ", which has " + size);
        }
        return f;
    }

    MemorySegment view(TensorInfo t) throws IOException {
        return of(t).data.asSlice(t.externalOffset, t.externalLength);
    }

    private DataFile open(TensorInfo t, Path path) throws IOException {
        if (!allowLinks) {
            refuseLinks(t, path);
        }
        if (!Files.exists(path)) {
            throw bad(t, "is in " + path + ", which does not exist");
        }
        if (!InputFiles.isFile(path)) {
            throw bad(t, "is in " + path + ", which is not a file");
        }
        inputs.add(path);
        FileChannel channel;
        try {
            channel = FileChannel.open(path.toRealPath(), StandardOpenOption.READ, LinkOption.NOFOLLOW_LINKS);
        } catch (NoSuchFileException e) {
            throw bad(t, "is in " + path + ", which does not exist");
        }
        try {
            MemorySegment data = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
            return new DataFile(path, t.location, channel, data);
        } catch (IOException | RuntimeException e) {
            channel.close();
            throw e;
        }
    }

    private Path resolve(TensorInfo t) {
        String s = t.location;
        boolean drive = s.length() > 1 && s.charAt(1) == ':';
        if (s.isEmpty() || s.charAt(0) == '/' || s.charAt(0) == '\\' || drive) {
            throw bad(t, "has the location '" + s + "', expected a path relative to the model's folder");
        }
        for (int from = 0; from <= s.length();) {
            int to = from;
            while (to < s.length() && s.charAt(to) != '/' && s.charAt(to) != '\\') {
                to++;
            }
            if (s.substring(from, to).equals("..")) {
                throw bad(t, "has the location '" + s + "', which leaves the model's folder");
            }
            from = to + 1;
        }
        try {
            return folder.resolve(s).normalize();
        } catch (InvalidPathException e) {
            throw bad(t, "has the location '" + s.replace('\0', '?') + "', which is no path");
        }
    }

    private void refuseLinks(TensorInfo t, Path path) throws IOException {
        if (!Files.exists(path)) {
            return;
        }
        if (InputFiles.astray(folder, path) != null) {
            throw link(t, path, "behind a symbolic link out of the model's folder");
        }
        if (path.getFileSystem().supportedFileAttributeViews().contains("unix")
                && (int) Files.getAttribute(path, "unix:nlink") > 1 && Files.isRegularFile(path)) {
            throw link(t, path, "a file with several hard links");
        }
    }

    private UnsupportedRequestException link(TensorInfo t, Path p, String what) {
        return new UnsupportedRequestException(model + ": external data of tensor '" + t.name + "': " + p + " is " + what
                + ", which could lead to any file of this machine; if you trust the model, as in the cache of a model"
                + " hub, allow links", "allowLinks");
    }

    private MalformedModelException bad(TensorInfo t, String what) {
        return new MalformedModelException(model, t.fieldStart, "external data of tensor '" + t.name + "' " + what);
    }

    void close() {
        for (DataFile f : files.values()) {
            try {
                f.channel.close();
            } catch (IOException e) {
                // Opened for reading: nothing is lost.
            }
        }
    }
}
