package dev.tensorpress.model.archive;

import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Coding;
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
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
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
    private final Growing[] growing;
    /** Null without one. */
    private final Base base;

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
     * @param base what most of it is like, which whoever expands the archive has to have as well; null if it is to stand for itself
     * @param threads that code; 0 for one per processor
     * @param memory bytes of buffers and working memory at most
     * @param progress told how many bytes are packed, and of which file or array the last one is; or null
     */
    public record Settings(ArchiveKey key, SigningKey signer, Contents base, int threads, long memory, BiConsumer<Long, String> progress) {}

    /**
     * What became of it.
     *
     * @param bytes of the archive
     * @param arrays what each array is stored as; those that are too small to be stored by themselves are not there
     */
    public record Packed(long bytesBefore, long bytes, List<Stored> arrays) {
        public Packed {
            arrays = List.copyOf(arrays);
        }
    }

    /**
     * What became of an array.
     *
     * @param bytes that it had
     * @param stored that it takes
     * @param way in which it is coded, in words; {@code plain} where chunks get no smaller
     * @param sizes bytes of its first chunk in each way, by which that was chosen
     * @param planes what its elements were taken apart into, and how many bytes of these are coded in which way
     */
    public record Stored(String name, DType type, long bytes, long stored, String way, Map<String, Integer> sizes, List<Plane> planes) {
        public Stored {
            sizes = Collections.unmodifiableMap(new LinkedHashMap<>(sizes));
            planes = List.copyOf(planes);
        }
    }

    /** A part of elements, such as their exponents, and those bytes of it that were coded in one way. */
    public record Plane(String part, String kind, long bytes, long stored) {}

    /** What is known of an array while its chunks come. */
    private static final class Growing {
        /** Decided by the first chunk; later ones wait for it. */
        final CompletableFuture<Way> way = new CompletableFuture<>();
        final Map<String, Integer> sizes = new LinkedHashMap<>();
        final Map<String, Plane> planes = new TreeMap<>();
        boolean plain = true;
        long stored;

        void add(Piece piece) {
            stored += Frame.BYTES + piece.frame().stored();
            plain &= piece.frame().coding() == Frame.Stored.PLAIN;
            for (Coding.Plane p : piece.planes()) {
                Plane one = new Plane(p.part().name().toLowerCase(Locale.ROOT), p.kind().name().toLowerCase(Locale.ROOT), p.bytesIn(), p.bytesOut());
                planes.merge(one.part + " " + one.kind, one, (x, y) -> new Plane(x.part, x.kind, x.bytes + y.bytes, x.stored + y.stored));
            }
        }
    }

    /**
     * Bytes of a chunk.
     *
     * @param array number of the array that they are elements of; -1 if they are anything else
     * @param first whether it is the array's first
     * @param base position of bytes that they are perhaps like; -1 if there are none
     */
    private record Part(long position, int length, int array, boolean first, long base) {}

    private Packer(Contents contents, Settings settings, Base base) {
        this.contents = contents;
        this.settings = settings;
        this.base = base;
        plan();
        growing = new Growing[arrays.size()];
        for (int i = 0; i < growing.length; i++) {
            growing[i] = new Growing();
        }
    }

    /**
     * Packs files. The archive is whole or absent at any moment.
     *
     * @param replace whether a file that has its name may be replaced
     * @throws UnsupportedRequestException if there are too many files, one has a name that no archive has, or the archive would replace one
     * @throws IOException if a file cannot be read, or changed meanwhile; if the archive cannot be written
     */
    public static Packed pack(Contents contents, Settings settings, Path out, boolean replace) throws IOException {
        List<Path> inputs = new ArrayList<>(contents.files.values());
        if (settings.base != null) {
            inputs.addAll(settings.base.files.values());
        }
        if (InputFiles.replacedBy(out, inputs) != null) {
            throw new UnsupportedRequestException("the output " + out + " is a file that is to be packed, or of the base");
        }
        Index.checkNames(contents.files.keySet());
        if (settings.base == null) {
            return new Packer(contents, settings, null).run(out, replace);
        }
        try (Base base = Base.open(settings.base.files)) {
            return new Packer(contents, settings, base).run(out, replace);
        }
    }

    private void plan() {
        Map<Path, List<Model.Array>> byFile = new HashMap<>();
        for (Model.Array a : contents.arrays) {
            byFile.computeIfAbsent(a.file(), f -> new ArrayList<>()).add(a);
        }
        Map<String, Long> like = likeArrays();
        long position = 0;
        long other = 0;
        long likeOther = -1;
        for (Map.Entry<String, Path> file : contents.files.entrySet()) {
            List<Model.Array> there = byFile.getOrDefault(file.getValue(), new ArrayList<>());
            there.sort(Comparator.comparing(Model.Array::offset));
            long likeFile = likeFile(file.getKey());
            likeOther = other == position ? likeFile : likeOther;
            long at = 0;
            for (Model.Array a : there) {
                int number = arrays.size();
                arrays.add(new Array(a.name(), a.type(), a.shape(), position + a.offset()));
                if (a.bytes() < SMALLEST_ARRAY || a.offset() < at) {
                    continue; // it is read from where it is all the same
                }
                cut(other, position + a.offset(), Index.LARGEST_CHUNK, -1, likeOther);
                at = a.offset() + a.bytes();
                other = position + at;
                likeOther = likeFile < 0 ? -1 : likeFile + at;
                cut(position + a.offset(), other, ARRAY_CHUNK, number, like.getOrDefault(described(a), -1L));
            }
            position = Math.addExact(position, contents.inputs.stamp(file.getValue()).size());
        }
        cut(other, position, Index.LARGEST_CHUNK, -1, likeOther);
    }

    private static String described(Model.Array a) {
        return a.type() + " " + a.shape() + " " + a.name();
    }

    /** Where the base has elements of arrays. */
    private Map<String, Long> likeArrays() {
        Map<String, Long> all = new HashMap<>();
        if (base != null) {
            Map<Path, String> names = new HashMap<>();
            settings.base.files.forEach((name, path) -> names.put(path, name));
            for (Model.Array a : settings.base.arrays) {
                all.put(described(a), base.position(names.get(a.file())) + a.offset());
            }
        }
        return all;
    }

    /** Where the base has the file of this name, or the model if this is one by another name; -1 if it has neither. */
    private long likeFile(String name) {
        if (base == null) {
            return -1;
        }
        long same = base.position(name);
        return same < 0 && name.equals(contents.entry) ? base.position(settings.base.entry) : same;
    }

    /** In parts that are about as large as each other; {@code like} is where in the base the first byte is, or -1. */
    private void cut(long from, long to, int most, int array, long like) {
        if (from == to) {
            return;
        }
        long n = Math.ceilDiv(to - from, most);
        long step = Math.ceilDiv(Math.ceilDiv(to - from, n), Long.BYTES) * Long.BYTES;
        for (long at = from; at < to; at += step) {
            int length = Math.toIntExact(Math.min(step, to - at));
            // Of bytes that are no elements the place is a guess, which may lead behind the base's end.
            boolean there = like >= 0 && base.bytes() >= length;
            parts.add(new Part(at, length, array, at == from, there ? Math.min(like + at - from, base.bytes() - length) : -1));
        }
    }

    private Packed run(Path out, boolean replace) throws IOException {
        boolean[] based = new boolean[1];
        try (Arena arena = Arena.ofShared();
                Buffers buffers = new Buffers(settings.memory / 2, new Phases());
                ArchiveWriter writer = new ArchiveWriter(out, settings.key, settings.signer, buffers);
                Conveyor conveyor = new Conveyor(settings.threads, settings.memory, piece -> {
                    int array = parts.get(piece.frame().ordinal()).array;
                    if (array >= 0) {
                        growing[array].add(piece);
                    }
                    based[0] |= piece.frame().base() >= 0;
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
                    byte[] like = p.base < 0 ? null : base.read(p.base, p.length);
                    piece.encode(ordinal, p.position, p.length, way(p, piece, like), p.base, like, writer.cipher());
                    return null;
                });
            }
            conveyor.finish();
            contents.inputs.check();
            long bytes = writer.commit(contents.folder, contents.entry, reader.members(), based[0] ? base.files() : List.of(), arrays, out, replace);
            return new Packed(Index.total(reader.members()), bytes, report());
        }
    }

    /** In which way a part is coded: that in which the first chunk of its array is smallest, so that most are coded once. */
    private Way way(Part p, Piece piece, byte[] like) {
        if (p.array < 0) {
            return Way.ofOther(like != null);
        }
        Growing g = growing[p.array];
        if (!p.first) {
            return g.way.join();
        }
        try {
            Way best = null;
            long least = Long.MAX_VALUE;
            for (Map.Entry<Way, Integer> e : piece.sizes(Way.of(arrays.get(p.array).type(), like != null), p.length, like).entrySet()) {
                g.sizes.put(e.getKey().describe(), e.getValue());
                long size = e.getKey().counted(e.getValue());
                if (size < least) {
                    least = size;
                    best = e.getKey();
                }
            }
            g.way.complete(best);
            return best;
        } finally {
            g.way.completeExceptionally(new IllegalStateException("the first chunk could not be coded"));
        }
    }

    private void progress(Part p, MemberReader reader) {
        if (settings.progress != null) {
            settings.progress.accept(p.position + p.length, p.array >= 0 ? arrays.get(p.array).name() : reader.current());
        }
    }

    private List<Stored> report() {
        List<Stored> all = new ArrayList<>();
        for (int i = 0; i < growing.length; i++) {
            Growing g = growing[i];
            if (g.stored > 0) {
                Array a = arrays.get(i);
                all.add(new Stored(a.name(), a.type(), a.bytes(), g.stored, g.plain ? "plain" : g.way.join().describe(), g.sizes,
                        List.copyOf(g.planes.values())));
            }
        }
        return all;
    }
}
