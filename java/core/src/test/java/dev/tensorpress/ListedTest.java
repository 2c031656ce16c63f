package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.tensorpress.method.Method;
import dev.tensorpress.method.Methods;
import dev.tensorpress.model.Format;
import dev.tensorpress.model.TargetFactory;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Methods, formats and targets are found by lists: whatever is not in one is never used. */
class ListedTest {
    private static void check(Class<?> kind, Stream<?> listed) throws IOException, URISyntaxException, ClassNotFoundException {
        Path root = Path.of(Compressor.class.getProtectionDomain().getCodeSource().getLocation().toURI());
        List<Path> files;
        try (Stream<Path> all = Files.walk(root.resolve("dev/tensorpress"))) {
            files = all.filter(p -> p.toString().endsWith(".class")).toList();
        }
        Set<String> found = new TreeSet<>();
        for (Path file : files) {
            String name = root.relativize(file).toString().replace(file.getFileSystem().getSeparator(), ".").replaceFirst("\\.class$", "");
            Class<?> c = Class.forName(name, false, Compressor.class.getClassLoader());
            if (kind.isAssignableFrom(c) && !c.isInterface()) {
                found.add(name);
            }
        }
        assertEquals(listed.map(l -> l.getClass().getName()).collect(Collectors.toCollection(TreeSet::new)), found);
    }

    @Test
    void methods() throws Exception {
        check(Method.class, Methods.NAMES.stream().map(OptionsTest::shortest));
    }

    @Test
    void formats() throws Exception {
        check(Format.class, Formats.ALL.stream().map(Formats.Entry::format));
    }

    @Test
    void targets() throws Exception {
        check(TargetFactory.class, Formats.ALL.stream().flatMap(f -> f.targets().stream()));
    }
}
