package dev.tensorpress.model.safetensors;

import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.Format;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Role;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/** The format of {@link SafetensorsModel}. */
public final class SafetensorsFormat implements Format {
    @Override
    public String id() {
        return SafetensorsModel.FORMAT;
    }

    @Override
    public String displayName() {
        return "safetensors";
    }

    /** {@inheritDoc} By name, as a folder, or by how the file begins. */
    @Override
    public boolean detect(Path path) throws IOException {
        return SafetensorsModel.isNamedSo(path) || Files.isDirectory(path) || InputFiles.isFile(path) && Safetensors.resembles(path);
    }

    @Override
    public Model open(Path path, Map<String, Role> roles, boolean allowLinks) throws IOException {
        return SafetensorsModel.open(path, roles, allowLinks);
    }

    @Override
    public String defaultRecipe() {
        return "w8a16";
    }
}
