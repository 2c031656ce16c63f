package dev.tensorpress.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.tensorpress.Compressor;
import dev.tensorpress.Plan;
import dev.tensorpress.Report;
import dev.tensorpress.kernel.Cuda;
import dev.tensorpress.kernel.Device;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.archive.Unpacker;
import dev.tensorpress.statistics.Statistics;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import jdk.jfr.Recording;

/** {@code tensorpress profile}: where the time of a compression goes, kernel by kernel. */
final class ProfileCommand implements Command {
    private static final int WEIGHTS = 10;
    /** A kernel that writes at least this part of what it moves is compared with a loop that writes as well. */
    private static final int WRITES = 8;
    private static final double GIGA = 1e9;

    /** What was found. */
    private record Result(Report report, Profile profile, Device device, int threads, Machine.Bandwidth memory, double copy, long openNanos,
            long nanos) {
        /** Of bytes per second that this kernel cannot exceed where its operands are in memory; NaN for products. */
        double memoryShare(Profile.Line line) {
            Profile.Sum s = line.sum();
            if (s.operations > 0) {
                return Double.NaN;
            }
            if (!line.device().equals(Device.CPU.toString())) {
                return s.bytesPerSecond() / copy;
            }
            return s.bytesPerSecond() / (s.written * WRITES >= s.read + s.written ? memory.narrow() : memory.read());
        }

        double runShare(Profile.Sum sum) {
            return (double) sum.nanos / nanos;
        }
    }

    @Override
    public Syntax syntax() {
        return RecipeOptions.declare(new Syntax("profile", "Compresses a model, tells where the time went, kernel by kernel, and removes"
                        + " what it wrote.", "MODEL"))
                .option("device", "D", RecipeOptions.DEVICE)
                .option("threads", "N", "that kernels use; all processors if left out")
                .option("memory", "SIZE", RecipeOptions.MEMORY)
                .option("shard-size", "SIZE", RecipeOptions.SHARD_SIZE)
                .option("temp", "FOLDER", "where the result is written, so that writing is measured too; the system's for temporary files"
                        + " if left out")
                .flag("all", "shows every weight")
                .flag("json", "as JSON, all weights");
    }

    @Override
    public void run(Arguments arguments, Console console) throws IOException {
        Path given = arguments.path("temp");
        Path temp = given != null ? given : Path.of(System.getProperty("java.io.tmpdir"));
        if (!Files.isDirectory(temp)) {
            throw arguments.wrong("--temp " + temp + " is no folder");
        }
        Path folder;
        try {
            folder = Files.createTempDirectory(temp, "tensorpress-profile-");
        } catch (IOException e) {
            throw new IOException("cannot write in " + temp + ", where the result would be for a while; --temp names another folder", e);
        }
        try {
            Result result = measure(arguments, folder, console);
            if (arguments.flag("json")) {
                json(result, console.out());
            } else {
                print(result, temp, arguments.flag("all") ? Integer.MAX_VALUE : WEIGHTS, console.out());
            }
        } finally {
            Unpacker.delete(folder);
        }
    }

    private static Result measure(Arguments arguments, Path folder, Console console) throws IOException {
        CompressCommand.Progress progress = new CompressCommand.Progress(console);
        Compressor.Options options = RecipeOptions.model(arguments).device(arguments.device()).threads(arguments.threads()).memory(RecipeOptions.memory(arguments))
                .progress(progress);
        Path recorded = folder.resolve("events.jfr");
        try (Recording recording = start()) {
            long start = System.nanoTime();
            try (Compressor compressor = Compressor.open(arguments.model(0), options);
                    Statistics _ = RecipeOptions.statistics(arguments, compressor, console)) {
                long opened = System.nanoTime();
                Plan plan = compressor.plan(RecipeOptions.recipe(arguments, compressor));
                progress.begin(plan);
                Report report = compressor.compress(plan, folder.resolve("model"));
                long nanos = System.nanoTime() - start;
                recording.stop();
                console.clearProgress();
                recording.dump(recorded);
                try (Executor executor = Executor.on(arguments.device(), arguments.threads())) {
                    double copy = executor.device().equals(Device.CPU) ? Double.NaN : Cuda.ceilings(executor).copy();
                    return new Result(report, Profile.read(recorded), executor.device(), executor.threads(), Machine.bandwidth(executor), copy,
                            opened - start, nanos);
                }
            }
        }
    }

