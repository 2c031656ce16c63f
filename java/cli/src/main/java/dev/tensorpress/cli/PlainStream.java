package dev.tensorpress.cli;

import java.io.PrintStream;

/**
 * Text for people, much of which comes from files: what moves a terminal's cursor, or worse, does not get through, nor do lines
 * that are longer than anyone reads. Bytes pass; {@link Names#json} writes such.
 */
final class PlainStream extends PrintStream {
    private final PrintStream to;

    PlainStream(PrintStream to) {
        super(to, false, to.charset());
        this.to = to;
    }

    /** What is appended or formatted comes here as well. */
    @Override
    public void print(String s) {
        to.print(Text.plain(String.valueOf(s)));
    }

    @Override
    public void print(Object o) {
        print(String.valueOf(o));
    }

    @Override
    public void println(String s) {
        to.println(Text.plain(String.valueOf(s)));
    }

    @Override
    public void println(Object o) {
        println(String.valueOf(o));
    }

    @Override
    public void println() {
        to.println();
    }
}
