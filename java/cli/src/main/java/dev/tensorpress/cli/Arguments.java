package dev.tensorpress.cli;

import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Device;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.archive.ArchiveKey;
import dev.tensorpress.model.archive.Mount;
import dev.tensorpress.model.archive.VerifyingKey;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.temporal.ChronoUnit;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.commons.cli.CommandLine;

/** What a command was given. Options go by their long names. */
final class Arguments implements AutoCloseable {
    private static final Pattern TIME = Pattern.compile("(\\d{1,6})(s|m|h)");

    private final Syntax syntax;
    private final CommandLine line;
    private final List<String> words;
    private final Map<Path, Mount> mounts = new HashMap<>();

    /** @param words all that was given, the command's name included */
    Arguments(Syntax syntax, CommandLine line, List<String> words) {
        this.syntax = syntax;
        this.line = line;
        this.words = words;
    }

    /** The line that a POSIX shell takes for the same. */
    String commandLine() {
        StringBuilder all = new StringBuilder("tensorpress");
        for (String word : words) {
            all.append(' ').append(word.matches("[\\w%+,./:=@-]+") ? word : "'" + word.replace("'", "'\\''") + "'");
        }
        return all.toString();
    }

    /** How many parameters there are. */
    int given() {
        return line.getArgList().size();
    }

    /** The parameter at {@code index}. */
    String text(int index) {
        return line.getArgList().get(index);
    }

    /** The parameter at {@code index} as a path. */
    Path path(int index) {
        return parse(text(index));
    }

    /** The parameter at {@code index} as a model: of an archive what it holds, expanded until these arguments are closed, if it is signed as it has to be. */
    Path model(int index) throws IOException {
        return mount(path(index), null, KeyOptions.signer(this)).model();
    }

    /** Expands an archive until these arguments are closed. */
    Mount mount(Path path, ArchiveKey key, VerifyingKey signer) throws IOException {
        Mount mount = mounts.get(path);
        if (mount == null) {
            mount = Mount.of(path, key, signer);
            mounts.put(path, mount);
        }
        return mount;
    }

    @Override
    public void close() throws IOException {
        for (Mount mount : mounts.values()) {
            mount.close();
        }
    }

    /** The option as a path, or null. */
    Path path(String option) {
        String value = value(option);
        return value == null ? null : parse(value);
    }

    /** All values of an option as paths. */
    List<Path> paths(String option) {
        return values(option).stream().map(this::parse).toList();
    }

    private Path parse(String value) {
        try {
            Path path = Path.of(value);
            // Bytes that are no UTF-8 are given to this process as such characters.
            if (!value.isEmpty() && (value.indexOf('\ufffd') < 0 || Files.exists(path))) {
                return path;
            }
        } catch (InvalidPathException e) {
            // said below
        }
        String help = value.isEmpty() ? "" : " in " + System.getProperty("sun.jnu.encoding") + ", by which this JVM reads names; " + InputFiles.advice();
        throw syntax.wrong("'" + value + "' is not the name of a file" + help);
    }

    boolean flag(String option) {
        return line.hasOption(option);
    }

    /** The option's only value, or null. */
    String value(String option) {
        List<String> values = values(option);
        if (values.size() > 1) {
            throw syntax.wrong("--" + option + " is given twice");
        }
        return values.isEmpty() ? null : values.getFirst();
    }

    /** All values of an option. */
    List<String> values(String option) {
        String[] values = line.getOptionValues(option);
        return values == null ? List.of() : List.of(values);
    }

    /** The option as a number of at least {@code least}, or {@code otherwise} if it is not given. */
    int number(String option, int least, int otherwise) {
        String value = value(option);
        if (value == null) {
            return otherwise;
        }
        try {
            int number = Integer.parseInt(value);
            if (number >= least) {
                return number;
            }
        } catch (NumberFormatException e) {
            // said below
        }
        throw syntax.wrong("--" + option + " must be a number of at least " + least + ", but is '" + value + "'");
    }

    /** The threads to use, or 0 for all processors. */
    int threads() {
        int threads = number("threads", 1, 0);
        if (threads > Executor.MOST_THREADS) {
            throw syntax.wrong("--threads must be at most " + Executor.MOST_THREADS + ", but is " + threads);
        }
        return threads;
    }

    /** The device to run kernels on. */
    Device device() {
        String value = value("device");
        try {
            return value == null ? Device.CPU : Device.of(value);
        } catch (IllegalArgumentException e) {
            throw syntax.wrong("--device: " + e.getMessage());
        }
    }

    /** The option as a number of bytes, such as 5GB, 1.5GiB or 800000, or {@code otherwise} if it is not given. */
    long bytes(String option, long least, long otherwise) {
        String value = value(option);
        if (value == null) {
            return otherwise;
        }
        try {
            int digits = 0;
            while (digits < value.length() && (Character.isDigit(value.charAt(digits)) || value.charAt(digits) == '.')) {
                digits++;
            }
            long unit = unit(value.substring(digits));
            if (unit > 0) {
                long bytes = new BigDecimal(value.substring(0, digits)).multiply(BigDecimal.valueOf(unit))
                        .toBigInteger().longValueExact();
                if (bytes >= least) {
                    return bytes;
                }
                throw syntax.wrong("--" + option + " must be at least " + Text.count(least) + " bytes, but is "
                        + Text.count(bytes));
            }
        } catch (ArithmeticException | NumberFormatException e) {
            // said below
        }
        throw syntax.wrong("--" + option + " must be a number of bytes, such as 5GB, 500MB or 4GiB, but is '" + value + "'");
    }

    /** 0 if it is none. */
    private static long unit(String name) {
        return switch (name) {
            case "", "B" -> 1;
            case "kB", "KB" -> 1_000;
            case "MB" -> 1_000_000;
            case "GB" -> 1_000_000_000;
            case "TB" -> 1_000_000_000_000L;
            case "KiB" -> 1L << 10;
            case "MiB" -> 1L << 20;
            case "GiB" -> 1L << 30;
            case "TiB" -> 1L << 40;
            default -> 0;
        };
    }

    /** The option as a time, such as 90s, 5m or 1h. */
    Optional<Duration> duration(String option) {
        String value = value(option);
        if (value == null) {
            return Optional.empty();
        }
        Matcher m = TIME.matcher(value);
        if (!m.matches() || Long.parseLong(m.group(1)) == 0) {
            throw syntax.wrong("--" + option + " takes a time such as 90s, 5m or 1h, not '" + value + "'");
        }
        return Optional.of(Duration.of(Long.parseLong(m.group(1)), switch (m.group(2)) {
            case "s" -> ChronoUnit.SECONDS;
            case "m" -> ChronoUnit.MINUTES;
            default -> ChronoUnit.HOURS;
        }));
    }

    UsageException wrong(String message) {
        return syntax.wrong(message);
    }
}
