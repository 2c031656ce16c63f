package dev.tensorpress.io;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.FileSystemLoopException;
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

    /** Two names of a file that is still to be written. */
    @Test
    void whatIsNotThereYetIsToldApartByWhereItWillBe() throws IOException {
        Path out = folder.resolve("out.onnx");
        Path around = Files.createSymbolicLink(folder.resolve("around"), folder);
        Path link = Files.createSymbolicLink(folder.resolve("report.json"), Path.of("out.onnx"));
        for (Path other : List.of(around.resolve("out.onnx"), link, folder.resolve("x/../out.onnx"))) {
            assertEquals(out, InputFiles.replacedBy(other, List.of(out)), other.toString());
            assertEquals(other, InputFiles.replacedBy(out, List.of(other)), other.toString());
        }
        assertNull(InputFiles.replacedBy(around.resolve("other"), List.of(out)));
        Path loop = Files.createSymbolicLink(folder.resolve("loop"), Path.of("loop"));
        assertThrows(FileSystemLoopException.class, () -> InputFiles.target(loop));
    }
}
