package dev.tensorpress;

import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.archive.Packer;
import dev.tensorpress.model.safetensors.SafetensorsModel;
import java.io.IOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/** Finds out what there is to be packed into an archive: a model of any of the {@link Formats}, or any other files. */
public final class Archives {
    private static final String ONNX = ".onnx";

    /**
     * What is packed, and what is worth knowing of it.
     *
     * @param notes files that look like models and are packed as mere bytes, with the reason
     */
    public record Found(Packer.Contents contents, List<String> notes) {
        public Found {
            notes = List.copyOf(notes);
        }
    }

    private final Map<String, Path> files = new LinkedHashMap<>();
    private final List<Model.Array> arrays = new ArrayList<>();
    private final Set<String> names = new HashSet<>();
    private final List<String> notes = new ArrayList<>();
    private final boolean allowLinks;

    private Archives(boolean allowLinks) {
        this.allowLinks = allowLinks;
    }

    /**
     * Looks at a model with all its files, at any other file, or at a folder with all that is in it.
     *
     * @param allowLinks whether links in a folder may lead out of it
     * @throws UnsupportedRequestException if there is something in a folder that is no file, or a link that is not followed
     * @throws IOException if something cannot be read
     */
    public static Found find(Path path, boolean allowLinks) throws IOException {
        if (!Files.exists(path)) {
            throw new NoSuchFileException(path.toString());
        }
        Archives a = new Archives(allowLinks);
        Path whole = path.toAbsolutePath().normalize();
        return Files.isDirectory(path) ? a.folder(whole) : a.file(whole);
    }

    private Found file(Path path) throws IOException {
        Path folder = path.getParent();
        String name = InputFiles.name(folder, path);
        InputFiles inputs = new InputFiles(folder, allowLinks);
        inputs.add(path);
        files.put(name, path);
        try (Model model = open(path)) {
            if (model != null) {
                List<Path> all = new ArrayList<>(model.files());
                all.addAll(model.auxiliaryFiles());
                for (Path p : all) {
                    Path one = p.toAbsolutePath().normalize();
                    inputs.add(one); // the model has looked where links lead
                    files.put(InputFiles.name(folder, one), one);
                }
                add(model, name);
            }
        }
        return new Found(new Packer.Contents(files, files.size() > 1, name, arrays, inputs), notes);
    }

    private Found folder(Path folder) throws IOException {
        InputFiles inputs = new InputFiles(folder, allowLinks);
        TreeSet<Path> found = new TreeSet<>();
        Files.walkFileTree(folder, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult preVisitDirectory(Path inside, BasicFileAttributes attributes) {
                return !inside.equals(folder) && DurableFile.isTemporary(inside.getFileName().toString()) ? FileVisitResult.SKIP_SUBTREE
                        : FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
                if (!InputFiles.isFile(file)) {
                    throw new UnsupportedRequestException(file + " is no file, or a link to none, and cannot be packed");
                }
                if (!DurableFile.isTemporary(file.getFileName().toString())) {
                    found.add(file);
                }
                return FileVisitResult.CONTINUE;
            }
        });
        for (Path p : found) {
            inputs.addFound(p);
            files.put(InputFiles.name(folder, p), p);
        }
        List<String> graphs = new ArrayList<>();
        boolean tensors = false;
        for (Map.Entry<String, Path> e : files.entrySet()) {
            boolean graph = e.getKey().endsWith(ONNX);
            // Files of tensors are read one by one, whatever an index says.
            if (!graph && (SafetensorsModel.isFolder(e.getValue()) || Formats.of(e.getValue()) == Formats.ALL.getLast())) {
                continue;
            }
            try (Model model = open(e.getValue())) {
                if (model != null) {
                    add(model, e.getKey());
                    tensors |= !graph;
                    if (graph) {
                        graphs.add(e.getKey());
                    }
                }
            }
        }
        String entry = graphs.size() == 1 && !tensors ? graphs.getFirst() : "";
        return new Found(new Packer.Contents(files, true, entry, arrays, inputs), notes);
    }

    /** Null if a file is no model, which is noted. */
    private Model open(Path file) throws IOException {
        try {
            return Formats.of(file).format().open(file, Map.of(), allowLinks);
        } catch (MalformedModelException | UnsupportedRequestException e) {
            if (e instanceof UnsupportedRequestException u && !u.setting().isEmpty()) {
                throw u;
            }
            if (file.toString().endsWith(ONNX) || SafetensorsModel.isNamedSo(file)) {
                notes.add(e.getMessage());
            }
            return null;
        }
    }

    private void add(Model model, String file) {
        Set<Path> packed = new HashSet<>(files.values());
        for (Model.Array a : model.arrays()) {
            Path holder = a.file().toAbsolutePath().normalize();
            if (packed.contains(holder)) {
                String name = a.name();
                while (!names.add(name)) {
                    name = file + ":" + name;
                }
                arrays.add(new Model.Array(name, holder, a.offset(), a.type(), a.shape()));
            }
        }
    }
}
