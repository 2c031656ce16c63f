package dev.tensorpress.model;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.util.LinkedHashMap;
import java.util.Map;

/** The files that a model is read from, as they were when they were opened: a result made of a mix of old and new is none. */
public final class InputFiles {
    private final Map<Path, Stamp> stamps = new LinkedHashMap<>();

    /** By what a change shows. */
    public record Stamp(long size, FileTime modified) {
        static Stamp of(Path file) throws IOException {
            BasicFileAttributes a = Files.readAttributes(file, BasicFileAttributes.class);
            return new Stamp(a.size(), a.lastModifiedTime());
        }

        @Override
        public String toString() {
            return size + " bytes, modified at " + modified;
        }
    }

    /** Notes a file that is opened next; once is enough. */
    public void add(Path file) throws IOException {
        if (!stamps.containsKey(file)) {
            stamps.put(file, Stamp.of(file));
        }
    }

    /** What was noted of a file, or null. */
    public Stamp stamp(Path file) {
        return stamps.get(file);
    }

    /**
     * Returns if no file has changed since it was noted.
     *
     * @throws IOException if one has, or is gone
     */
    public void check() throws IOException {
        for (Map.Entry<Path, Stamp> e : stamps.entrySet()) {
            Stamp now = Stamp.of(e.getKey());
            if (!now.equals(e.getValue())) {
                throw new IOException(e.getKey() + " changed while it was read: it had " + e.getValue() + ", now " + now);
            }
        }
    }
}
