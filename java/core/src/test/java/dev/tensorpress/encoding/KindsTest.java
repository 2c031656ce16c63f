package dev.tensorpress.encoding;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.classfile.CodeElement;
import java.lang.classfile.MethodModel;
import java.lang.classfile.Opcode;
import java.lang.classfile.instruction.InvokeInstruction;
import java.lang.classfile.instruction.TypeCheckInstruction;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** Nobody asks a form or an encoding for its class: who did would not be found by a new kind, as a switch over {@link Form.Kind} is. */
class KindsTest {
    private static final String FORM = "dev/tensorpress/encoding/Form";
    private static final String ENCODING = "dev/tensorpress/encoding/Encoding";

    @Test
    void kindsAreSwitchedOver() throws IOException, URISyntaxException {
        Path root = Path.of(Form.class.getProtectionDomain().getCodeSource().getLocation().toURI()).resolve("dev/tensorpress");
        Set<String> asking = new TreeSet<>();
        int switching = 0;
        List<Path> files;
        try (Stream<Path> all = Files.walk(root)) {
            files = all.filter(p -> p.toString().endsWith(".class")).toList();
        }
        for (Path file : files) {
            String name = root.relativize(file).toString().replace('\\', '/').replaceFirst("(\\$.*)?\\.class$", "");
            ClassModel model = ClassFile.of().parse(file);
            for (MethodModel method : model.methods()) {
                for (CodeElement e : method.code().map(c -> c.elementList()).orElse(List.of())) {
                    if (e instanceof TypeCheckInstruction t && t.opcode() == Opcode.INSTANCEOF && isKind(t.type().asInternalName())) {
                        asking.add(name);
                    }
                    if (e instanceof InvokeInstruction i && i.name().equalsString("kind") && (i.owner().asInternalName().equals(FORM)
                            || i.owner().asInternalName().equals(ENCODING))) {
                        switching++;
                    }
                }
            }
        }
        assertEquals(Set.of(), asking);
        assertTrue(switching > 15, "found " + switching);
    }

    private static boolean isKind(String type) {
        return type.startsWith(FORM + "$") || type.startsWith(ENCODING + "$");
    }
}
