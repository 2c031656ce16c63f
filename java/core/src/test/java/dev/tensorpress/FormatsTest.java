package dev.tensorpress;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.model.Option;
import dev.tensorpress.model.TargetFactory;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

final class FormatsTest {
    /** Whoever names a target or an option means one thing. */
    @Test
    void namesAreTakenOnce() {
        Set<String> formats = new HashSet<>();
        Set<String> targets = new HashSet<>();
        for (Formats.Entry entry : Formats.ALL) {
            assertTrue(formats.add(entry.format().id()), entry.format().id());
            assertTrue(Recipe.NAMES.contains(entry.format().defaultRecipe()), entry.format().defaultRecipe());
            assertFalse(entry.targets().isEmpty(), entry.format().id());
            Map<String, Option> options = new HashMap<>();
            for (TargetFactory target : entry.targets()) {
                assertTrue(targets.add(target.id()), target.id());
                for (Option option : target.options()) {
                    Option other = options.putIfAbsent(option.name(), option);
                    assertTrue(other == null || other.equals(option), target.id() + " " + option.name());
                }
            }
        }
    }

    /** Only the last one takes what it cannot tell. */
    @Test
    void noFormatHidesAnother(@TempDir Path folder) throws IOException {
        Path unknown = Files.writeString(folder.resolve("unknown"), "neither this nor that");
        assertEquals(Formats.ALL.getLast(), Formats.of(unknown));
        for (Formats.Entry entry : Formats.ALL.subList(0, Formats.ALL.size() - 1)) {
            assertFalse(entry.format().detect(unknown), entry.format().id());
        }
    }
}
