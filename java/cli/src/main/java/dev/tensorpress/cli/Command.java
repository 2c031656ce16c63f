package dev.tensorpress.cli;

import java.io.IOException;

/** One word after {@code tensorpress}. */
interface Command {
    /** What may follow the word. */
    Syntax syntax();

    /** Does the work; what it throws decides the exit code. */
    void run(Arguments arguments, Console console) throws IOException;
}
