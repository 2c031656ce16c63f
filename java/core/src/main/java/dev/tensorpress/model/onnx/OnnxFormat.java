package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Format;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;

/** The format of {@link OnnxModel}. */
public final class OnnxFormat implements Format {
    @Override
    public String id() {
        return OnnxModel.FORMAT;
    }

    @Override
    public String displayName() {
        return "ONNX";
    }

    /** {@inheritDoc} These files have no mark, so it is what no other format takes. */
    @Override
    public boolean detect(Path path) {
        return true;
    }

    @Override
    public Model open(Path path, Map<String, Role> roles, boolean allowLinks) throws IOException {
        Model model = OnnxModel.open(path, allowLinks);
        if (!roles.isEmpty()) {
            model.close();
            throw new UnsupportedRequestException(path + " is an ONNX model, whose graph says what its weights do; roles cannot be"
                    + " given");
        }
        return model;
    }

    @Override
    public String defaultRecipe() {
        return "int8";
    }
}
