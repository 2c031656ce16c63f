package dev.tensorpress.model.safetensors;

import com.fasterxml.jackson.core.JsonToken;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.io.StrictJson;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/**
 * What lies in a model's folder beside its weights. Files that hold no weights belong to it, and so do folders without any. A
 * folder with weights is another model, or the same in another format, unless {@code modules.json} names it, by which
 * sentence-transformers puts models together: such a one belongs to it as it is.
 */
final class AuxiliaryFiles {
    private static final String MODULES = "modules.json";
    private static final String SUFFIX = ".safetensors";
    /** Files that hold weights, by what their names end with. */
    private static final List<String> WEIGHTS = List.of(SUFFIX, Index.SUFFIX, ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt",
            ".h5", ".keras", ".tflite", ".msgpack", ".gguf", ".onnx", ".onnx_data", ".onnx.data");
    /** Files and folders in a folder that is looked at: one with more is no part of a model. */
    private static final int MOST = 1000;

    /** What belongs to the model, by names from the folder on, with slashes; in their order. */
    private final Map<Path, String> files = new LinkedHashMap<>();
    /** Names of other files that hold weights, which a model has for other readers. */
    private final List<String> weights = new ArrayList<>();
    /** Other names, each with the reason why it is left out. */
    private final List<String> leftOut = new ArrayList<>();

    /** Of a model that is no folder. */
    AuxiliaryFiles() {}

    /**
     * Looks at a folder, and notes what belongs to the model.
     *
     * @param own the model's own files
     * @throws UnsupportedRequestException if a file that belongs to it is a link that is not followed, or has a name that this
     *     JVM cannot handle
     */
    AuxiliaryFiles(Path folder, List<Path> own, InputFiles inputs) throws IOException {
        Set<String> modules = modules(folder, inputs);
        Set<Path> model = new HashSet<>();
        for (Path p : own) {
            model.add(p.toRealPath());
        }
        List<Path> found = new ArrayList<>();
        for (Path p : list(folder)) {
            String name = InputFiles.name(folder, p);
            if (Files.isDirectory(p)) {
                List<Path> inner = new ArrayList<>();
                String reason = look(p, modules.contains(name), inputs, model, inner);
                if (reason == null) {
                    found.addAll(inner);
                } else {
                    leftOut.add(name + "/ (" + reason + ")");
                }
            } else if (!InputFiles.isFile(p)) {
                leftOut.add(name + (Files.exists(p) ? " (not a file)" : " (a link to nothing)"));
            } else if (model.contains(p.toRealPath())) {
                continue; // under whatever name
            } else if (holdsWeights(name)) {
                weights.add(name);
            } else {
                found.add(p);
            }
        }
        Map<String, Path> sorted = new TreeMap<>();
        for (Path p : found) {
            inputs.addFound(p);
            sorted.put(InputFiles.name(folder, p), p);
        }
        for (Map.Entry<String, Path> e : sorted.entrySet()) {
            files.put(e.getValue(), e.getKey());
        }
    }

    /** What a folder holds, by name; what is hidden is no part of a model. */
    static List<Path> list(Path folder) throws IOException {
        List<Path> all = new ArrayList<>();
        try (DirectoryStream<Path> there = Files.newDirectoryStream(folder)) {
            for (Path p : there) {
                if (!p.getFileName().toString().startsWith(".")) {
                    all.add(p);
                }
            }
        }
        Collections.sort(all);
        return all;
    }

    /** Names of the folders that {@code modules.json} puts together. */
    private static Set<String> modules(Path folder, InputFiles inputs) throws IOException {
        Set<String> names = new HashSet<>();
        Path file = folder.resolve(MODULES);
        if (!Files.exists(file)) {
            return names;
        }
        inputs.addFound(file);
        StrictJson.read(file, "the list of modules", json -> {
            if (json.next() != JsonToken.START_ARRAY) {
                throw json.bad("expected an array of modules");
            }
            while (json.next() != JsonToken.END_ARRAY) {
                json.members("a module", key -> {
                    if (key.equals("path") && json.token() == JsonToken.VALUE_STRING) {
                        names.add(json.text().split("/", 2)[0]);
                    } else {
                        json.skip();
                    }
                });
            }
            if (json.next() != null) {
                throw json.bad("expected the end of the list of modules");
            }
            return null;
        });
        return names;
    }

    /**
     * Collects the files of a folder in the model's, and in it.
     *
     * @param module whether the model needs it, whatever it holds
     * @param model where the model's own files really are
     * @return why it is no part of the model, or null
     */
    private static String look(Path folder, boolean module, InputFiles inputs, Set<Path> model, List<Path> files)
            throws IOException {
        List<Path> folders = new ArrayList<>(List.of(folder));
        int seen = 0;
        for (int i = 0; i < folders.size(); i++) {
            if (!module && Files.isSymbolicLink(folders.get(i))) {
                return "a link";
            }
            if (!module && !Files.isReadable(folders.get(i))) {
                return "no permission";
            }
            for (Path p : list(folders.get(i))) {
                if (++seen > MOST && module) {
                    throw new UnsupportedRequestException("the module " + folder + " has more than " + MOST + " files");
                }
                if (seen > MOST) {
                    return "more than " + MOST + " files";
                }
                // Files of modules are looked at when they are noted, each with its links.
                if (Files.isDirectory(p)) {
                    folders.add(p);
                } else if (!module && holdsWeights(p.getFileName().toString())) {
                    return "other weights";
                } else if (!module && !inputs.mayRead(p)) {
                    return "links, or what is no file";
                } else if (!module && model.contains(p.toRealPath())) {
                    return "weights of the model";
                } else {
                    files.add(p);
                }
            }
        }
        return null;
    }

    static boolean holdsWeights(String name) {
        for (String suffix : WEIGHTS) {
            if (name.endsWith(suffix)) {
                return true;
            }
        }
        return false;
    }

    /** What belongs to the model, in the order of the names. */
    List<Path> files() {
        return List.copyOf(files.keySet());
    }

    /** The name of one of {@link #files} from the folder on, with slashes. */
    String name(Path file) {
        return files.get(file);
    }

    List<String> names() {
        return List.copyOf(files.values());
    }

    List<String> weights() {
        return weights;
    }

    List<String> leftOut() {
        return leftOut;
    }
}
