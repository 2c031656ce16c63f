package dev.tensorpress.benchmarks;

import dev.tensorpress.kernel.Executor;
import dev.tensorpress.kernel.Machine;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Collection;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/**
 * A process that runs cases one at a time when told to. The tier of the kernels is chosen once per process, so taking
 * turns between tiers takes a process for each.
 */
final class Runner implements AutoCloseable {
    private static final String READY = "ready";

    private final String tier;
    private final Process process;
    private final BufferedReader answers;
    private final PrintStream orders;
    private final Map<Case, Long> bytes = new EnumMap<>(Case.class);

    /** Starts a process and waits until it has prepared and checked all cases. */
    Runner(String tier, int size, int threads, Collection<Case> cases) throws IOException {
        this.tier = tier;
        List<String> command = new ArrayList<>(List.of(
                ProcessHandle.current().info().command().orElse("java"), "--enable-native-access=ALL-UNNAMED", "-Xmx512m",
                "-cp", System.getProperty("java.class.path"), Runner.class.getName(),
                Integer.toString(size), Integer.toString(threads)));
        cases.forEach(c -> command.add(c.name()));
        ProcessBuilder builder = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT);
        builder.environment().put("TENSORPRESS_ISA", tier);
        // Else OpenMP's threads go on spinning after oneDNN is done, on the processors of whoever is next.
        builder.environment().put("OMP_WAIT_POLICY", "passive");
        process = builder.start();
        answers = process.inputReader();
        orders = new PrintStream(process.getOutputStream(), true);
        for (Case c : cases) {
            bytes.put(c, Long.parseLong(answer()));
        }
        if (!answer().equals(READY)) {
            throw new IOException("unexpected answer of the process for tier " + tier);
        }
    }

    private String answer() throws IOException {
        String line = answers.readLine();
        if (line == null) {
            throw new IOException("the process for tier " + tier + " failed");
        }
        return line;
    }

    String tier() {
        return tier;
    }

    boolean has(Case work) {
        return bytes.containsKey(work);
    }

    long bytes(Case work) {
        return bytes.get(work);
    }

    /** Runs a case once and returns the seconds it took. */
    double seconds(Case work) throws IOException {
        orders.println(work.name());
        return Long.parseLong(answer()) * 1e-9;
    }

    @Override
    public void close() throws IOException {
        orders.close();
        answers.close();
        process.destroy();
    }

    /** Arguments: size, threads, cases. Reads names of cases, answers with nanoseconds. */
    public static void main(String[] args) throws IOException {
        Map<Case, Work> prepared = new EnumMap<>(Case.class);
        Machine.tier(); // fails here if the tier is not available
        try (Matrix in = Matrix.random(Integer.parseInt(args[0]), Integer.parseInt(args[0]));
                Executor executor = Executor.cpu(Integer.parseInt(args[1]))) {
            for (String name : List.of(args).subList(2, args.length)) {
                Work work = Case.valueOf(name).prepare(in, executor);
                prepared.put(Case.valueOf(name), work);
                System.out.println(work.bytes());
            }
            System.out.println(READY);
            BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
            for (String line; (line = lines.readLine()) != null; ) {
                Work work = prepared.get(Case.valueOf(line));
                long start = System.nanoTime();
                work.run();
                System.out.println(System.nanoTime() - start);
            }
        } finally {
            prepared.values().forEach(Work::close);
        }
    }
}
