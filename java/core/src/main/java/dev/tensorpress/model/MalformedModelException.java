package dev.tensorpress.model;

import java.nio.file.Path;

/** A file does not follow its format. */
public final class MalformedModelException extends RuntimeException {
    private static final long serialVersionUID = 1;
    private final transient Path path;
    private final long offset;

    /**
     * @param offset byte position in {@code path} where the fault shows, or -1 if it is not at one place
     * @param expected what should have been there, and what was
     */
    public MalformedModelException(Path path, long offset, String expected) {
        super(path + (offset < 0 ? "" : " at byte " + offset) + ": " + expected);
        this.path = path;
        this.offset = offset;
    }

    /** The faulty file. */
    public Path path() {
        return path;
    }

    /** Byte position of the fault, or -1. */
    public long offset() {
        return offset;
    }
}
