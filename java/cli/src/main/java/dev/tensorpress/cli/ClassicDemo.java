package dev.tensorpress.cli;

import dev.tensorpress.demo.Demo;
import dev.tensorpress.demo.Findings;
import dev.tensorpress.train.Network;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** Runs one of the classic experiments, and shows what it found. */
final class ClassicDemo {
    private ClassicDemo() {}

    static void run(String name, Path folder, DemoFiles files, Arguments arguments, Console console) throws IOException {
        Network.threads(arguments.threads());
        run(name, folder, files, Demo.Effort.FULL, arguments.threads(), console);
    }

    static Findings run(String name, Path folder, DemoFiles files, Demo.Effort effort, int threads, Console console) throws IOException {
        Demo demo = Demo.ALL.stream().filter(d -> d.name().equals(name)).findFirst().orElseThrow();
        if ((Files.exists(folder) || Files.isSymbolicLink(folder)) && !Files.isDirectory(folder)) {
            throw new UsageException("a demo writes to a folder, and " + folder + " is none");
        }
        Files.createDirectories(folder);
        // Before the work, which takes minutes.
        Path page = folder.resolve(name + ".html");
        if (Files.isDirectory(page)) {
            throw new UsageException("a demo writes the page " + page + ", and that is a folder");
        }
        if (!Files.isWritable(folder)) {
            throw new AccessDeniedException(folder.toString(), null, "no permission to write in " + folder);
        }
        Demo.Sources sources = new Demo.Sources() {
            @Override
            public Path file(String file) throws IOException {
                return files.file(file);
            }

            @Override
            public List<String> sentences() throws IOException {
                return DemoCommand.sentences();
            }
        };
        long start = System.nanoTime();
        console.out().println(demo.summary());
        console.out().flush();
        Findings found = demo.run(new Demo.Work(folder, effort, threads, sources,
                (what, done, total, note) -> console.progress(what, Math.toIntExact(done), Math.toIntExact(total), note)));
        console.clearProgress();
        for (Findings.Table t : found.tables()) {
            console.out().println();
            Table table = new Table(t.columns().toArray(String[]::new));
            t.rows().forEach(row -> table.row(row.toArray(String[]::new)));
            console.out().print(table);
        }
        new HtmlReport("tensorpress demo " + name, Character.toUpperCase(demo.summary().charAt(0)) + demo.summary().substring(1)).data("demo", most -> found.toJson()).write(page);
        console.out().println();
        console.out().println(found.lead());
        console.out().println(page + ", in " + Text.time(System.nanoTime() - start));
        return found;
    }
}
