package dev.tensorpress.model.archive;

import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.archive.Index.Array;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.BiConsumer;

/** Packs files, of which it is known where elements of which type lie, into an archive. */
public final class Packer {
    /** Of an array in a chunk, about: what a reader of one array has to decode at most besides. */
    private static final int ARRAY_CHUNK = 1 << 20;
    /** Smaller arrays would take more to describe than they gain. */
    private static final int SMALLEST_ARRAY = 2048;

    private final Contents contents;
    private final Settings settings;
    private final List<Part> parts = new ArrayList<>();
    private final List<Array> arrays = new ArrayList<>();
    private final long[] stored;

    /**
     * What is packed.
     *
     * @param files by their names in the archive, with slashes
     * @param folder whether they lie in a folder; else there is one
     * @param entry the file that is to be opened as a model; empty for the folder
     * @param arrays where elements of one type are in these files
     * @param inputs all files as they were when they were looked at
     */
    @SuppressWarnings("exports") // for this module
    public record Contents(Map<String, Path> files, boolean folder, String entry, List<Model.Array> arrays, InputFiles inputs) {
        public Contents {
            files = Collections.unmodifiableMap(new LinkedHashMap<>(files));
            arrays = List.copyOf(arrays);
        }

        /** Of all files. */
        public long bytes() {
            long sum = 0;
            for (Path file : files.values()) {
                sum = Math.addExact(sum, inputs.stamp(file).size());
            }
            return sum;
        }
    }

    /**
     * How.
     *
     * @param key that encrypts the archive, or null
     * @param signer that signs it, or null
     * @param threads that code; 0 for one per processor
     * @param memory bytes of buffers and working memory at most
     * @param progress told how many bytes are packed, and of which file the last one is; or null
     */
    public record Settings(ArchiveKey key, SigningKey signer, int threads, long memory, BiConsumer<Long, String> progress) {}

    /**
     * What became of it.
     *
     * @param bytes of the archive
     * @param arrays bytes that each array takes in it, by its name
     */
    public record Packed(long bytesBefore, long bytes, Map<String, Stored> arrays) {}

    /** @param bytes that it had */
    public record Stored(DType type, long bytes, long stored) {}

    /**
     * Bytes of a chunk.
     *
     * @param array number of the array that they are elements of; -1 if they are anything else
     */
    private record Part(long position, int length, int array) {}

    private Packer(Contents contents, Settings settings) {
        this.contents = contents;
        this.settings = settings;
        plan();
        stored = new long[arrays.size()];
    }

    /**
     * Packs files. The archive is whole or absent at any moment.
     *
     * @param replace whether a file that has its name may be replaced
     * @throws UnsupportedRequestException if there are too many files, one has a name that no archive has, or the archive would replace one
     * @throws IOException if a file cannot be read, or changed meanwhile; if the archive cannot be written
     */
    public static Packed pack(Contents contents, Settings settings, Path out, boolean replace) throws IOException {
        if (InputFiles.replacedBy(out, contents.files.values()) != null) {
            throw new UnsupportedRequestException("the output " + out + " is a file that is to be packed");
        }
        Index.checkNames(contents.files.keySet());
        return new Packer(contents, settings).run(out, replace);
    }

    private void plan() {
        Map<Path, List<Model.Array>> byFile = new HashMap<>();
        for (Model.Array a : contents.arrays) {
            byFile.computeIfAbsent(a.file(), f -> new ArrayList<>()).add(a);
        }
        long position = 0;
        long other = 0;
        for (Path file : contents.files.values()) {
            long size = contents.inputs.stamp(file).size();
            List<Model.Array> there = byFile.getOrDefault(file, new ArrayList<>());
            there.sort(Comparator.comparing(Model.Array::offset));
            long at = 0;
            for (Model.Array a : there) {
                int number = arrays.size();
                arrays.add(new Array(a.name(), a.type(), a.shape(), position + a.offset()));
                if (a.bytes() < SMALLEST_ARRAY || a.offset() < at) {
                    continue; // it is read from where it is all the same
                }
                cut(other, position + a.offset(), Index.LARGEST_CHUNK, -1);
                at = a.offset() + a.bytes();
                other = position + at;
                cut(position + a.offset(), other, ARRAY_CHUNK, number);
            }
            position = Math.addExact(position, size);
        }
        cut(other, position, Index.LARGEST_CHUNK, -1);
    }

    /** In parts that are about as large as each other. */
    private void cut(long from, long to, int most, int array) {
        if (from < to) {
            long n = Math.ceilDiv(to - from, most);
            long step = Math.ceilDiv(Math.ceilDiv(to - from, n), Long.BYTES) * Long.BYTES;
            for (long at = from; at < to; at += step) {
                parts.add(new Part(at, Math.toIntExact(Math.min(step, to - at)), array));
            }
        }
    }

    private Packed run(Path out, boolean replace) throws IOException {
        try (Arena arena = Arena.ofShared();
                Buffers buffers = new Buffers(settings.memory / 2, new Phases());
                ArchiveWriter writer = new ArchiveWriter(out, settings.key, settings.signer, buffers);
                Conveyor conveyor = new Conveyor(settings.threads, settings.memory, piece -> {
                    int array = parts.get(piece.frame().ordinal()).array;
                    if (array >= 0) {
                        stored[array] += Frame.BYTES + piece.frame().stored();
                    }
                    writer.add(piece);
                });
                MemberReader reader = new MemberReader(contents.files, contents.inputs, parts.stream().map(Part::length).toList(), arena,
                        buffers)) {
            for (int i = 0; i < parts.size(); i++) {
                Part p = parts.get(i);
                int ordinal = i;
                Piece piece = conveyor.next();
                reader.read(piece.plain.asSlice(0, p.length));
                progress(p, reader);
                conveyor.start(piece, () -> {
                    piece.encode(ordinal, p.position, p.length, null, -1, writer.cipher());
                    return null;
                });
            }
            conveyor.finish();
            contents.inputs.check();
            long bytes = writer.commit(contents.folder, contents.entry, reader.members(), List.of(), arrays, out, replace);
            return new Packed(Index.total(reader.members()), bytes, report());
        }
    }

    private void progress(Part p, MemberReader reader) {
        if (settings.progress != null) {
            settings.progress.accept(p.position + p.length, p.array >= 0 ? arrays.get(p.array).name() : reader.current());
        }
    }

    private Map<String, Stored> report() {
        Map<String, Stored> all = new TreeMap<>();
        for (int i = 0; i < stored.length; i++) {
            if (stored[i] > 0) {
                all.put(arrays.get(i).name(), new Stored(arrays.get(i).type(), arrays.get(i).bytes(), stored[i]));
            }
        }
        return all;
    }
}