    /** @throws IOException if Flight Recorder cannot write where it keeps events */
    private static Recording start() throws IOException {
        try {
            Recording recording = new Recording();
            recording.start();
            return recording;
        } catch (IllegalStateException e) {
            throw new IOException("Flight Recorder does not start: " + e.getMessage(), e);
        }
    }

    private static void print(Result result, Path folder, int most, PrintStream out) {
        Report report = result.report;
        out.println("recipe " + report.plan().recipe().name() + " for " + report.plan().target().name() + ", " + result.threads
                + (result.threads == 1 ? " thread" : " threads") + "; " + Text.count(report.bytesBefore()) + " -> "
                + Text.count(report.bytesAfter()) + " bytes in " + Text.time(result.nanos) + ", written in " + folder + " and removed");
        boolean device = !result.device.equals(Device.CPU);
        out.println("memory: " + rate(result.memory.read()) + " GB/s reading, " + rate(result.memory.narrow()) + " GB/s from f32 to int8"
                + (device ? "; of " + result.device + " " + rate(result.copy) + " GB/s copying" : ""));
        out.println();
        List<Profile.Line> kernels = result.profile.kernels();
        Table table = new Table("KERNEL", "DEVICE", ">CALLS", ">TIME", ">OF RUN", ">COMPUTED", ">READ", ">WRITTEN", ">GB/S", ">OF MEMORY",
                ">GFLOP/S");
        for (Profile.Line line : kernels) {
            Profile.Sum s = line.sum();
            table.row(line.name(), line.device(), Text.count(s.calls), Text.time(s.nanos), Text.percent(result.runShare(s)),
                    Text.time(s.deviceNanos), Text.size(s.read), Text.size(s.written), rate(s.bytesPerSecond()),
                    s.operations > 0 ? "" : Text.percent(result.memoryShare(line)), rate(s.operationsPerSecond()));
        }
        Profile.Sum all = result.profile.total();
        table.row("total", "", Text.count(all.calls), Text.time(all.nanos), Text.percent(result.runShare(all)), Text.time(all.deviceNanos),
                Text.size(all.read), Text.size(all.written), "", "", "");
        out.print(table);
        out.println();
        List<Profile.Line> weights = result.profile.weights();
        table = new Table("WEIGHT", ">CALLS", ">TIME", ">OF RUN", ">READ", ">WRITTEN", "MOST IN");
        for (Profile.Line line : weights.subList(0, Math.min(most, weights.size()))) {
            Profile.Sum s = line.sum();
            Profile.Line first = result.profile.kernels(line.name()).getFirst();
            table.row(line.name().isEmpty() ? "(none)" : line.name(), Text.count(s.calls), Text.time(s.nanos),
                    Text.percent(result.runShare(s)), Text.size(s.read), Text.size(s.written),
                    first.name() + " " + Text.percent((double) first.sum().nanos / Math.max(1, s.nanos)));
        }
        out.print(table);
        if (weights.size() > most) {
            out.println("and " + Text.plural(weights.size() - most, "weight") + " more (--all)");
        }
        out.println();
        table = new Table("PHASE", ">TIME", ">BYTES", ">RATE");
        table.row("open", Text.time(result.openNanos), "", "");
        for (Map.Entry<Phases.Phase, Phases.Spent> phase : report.phases().entrySet()) {
            Phases.Spent spent = phase.getValue();
            if (spent.nanos() > 0) {
                table.row(phase.getKey().id(), Text.time(spent.nanos()), spent.bytes() == 0 ? "" : Text.size(spent.bytes()),
                        spent.bytes() == 0 ? "" : Text.size((long) spent.bytesPerSecond()) + "/s");
            }
        }
        out.print(table);
    }

