package dev.tensorpress.cli;

import dev.tensorpress.io.DurableFile;
import dev.tensorpress.kernel.KernelException;
import dev.tensorpress.method.NonFiniteWeightException;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnknownNameException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.statistics.NonFiniteValueException;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;
import java.util.List;
import java.util.NoSuchElementException;

/** The {@code tensorpress} command. */
public final class Main {
    static final int OK = 0;
    static final int USAGE = 2;
    static final int MALFORMED = 3;
    static final int UNSUPPORTED = 4;
    static final int IO = 5;
    static final int INTERNAL = 70;

    static final List<String> COMMANDS = List.of("inspect", "plan", "compress", "merge", "clean", "slim", "profile", "pack", "expand", "verify", "sign", "recipe", "calibrate",
            "search", "evaluate", "distill", "autoencoder", "encode", "decode", "keygen", "doctor", "demo");
    private static final long PATIENCE_MILLIS = 5000;
    /** Whether the process was told to end: then libraries that want to be told of its end, or were, fail. */
    private static volatile boolean ending;

    private Main() {}

    /** Runs one command and ends the process with its exit code. */
    public static void main(String[] args) {
        boolean[] done = new boolean[1];
        Thread main = Thread.currentThread();
        // On Ctrl-C the work is interrupted and waited for, so that it takes its temporary files away itself.
        Thread hook = new Thread(() -> {
            synchronized (done) {
                if (done[0]) {
                    return;
                }
                ending = true;
                main.interrupt();
                try {
                    // Not for the thread: it is to end the process, which this does already.
                    long end = System.currentTimeMillis() + PATIENCE_MILLIS;
                    for (long left; !done[0] && (left = end - System.currentTimeMillis()) > 0; ) {
                        done.wait(left);
                    }
                    // A single kernel can take longer than that, and classes that cannot be loaded any more leave files to nobody.
                    DurableFile.abandonAll();
                } catch (IOException e) {
                    System.err.println("tensorpress: " + e);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            }
        });
        try {
            Runtime.getRuntime().addShutdownHook(hook);
        } catch (IllegalStateException e) {
            return; // the process ends already
        }
        int code = run(args, System.out, System.err);
        System.out.flush();
        synchronized (done) {
            done[0] = true;
            done.notifyAll();
        }
        System.exit(code);
    }

    /**
     * Runs one command in this process.
     *
     * @return its exit code: 0 done, 2 wrong usage, 3 malformed model, 4 unsupported request, 5 input or output failed,
     *     70 a fault of ours. A process that was interrupted ends as the signal has it, with 130 after Ctrl-C, and 143 after SIGTERM
     */
    public static int run(String[] args, PrintStream out, PrintStream err) {
        Console console = new Console(out, err);
        try {
            int code = dispatch(args, console);
            checkWritten(out);
            return code;
        } catch (Exception | LinkageError | OutOfMemoryError | InternalError e) {
            console.clearProgress();
            String advice = console.advice();
            PrintStream plain = console.err();
            plain.println("tensorpress: " + oneLine(message(e)) + (ending ? "" : option(e)) + (advice == null ? "" : "; " + advice));
            for (String arg : args) {
                if (arg.equals("--" + Syntax.STACKTRACE)) {
                    e.printStackTrace(plain);
                }
            }
            return code(e);
        }
    }

    /**
     * Streams for printing keep errors to themselves.
     *
     * @throws IOException if the results could not be written; unless whoever read them has read enough, as {@code head} does
     */
    private static void checkWritten(PrintStream out) throws IOException {
        if (!out.checkError()) {
            return;
        }
        String why = "";
        if (out == System.out) {
            try {
                new FileOutputStream(FileDescriptor.out).write('\n'); // once more, to be told why
            } catch (IOException e) {
                if (e.getMessage().contains("Broken pipe")) {
                    return;
                }
                why = ": " + e.getMessage();
            }
        }
        throw new IOException("cannot write the results" + why);
    }

    private static int dispatch(String[] args, Console console) throws IOException {
        if (args.length == 0) {
            throw new UsageException("missing command: " + String.join(", ", COMMANDS) + " (see tensorpress --help)");
        }
        switch (args[0]) {
            case "-h", "--help", "help" -> {
                Command of = args.length > 1 ? command(args[1]) : null;
                if (of == null) {
                    console.out().print(overview());
                } else {
                    of.syntax().help(console.out());
                }
                return OK;
            }
            case "-V", "--version" -> {
                String version = Main.class.getPackage().getImplementationVersion();
                console.out().println("tensorpress " + (version == null ? "(unpackaged)" : version));
                return OK;
            }
            default -> { }
        }
        Command command = command(args[0]);
        if (command == null) {
            throw new UsageException("no command '" + args[0] + "'" + UnknownNameException.hint(args[0], COMMANDS));
        }
        try (Arguments arguments = command.syntax().parse(args)) {
            if (arguments == null) {
                command.syntax().help(console.out());
            } else {
                command.run(arguments, console);
            }
            return OK;
        }
    }

    /** One class each: what a command does not need is not loaded. */
    private static Command command(String name) {
        return switch (name) {
            case "inspect" -> new InspectCommand();
            case "plan" -> new PlanCommand();
            case "compress" -> new CompressCommand();
            case "merge" -> new MergeCommand();
            case "clean" -> new CleanCommand();
            case "slim" -> new SlimCommand();
            case "profile" -> new ProfileCommand();
            case "pack" -> new PackCommand();
            case "expand" -> new ExpandCommand();
            case "verify" -> new VerifyCommand();
            case "sign" -> new SignCommand();
            case "recipe" -> new RecipeCommand();
            case "calibrate" -> new CalibrateCommand();
            case "search" -> new SearchCommand();
            case "evaluate" -> new EvaluateCommand();
            case "distill" -> new DistillCommand();
            case "autoencoder" -> new AutoencoderCommand();
            case "encode" -> new EncodeCommand();
            case "decode" -> new DecodeCommand();
            case "keygen" -> new KeygenCommand();
            case "doctor" -> new DoctorCommand();
            case "demo" -> new DemoCommand();
            default -> null;
        };
    }

    private static String overview() {
        StringBuilder text = new StringBuilder("Compresses trained models.\n\nUsage: tensorpress COMMAND ...\n\n");
        for (String name : COMMANDS) {
            text.append("  ").append(Text.left(name, 13)).append(command(name).syntax().summary()).append('\n');
        }
        return text.append("""

                tensorpress COMMAND --help tells more. --stacktrace shows where an error came from.
                Exit codes: 0 done, 2 usage, 3 malformed model, 4 unsupported request, 5 input or output, 70 internal.
                """).toString();
    }

    private static int code(Throwable e) {
        return switch (e) {
            case UnknownNameException n -> USAGE;
            case MalformedModelException m -> MALFORMED;
            case UnsupportedRequestException r -> UNSUPPORTED;
            case NonFiniteWeightException n -> UNSUPPORTED;
            case NonFiniteValueException n -> UNSUPPORTED;
            case ExceptionInInitializerError i when i.getCause() instanceof NoSuchElementException -> UNSUPPORTED;
            case UnsatisfiedLinkError l -> UNSUPPORTED; // there is no native library for this machine
            case KernelException k -> UNSUPPORTED;
            case UsageException u -> USAGE;
            case IOException i -> IO;
            case UncheckedIOException u -> IO;
            default -> isLost(e) ? IO : INTERNAL;
        };
    }

    /** By which option an error would be avoided, if one alone does it, since the library does not know what options are called. */
    private static String option(Throwable e) {
        String option = switch (e) {
            case NonFiniteWeightException n -> n.model().isPresent() ? "" : "exclude '" + n.weight() + "'";
            case FileAlreadyExistsException f -> "force";
            case UnsupportedRequestException r -> switch (r.setting()) {
                case "allowLinks" -> "allow-links";
                case "overwrite" -> "force";
                case "shapes" -> "shape";
                default -> r.setting();
            };
            default -> "";
        };
        return option.isEmpty() ? "" : " (--" + option + ")";
    }

    /** True for what reading a mapping behind the end of its file throws. */
    private static boolean isLost(Throwable e) {
        return e instanceof InternalError && e.getMessage() != null && e.getMessage().contains("unsafe memory access");
    }

    /** What Java's exceptions about files leave out. */
    private static String message(Throwable e) {
        if (isLost(e)) {
            return "a file of the model became shorter while it was read, or its disk failed";
        }
        String said = e.getMessage() == null ? "" : e.getMessage();
        for (Throwable cause = e; cause != null; cause = cause.getCause()) {
            if (cause instanceof ClosedByInterruptException) {
                return "interrupted";
            }
        }
        if (ending) {
            return "interrupted"; // what fails now fails because of that: ONNX Runtime ends at once
        }
        return switch (e) {
            case NoSuchFileException f -> f.getReason() == null ? "no such file: " + f.getFile() : said;
            case FileAlreadyExistsException f -> f.getReason() == null ? f.getFile() + " exists" : said;
            case AccessDeniedException f -> f.getReason() == null ? "no permission: " + f.getFile() : said;
            case FileSystemException f -> said;
            case CharacterCodingException c -> "not UTF-8 text: " + said;
            case IOException i -> said.isEmpty() ? i.toString() : said;
            case UncheckedIOException u -> message(u.getCause());
            case ExceptionInInitializerError i when i.getCause() instanceof NoSuchElementException s ->
                    "the native library is of another build, and lacks a function: " + s.getMessage();
            default -> code(e) != INTERNAL && !said.isEmpty()
                    ? said
                    : "internal error: " + e + " (--stacktrace shows where; please report it)";
        };
    }

    private static String oneLine(String message) {
        return message.replace("\r", "").strip().replace('\n', ' ');
    }
}
