package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Phases.Phase;
import dev.tensorpress.model.compressedtensors.CompressedModel;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FlightRecorderTest {
    @TempDir
    Path folder;

    private Report report;

    private static Report compress(Path model, Recipe recipe, Path out) throws Exception {
        try (Compressor compressor = Compressor.open(model)) {
            return compressor.compress(compressor.plan(recipe), out);
        }
    }

    /** Its events of ours. */
    private List<RecordedEvent> record(Callable<Report> work) throws Exception {
        Path file = folder.resolve("events.jfr");
        try (Recording recording = new Recording()) {
            recording.start();
            report = work.call();
            recording.stop();
            recording.dump(file);
        }
        return RecordingFile.readAllEvents(file).stream().filter(e -> e.getEventType().getName().startsWith("dev.tensorpress."))
                .toList();
    }

    private static List<RecordedEvent> named(String name, List<RecordedEvent> events) {
        return events.stream().filter(e -> e.getEventType().getName().equals(name)).toList();
    }

    private static void assertPhases(Set<Phase> expected, List<RecordedEvent> events) {
        Set<String> ids = new TreeSet<>();
        for (Phase phase : expected) {
            ids.add(phase.id());
        }
        Set<String> found = new TreeSet<>();
        for (RecordedEvent e : named("dev.tensorpress.Phase", events)) {
            found.add(e.getString("phase"));
            assertTrue(e.getDuration().toNanos() > 0, e.toString());
            assertTrue(!e.getString("subject").isEmpty() && (e.getLong("bytes") > 0 || e.getString("phase").equals("plan")),
                    e.toString());
        }
        assertEquals(ids, found);
    }

    /** All kernels but those that hash whole files are for this weight. */
    private static List<RecordedEvent> assertKernels(String weight, List<RecordedEvent> events) {
        List<RecordedEvent> kernels = named("dev.tensorpress.Kernel", events).stream()
                .filter(e -> !e.getString("kernel").equals("tp_sha256_update")).toList();
        assertTrue(!kernels.isEmpty());
        kernels.forEach(e -> assertEquals(weight, e.getString("weight"), e.toString()));
        return events;
    }

    @Test
    void eachCompressedWeightIsAnEvent() throws Exception {
        Path model = SmallModel.write(folder.resolve("model.onnx"));
        List<RecordedEvent> all = record(() -> compress(model, Recipe.named("int8"), folder.resolve("out.onnx")));
        List<RecordedEvent> events = named("dev.tensorpress.Weight", all);
        assertTrue(!events.isEmpty());
        assertEquals(report.entries().size(), events.size());
        Report.Entry first = report.entries().getFirst();
        assertEquals(first.planned().weight().name(), events.getFirst().getString("weight"));
        assertEquals(first.relativeError(), events.getFirst().getDouble("relativeError"));
        assertTrue(events.getFirst().getDuration().toNanos() >= first.nanos(), events.toString());
        assertPhases(EnumSet.allOf(Phase.class), all);
        // What the report says of phases is the sum of the events.
        for (Phase phase : Phase.values()) {
            long bytes = named("dev.tensorpress.Phase", all).stream().filter(e -> e.getString("phase").equals(phase.id()))
                    .mapToLong(e -> e.getLong("bytes")).sum();
            assertEquals(report.phases().get(phase).bytes(), bytes, phase.id());
            assertTrue(report.phases().get(phase).nanos() > 0, phase.id());
            assertTrue(report.toJson().replaceAll("\\s", "").contains("\"" + phase.id() + "\":{\"seconds\":"), report.toJson());
        }
        assertEquals(report.bytesAfter(), report.phases().get(Phase.WRITE).bytes());
        assertEquals(report.bytesAfter(), report.phases().get(Phase.FSYNC).bytes());
        assertEquals(first.planned().bytesBefore(), report.phases().get(Phase.READ).bytes());
        assertEquals(first.planned().bytesBefore(), report.phases().get(Phase.KERNEL).bytes());
    }

    @Test
    void foldersAndExpansionHaveTheirPhasesToo() throws Exception {
        Path model = SmallModel.writeSafetensors(folder.resolve("model.safetensors"));
        Path out = folder.resolve("out");
        String name = "layers.0.mlp.up_proj.weight";
        assertPhases(EnumSet.allOf(Phase.class), assertKernels(name, record(() -> compress(model, Recipe.named("w8a16"), out))));
        Set<Phase> unplanned = EnumSet.complementOf(EnumSet.of(Phase.PLAN));
        try (CompressedModel compressed = CompressedModel.open(out); Executor executor = Executor.cpu(1)) {
            assertPhases(unplanned, assertKernels(name, record(() -> {
                compressed.expand(Destination.of(folder.resolve("back")), 1 << 30, executor, (tensor, bytes) -> { });
                return null;
            })));
        }
    }
}
