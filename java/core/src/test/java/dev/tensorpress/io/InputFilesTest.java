package dev.tensorpress.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class InputFilesTest {
    @TempDir
    Path folder;

    @Test
    void anOutputThatWouldTakeThePlaceOfAnInputIsFound() throws IOException {
        Path model = Files.createDirectory(folder.resolve("model"));
        Path weights = Files.writeString(model.resolve("a.bin"), "a");
        Path elsewhere = Files.writeString(folder.resolve("b.bin"), "b");
        Path link = Files.createSymbolicLink(model.resolve("link"), elsewhere);
        List<Path> inputs = List.of(weights, link);

        for (Path out : List.of(model, weights, link, elsewhere, folder, model.resolve("../model"),
                Files.createSymbolicLink(folder.resolve("to-model"), model), Files.createLink(folder.resolve("hard"), weights))) {
            Path found = InputFiles.replacedBy(out, inputs);
            assertEquals(out.equals(link) || out.equals(elsewhere) ? link : weights, found, out.toString());
        }
        for (String other : List.of("model2", "mod", "model/new", "new", "a.bin")) {
            assertNull(InputFiles.replacedBy(folder.resolve(other), inputs), other);
        }
        assertNull(InputFiles.replacedBy(model, List.of(folder.resolve("missing"))));
    }
}
