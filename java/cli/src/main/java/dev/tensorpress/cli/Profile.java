package dev.tensorpress.cli;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;

/** The events {@code dev.tensorpress.Kernel} of a recording, added up. */
final class Profile {
    private static final double NANO = 1e-9;

    /** @param weight empty for calls that belong to none */
    private record Key(String kernel, String device, String weight) {}

    /** What some calls did together. */
    static final class Sum {
        long calls;
        long lines;
        long nanos;
        long deviceNanos;
        long read;
        long written;
        long operations;

        private void add(RecordedEvent e) {
            calls++;
            lines += e.getLong("lines");
            nanos += e.getDuration().toNanos();
            deviceNanos += e.getDuration("deviceTime").toNanos();
            read += e.getLong("bytesRead");
            written += e.getLong("bytesWritten");
            operations += e.getLong("operations");
        }

        private void add(Sum other) {
            calls += other.calls;
            lines += other.lines;
            nanos += other.nanos;
            deviceNanos += other.deviceNanos;
            read += other.read;
            written += other.written;
            operations += other.operations;
        }

        double seconds() {
            return nanos * NANO;
        }

        double deviceSeconds() {
            return deviceNanos * NANO;
        }

        /** Read and written; NaN if nothing was measured. */
        double bytesPerSecond() {
            return deviceNanos == 0 ? Double.NaN : (read + written) / deviceSeconds();
        }

        /** NaN for kernels that memory limits. */
        double operationsPerSecond() {
            return operations == 0 || deviceNanos == 0 ? Double.NaN : operations / deviceSeconds();
        }
    }

    /** A name and what its calls did. */
    record Line(String name, String device, Sum sum) {}

    private final Map<Key, Sum> sums = new LinkedHashMap<>();

    /** Reads the recording event by event, since there may be millions. */
    static Profile read(Path recording) throws IOException {
        Profile profile = new Profile();
        try (RecordingFile file = new RecordingFile(recording)) {
            while (file.hasMoreEvents()) {
                RecordedEvent e = file.readEvent();
                if (e.getEventType().getName().equals("dev.tensorpress.Kernel")) {
                    Key key = new Key(e.getString("kernel"), e.getString("device"), e.getString("weight"));
                    profile.sums.computeIfAbsent(key, k -> new Sum()).add(e);
                }
            }
        }
        return profile;
    }

    Sum total() {
        Sum total = new Sum();
        sums.values().forEach(total::add);
        return total;
    }

    /** By kernel and device, the one with most time first. */
    List<Line> kernels() {
        return lines(key -> new Key(key.kernel, key.device, ""), Key::kernel);
    }

    /** By weight, the one with most time first. */
    List<Line> weights() {
        return lines(key -> new Key("", "", key.weight), Key::weight);
    }

    /** Of the calls for this weight by kernel and device. */
    List<Line> kernels(String weight) {
        Profile part = new Profile();
        sums.forEach((key, sum) -> {
            if (key.weight.equals(weight)) {
                part.sums.put(key, sum);
            }
        });
        return part.kernels();
    }

    private List<Line> lines(Function<Key, Key> by, Function<Key, String> name) {
        Map<Key, Sum> groups = new LinkedHashMap<>();
        sums.forEach((key, sum) -> groups.computeIfAbsent(by.apply(key), k -> new Sum()).add(sum));
        List<Line> lines = new ArrayList<>();
        groups.forEach((key, sum) -> lines.add(new Line(name.apply(key), key.device, sum)));
        lines.sort(Comparator.comparingLong((Line line) -> line.sum.nanos).reversed());
        return lines;
    }
}
