package dev.tensorpress.model.compressedtensors;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Recipe;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Data;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Files that become shorter after they were opened. What reads a mapping behind the end of its file in native code kills the process, so
 * each case has one of its own.
 */
public class TruncatedInputTest {
    private static final int ROWS = 512;
    private static final int COLS = 1024;
    private static final int FAILED = 5;

    @TempDir
    Path folder;

    /** Opens a model, cuts it before or after the plan is made, and compresses it. */
    public static void main(String[] args) {
        Path model = Path.of(args[0]);
        Recipe recipe = Recipe.named(args[2]);
        if (!args[3].isEmpty()) {
            recipe = recipe.set("scope", args[3]);
        }
        if (args[2].equals("lowrank") && Files.isDirectory(model)) {
            recipe = recipe.set("force-scheme", "true");
        }
        boolean before = args[4].equals("before");
        try (Compressor c = Compressor.open(model)) {
            if (before) {
                cut(model);
            }
            Plan plan = c.plan(recipe);
            if (!before) {
                cut(model);
            }
            c.compress(plan, Path.of(args[1]));
        } catch (IOException | UncheckedIOException e) {
            System.out.println(e.getMessage());
            System.exit(FAILED);
        }
    }

    private static void cut(Path model) throws IOException {
        Path file = Files.isDirectory(model) ? model.resolve("model.safetensors") : model;
        try (FileChannel c = FileChannel.open(file, StandardOpenOption.WRITE)) {
            c.truncate(c.size() / 4);
        }
    }

    @ParameterizedTest
    @CsvSource({"w8a16,'',before", "w8a16,'',after", "w4a16,'',after", "prune50,tensor,before", "prune50,tensor,after",
        "prune50,global,before", "prune50,global,after", "lowrank,'',before", "lowrank,'',after"})
    void isAnErrorAndNoCrash(String recipe, String scope, String when) throws Exception {
        List<Item> items = new ArrayList<>();
        Random random = new Random(1);
        for (String name : List.of("q", "k")) {
            ByteBuffer data = ByteBuffer.allocate(2 * ROWS * COLS).order(ByteOrder.LITTLE_ENDIAN);
            while (data.hasRemaining()) {
                data.putShort((short) (Float.floatToRawIntBits((float) random.nextGaussian()) >>> 16));
            }
            items.add(new Item("layers.0." + name + "_proj.weight", DType.BF16, Shape.of(ROWS, COLS),
                    Data.of(MemorySegment.ofArray(data.array()))));
        }
        Path model = Files.createDirectory(folder.resolve("model"));
        try (FileChannel c = FileChannel.open(model.resolve("model.safetensors"), StandardOpenOption.WRITE, StandardOpenOption.CREATE)) {
            new SafetensorsWriter(items, Map.of()).write(c);
        }
        String said = fails(folder, model, recipe, scope, when);
        assertTrue(said.contains("became shorter") && said.contains("model.safetensors"), said);
    }

    /**
     * What a process says that compresses a model and has its file cut meanwhile, after checking that it ends with an error, and
     * that there is no output.
     *
     * @param scope an option of the recipe, or empty
     * @param when before or after the plan is made
     */
    public static String fails(Path folder, Path model, String recipe, String scope, String when) throws Exception {
        Path out = folder.resolve("out");
        Path crash = folder.resolve("crash.log");
        Process p = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-XX:TieredStopAtLevel=1",
                "-XX:ErrorFile=" + crash, "-XX:-CreateCoredumpOnCrash", "--enable-native-access=ALL-UNNAMED", "-cp",
                System.getProperty("java.class.path"), TruncatedInputTest.class.getName(), model.toString(), out.toString(), recipe,
                scope, when).redirectErrorStream(true).start();
        String said = new String(p.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(FAILED, p.waitFor(), said);
        assertFalse(Files.exists(crash), said);
        assertFalse(Files.exists(out), said);
        return said;
    }
}