    /** Empty if it is not a number. */
    private static String rate(double perSecond) {
        return Double.isNaN(perSecond) ? "" : Text.fixed(perSecond / GIGA, 1);
    }

    private static void json(Result result, PrintStream out) throws IOException {
        Report report = result.report;
        try (JsonGenerator json = Names.json(out)) {
            json.writeStartObject();
            json.writeStringField("recipe", report.plan().recipe().name());
            json.writeStringField("target", report.plan().target().name());
            json.writeStringField("device", result.device.toString());
            json.writeNumberField("threads", result.threads);
            json.writeStringField("tier", Machine.tier());
            json.writeNumberField("seconds", result.nanos * 1e-9);
            json.writeNumberField("bytesBefore", report.bytesBefore());
            json.writeNumberField("bytesAfter", report.bytesAfter());
            json.writeObjectFieldStart("memory");
            json.writeNumberField("read", result.memory.read());
            json.writeNumberField("narrow", result.memory.narrow());
            number(json, "copy", result.copy);
            json.writeEndObject();
            json.writeObjectFieldStart("phases");
            phase(json, "open", result.openNanos, 0, Double.NaN);
            for (Map.Entry<Phases.Phase, Phases.Spent> phase : report.phases().entrySet()) {
                Phases.Spent spent = phase.getValue();
                phase(json, phase.getKey().id(), spent.nanos(), spent.bytes(), spent.bytesPerSecond());
            }
            json.writeEndObject();
            kernels(json, result, result.profile.kernels());
            json.writeArrayFieldStart("weights");
            for (Profile.Line line : result.profile.weights()) {
                json.writeStartObject();
                json.writeStringField("weight", line.name());
                sum(json, result, line.sum());
                kernels(json, result, result.profile.kernels(line.name()));
                json.writeEndObject();
            }
            json.writeEndArray();
            json.writeEndObject();
        }
        out.println();
    }

    private static void kernels(JsonGenerator json, Result result, List<Profile.Line> kernels) throws IOException {
        json.writeArrayFieldStart("kernels");
        for (Profile.Line line : kernels) {
            json.writeStartObject();
            json.writeStringField("kernel", line.name());
            json.writeStringField("device", line.device());
            Profile.Sum s = line.sum();
            sum(json, result, s);
            json.writeNumberField("lines", s.lines);
            json.writeNumberField("deviceSeconds", s.deviceSeconds());
            number(json, "bytesPerSecond", s.bytesPerSecond());
            number(json, "memoryShare", result.memoryShare(line));
            json.writeNumberField("operations", s.operations);
            number(json, "operationsPerSecond", s.operationsPerSecond());
            json.writeEndObject();
        }
        json.writeEndArray();
    }

    private static void sum(JsonGenerator json, Result result, Profile.Sum s) throws IOException {
        json.writeNumberField("calls", s.calls);
        json.writeNumberField("seconds", s.seconds());
        json.writeNumberField("runShare", result.runShare(s));
        json.writeNumberField("bytesRead", s.read);
        json.writeNumberField("bytesWritten", s.written);
    }

    private static void phase(JsonGenerator json, String name, long nanos, long bytes, double rate) throws IOException {
        json.writeObjectFieldStart(name);
        json.writeNumberField("seconds", nanos * 1e-9);
        json.writeNumberField("bytes", bytes);
        number(json, "bytesPerSecond", rate);
        json.writeEndObject();
    }

    private static void number(JsonGenerator json, String name, double value) throws IOException {
        if (Double.isNaN(value)) {
            json.writeNullField(name);
        } else {
            json.writeNumberField(name, value);
        }
    }
}
