package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.tensorpress.Compressor;
import dev.tensorpress.Recipe;
import dev.tensorpress.Report;
import java.nio.file.Path;
import java.util.List;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FlightRecorderTest {
    @Test
    void eachCompressedWeightIsAnEvent(@TempDir Path folder) throws Exception {
        Path model = folder.resolve("model.onnx");
        SmallModel.write(model);
        Path file = folder.resolve("weights.jfr");
        Report report;
        try (Recording recording = new Recording(); Compressor compressor = Compressor.open(model)) {
            recording.start();
            report = compressor.compress(compressor.plan(Recipe.named("int8")), folder.resolve("out.onnx"));
            recording.stop();
            recording.dump(file);
        }
        List<RecordedEvent> events = RecordingFile.readAllEvents(file).stream()
                .filter(e -> e.getEventType().getName().equals("dev.tensorpress.Weight")).toList();
        assertTrue(!events.isEmpty());
        assertEquals(report.entries().size(), events.size());
        Report.Entry first = report.entries().getFirst();
        assertEquals(first.planned().weight().name(), events.getFirst().getString("weight"));
        assertEquals(first.relativeError(), events.getFirst().getDouble("relativeError"));
    }
}
