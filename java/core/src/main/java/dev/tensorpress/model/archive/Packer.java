package dev.tensorpress.model.archive;

import dev.tensorpress.encoding.Form;
import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Coding;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.Phases;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.archive.Index.Array;
import dev.tensorpress.tensor.DType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.function.BiConsumer;

/** Packs files, of which it is known where elements of which type lie, into an archive. */
public final class Packer {
    /** Of an array in a chunk, about: what a reader of one array has to decode at most besides. */
    private static final int ARRAY_CHUNK = 1 << 20;
    /** Bytes of an array that tell whether it may be the same as another, and how many others of which these are the same are compared as a whole. */
    private static final int SAMPLE = 4096;
    private static final int COMPARED = 8;
    /** Smaller arrays would take more to describe than they gain. */
    private static final int SMALLEST_ARRAY = 2048;

    private final Contents contents;
    private final Settings settings;
    private final List<Part> parts = new ArrayList<>();
    private final List<Array> arrays = new ArrayList<>();
    private final List<Encoded> encodings = new ArrayList<>();
    /** What the chunks of each array belong to; none of arrays that are too small. */
    private final Map<Integer, List<Growing>> growing = new LinkedHashMap<>();
    /** Arrays of a type and so many bytes that are no repetition, and where their parts begin. */
    private final Map<String, List<Origin>> origins = new HashMap<>();
    /** Null without one. */
    private final Base base;
    /** Null without any. */
    private final KeptEncodings kept;
    /** Bytes of what the parts so far hold. */
    private long stored;

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
     * @param memory bytes of buffers and working memory at most, as far as single encodings allow
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
     * @param way in which it is coded, in words; {@code plain} where chunks get no smaller, {@code as NAME} where an earlier array has the same bytes
     * @param sizes bytes of its first chunk in each way, by which that was chosen; as an encoding, of its share of that
     * @param form of the encoding that is stored in the place of elements, if it is for some
     * @param planes what its elements were taken apart into, and how many bytes of these are coded in which way
     */
    public record Stored(String name, DType type, long bytes, long stored, String way, Map<String, Integer> sizes, Optional<Form> form,
            List<Plane> planes) {
        public Stored {
            sizes = Collections.unmodifiableMap(new LinkedHashMap<>(sizes));
            planes = List.copyOf(planes);
        }
    }

    /** A part of elements, such as their exponents, and those bytes of it that were coded in one way. */
    public record Plane(String part, String kind, long bytes, long stored) {
        private Plane plus(Plane other) {
            return new Plane(part, kind, bytes + other.bytes, stored + other.stored);
        }
    }

    /** What is known of an array, or of one of an encoding in the place of elements, while its chunks come. */
    private static final class Growing {
        /** Number of the array. */
        final int array;
        final DType type;
        /** Of the encoding; null of elements. */
        final Form form;
        /** The array that has the same bytes; null if there is none. */
        String repeats;
        /** Decided by the first chunk; later ones wait for it. */
        final CompletableFuture<Way> way = new CompletableFuture<>();
        final Map<String, Integer> sizes = new LinkedHashMap<>();
        final Map<String, Plane> planes = new TreeMap<>();
        /** Bytes of the first chunk in this way. */
        long first;
        boolean begun;
        boolean plain = true;
        long stored;

        Growing(int array, DType type, Form form) {
            this.array = array;
            this.type = type;
            this.form = form;
        }

        /**
         * Decides in which way its chunks are coded: that in which the first is smallest, so that most are coded once.
         *
         * @param piece with the plain bytes of that
         */
        void choose(Piece piece, int length, byte[] like) {
            Map.Entry<Way, Integer> best = null;
            for (Map.Entry<Way, Integer> e : piece.sizes(Way.of(type, like != null), length, like).entrySet()) {
                sizes.put(e.getKey().describe(), e.getValue());
                if (best == null || e.getKey().counted(e.getValue()) < best.getKey().counted(best.getValue())) {
                    best = e;
                }
            }
            first = Math.min(best.getValue(), length);
            way.complete(best.getKey());
        }

        void add(Piece piece) {
            stored += Frame.BYTES + piece.frame().stored();
            plain &= piece.frame().coding() == Frame.Stored.PLAIN;
            for (Coding.Plane p : piece.planes()) {
                Plane one = new Plane(p.part().name().toLowerCase(Locale.ROOT), p.kind().name().toLowerCase(Locale.ROOT), p.bytesIn(), p.bytesOut());
                planes.merge(one.part + " " + one.kind, one, Plane::plus);
            }
        }
    }

    /**
     * Bytes of a chunk.
     *
     * @param position of the first among all that are stored
     * @param growing the array that they are elements of; null if they are anything else
     * @param first whether it is the array's first
     * @param base position of bytes that they are perhaps like; -1 if there are none
     * @param kept where they are in the file of encodings; -1 if they are of members
     * @param skipped bytes of members before it that it, with those that follow, stands in for
     * @param origin position of a part with the same bytes; -1 if there is none
     */
    private record Part(long position, int length, Growing growing, boolean first, long base, long kept, long skipped, long origin) {}

    /**
     * An array that others may repeat.
     *
     * @param part number of the first
     * @param middle hash of some bytes of it
     */
    private record Origin(Model.Array array, int part, int middle) {}

    private Packer(Contents contents, KeptEncodings kept, Settings settings, Base base) throws IOException {
        this.contents = contents;
        this.kept = kept;
        this.settings = settings;
        this.base = base;
        try (Choice choice = kept == null ? null : new Choice(kept)) {
            plan(choice);
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
        return pack(contents, null, settings, out, replace);
    }

    /**
     * {@link #pack(Contents, Settings, Path, boolean)} of a model whose weights were decoded when it was written: what they were decoded from is
     * stored in their place where that decodes to the very elements that are in the files, and is smaller.
     *
     * @param kept of arrays of the same names; null for none
     */
    public static Packed pack(Contents contents, KeptEncodings kept, Settings settings, Path out, boolean replace) throws IOException {
        List<Path> inputs = new ArrayList<>(contents.files.values());
        if (settings.base != null) {
            inputs.addAll(settings.base.files.values());
        }
        if (InputFiles.replacedBy(out, inputs) != null) {
            throw new UnsupportedRequestException("the output " + out + " is a file that is to be packed, or of the base");
        }
        Index.checkNames(contents.files.keySet());
        if (settings.base == null) {
            return new Packer(contents, kept, settings, null).run(out, replace);
        }
        try (Base base = Base.open(settings.base.files)) {
            return new Packer(contents, kept, settings, base).run(out, replace);
        }
    }

    private void plan(Choice choice) throws IOException {
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
                cut(position + a.offset() - other, Index.LARGEST_CHUNK, null, likeOther);
                at = a.offset() + a.bytes();
                other = position + at;
                likeOther = likeFile < 0 ? -1 : likeFile + at;
                elements(a, number, position + a.offset(), like.getOrDefault(described(a), -1L), choice);
            }
            position = Math.addExact(position, contents.inputs.stamp(file.getValue()).size());
        }
        cut(position - other, Index.LARGEST_CHUNK, null, likeOther);
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

    /** The elements of an array at a position among the members' bytes, or what is kept of them. */
    private void elements(Model.Array a, int number, long position, long like, Choice choice) throws IOException {
        Growing own = new Growing(number, a.type(), null);
        growing.put(number, new ArrayList<>(List.of(own)));
        Origin origin = choice == null ? origin(a) : null;
        if (origin != null) {
            own.repeats = origin.array.name();
            for (long done = 0, i = origin.part; done < a.bytes(); i++) {
                Part p = parts.get((int) i);
                parts.add(new Part(stored, p.length, own, false, -1, -1, 0, p.position));
                done += p.length;
                stored += p.length;
            }
            return;
        }
        long done = 0;
        for (KeptEncodings.Kept k : choice == null ? List.<KeptEncodings.Kept>of() : choice.of(a)) {
            progress(0, a.name());
            Encoded e = choice.encoded(k, a, position, done);
            if (e == null) {
                continue;
            }
            List<Growing> parts = new ArrayList<>();
            for (Encoded.Part p : e.parts()) {
                parts.add(new Growing(number, p.type(), e.form()));
            }
            if (!choice.isSmaller(e, k, parts, a, own, like)) {
                continue;
            }
            cut(e.position() - position - done, ARRAY_CHUNK, own, like < 0 ? -1 : like + done);
            done = e.position() - position + e.bytes();
            encodings.add(e);
            growing.get(number).addAll(parts);
            long at = k.at();
            for (int i = 0; i < parts.size(); i++) {
                long bytes = e.parts().get(i).bytes();
                cut(bytes, ARRAY_CHUNK, parts.get(i), -1, at, i == 0 ? e.bytes() : 0);
                at += bytes;
            }
        }
        cut(a.bytes() - done, ARRAY_CHUNK, own, like < 0 ? -1 : like + done);
    }

    /** The first array with the same bytes; null if there is none, and this may become the first one of others. */
    private Origin origin(Model.Array a) throws IOException {
        List<Origin> alike = origins.computeIfAbsent(a.type() + " " + a.bytes(), k -> new ArrayList<>(1));
        try (FileChannel file = FileChannel.open(a.file(), StandardOpenOption.READ)) {
            int middle = Arrays.hashCode(Layout.read(file, a.offset() + a.bytes() / 2, (int) Math.min(SAMPLE, a.bytes() - a.bytes() / 2)));
            int compared = 0;
            for (Origin o : alike) {
                if (middle == o.middle && compared++ < COMPARED && same(o.array, a, file)) {
                    return o;
                }
            }
            alike.add(new Origin(a, parts.size(), middle));
            return null;
        }
    }

    private static boolean same(Model.Array one, Model.Array other, FileChannel otherFile) throws IOException {
        try (FileChannel file = FileChannel.open(one.file(), StandardOpenOption.READ); Arena arena = Arena.ofConfined()) {
            MemorySegment x = arena.allocate(Math.min(ARRAY_CHUNK, one.bytes()));
            MemorySegment y = arena.allocate(x.byteSize());
            for (long at = 0; at < one.bytes(); at += ARRAY_CHUNK) {
                long n = Math.min(ARRAY_CHUNK, one.bytes() - at);
                Layout.read(file, one.file(), one.offset() + at, x.asSlice(0, n));
                Layout.read(otherFile, other.file(), other.offset() + at, y.asSlice(0, n));
                if (x.asSlice(0, n).mismatch(y.asSlice(0, n)) >= 0) {
                    return false;
                }
            }
            return true;
        }
    }

    private void cut(long length, int most, Growing g, long like) {
        cut(length, most, g, like, -1, 0);
    }

    /** Bytes of the parts that so many are cut into, but for the last, which may have fewer: they are about as large as each other. */
    private static int step(long length, int most) {
        return Math.toIntExact(Math.min(length, Math.ceilDiv(Math.ceilDiv(length, Math.ceilDiv(length, most)), Long.BYTES) * Long.BYTES));
    }

    /**
     * Adds parts.
     *
     * @param like where in the base the first byte is, or -1
     * @param keptAt where it is in the file of encodings, or -1
     * @param skipped as in {@link Part}
     */
    private void cut(long length, int most, Growing g, long like, long keptAt, long skipped) {
        for (long at = 0; at < length;) {
            int n = (int) Math.min(step(length, most), length - at);
            // Of bytes that are no elements the place is a guess, which may lead behind the base's end.
            boolean there = like >= 0 && base.bytes() >= n;
            parts.add(new Part(stored, n, g, g != null && !g.begun, there ? Math.min(like + at, base.bytes() - n) : -1,
                    keptAt < 0 ? -1 : keptAt + at, at == 0 ? skipped : 0, -1));
            if (g != null) {
                g.begun = true;
            }
            at += n;
            stored += n;
        }
    }

    /** Looks at what is kept, and at the elements that it was decoded to. */
    private final class Choice implements AutoCloseable {
        /** Bytes that an encoding takes in the index, and each of its chunks there and in its frame, about. */
        private static final int DESCRIBED = 100;
        private static final int CHUNK = 80;

        private final Map<String, List<KeptEncodings.Kept>> byName = new HashMap<>();
        private final FileChannel encodings;
        private final Executor executor = Executor.cpu(settings.threads);
        private final Piece piece = new Piece();

        Choice(KeptEncodings kept) throws IOException {
            for (KeptEncodings.Kept k : kept.all()) {
                byName.computeIfAbsent(k.weight(), n -> new ArrayList<>()).add(k);
            }
            encodings = FileChannel.open(kept.file(), StandardOpenOption.READ);
        }

        List<KeptEncodings.Kept> of(Model.Array a) {
            return byName.getOrDefault(a.name(), List.of());
        }

        /**
         * An encoding that is of elements of an array, behind some bytes of it; null if it is not.
         *
         * @param position of the array
         */
        Encoded encoded(KeptEncodings.Kept k, Model.Array a, long position, long done) throws IOException {
            if (!Encoded.possible(a.type(), k.shape(), k.form())) {
                return null;
            }
            long n = k.shape().elements();
            long at = a.type().bytes(k.first() * (k.shape().rank() == 0 ? 1 : n / k.shape().dim(0)));
            Encoded e = new Encoded(position + at, a.type(), k.shape(), k.form());
            if (at < done || e.bytes() > a.bytes() - at) {
                return null;
            }
            try (Arena arena = executor.arena(); FileChannel file = FileChannel.open(a.file(), StandardOpenOption.READ)) {
                MemorySegment arrays = e.allocate(arena);
                Layout.read(encodings, kept.file(), k.at(), arrays);
                MemorySegment elements = arena.allocate(e.bytes());
                Layout.read(file, a.file(), a.offset() + at, elements);
                return elements.mismatch(e.decode(arrays, arena, executor)) < 0 ? e : null;
            }
        }

        /** Whether the arrays take less than the elements, by the first chunks of both; how these are coded is decided by that. */
        boolean isSmaller(Encoded e, KeptEncodings.Kept k, List<Growing> parts, Model.Array a, Growing own, long like) throws IOException {
            int first = step(a.bytes(), ARRAY_CHUNK);
            if (!own.way.isDone()) {
                try (FileChannel file = FileChannel.open(a.file(), StandardOpenOption.READ)) {
                    choose(own, file, a.file(), a.offset(), first, like < 0 ? null : base.read(like, first));
                }
            }
            double elements = (double) own.first * e.bytes() / first;
            double arrays = DESCRIBED;
            long at = k.at();
            for (int i = 0; i < parts.size(); i++) {
                long bytes = e.parts().get(i).bytes();
                int step = step(bytes, ARRAY_CHUNK);
                choose(parts.get(i), encodings, kept.file(), at, step, null);
                arrays += (double) parts.get(i).first * bytes / step + CHUNK * Math.ceilDiv(bytes, step);
                at += bytes;
            }
            own.sizes.putIfAbsent("encoding", (int) (arrays * first / e.bytes()));
            return arrays < elements;
        }

        private void choose(Growing g, FileChannel file, Path path, long at, int length, byte[] like) throws IOException {
            Layout.read(file, path, at, piece.plain.asSlice(0, length));
            g.choose(piece, length, like);
        }

        @Override
        public void close() throws IOException {
            piece.close();
            executor.close();
            encodings.close();
        }
    }

    private Packed run(Path out, boolean replace) throws IOException {
        boolean[] based = new boolean[1];
        try (Arena arena = Arena.ofShared();
                Buffers buffers = new Buffers(settings.memory / 2, new Phases());
                ArchiveWriter writer = new ArchiveWriter(out, settings.key, settings.signer, buffers);
                Conveyor conveyor = new Conveyor(settings.threads, settings.memory, piece -> {
                    Growing g = parts.get(piece.frame().ordinal()).growing;
                    if (g != null) {
                        g.add(piece);
                    }
                    based[0] |= piece.frame().based();
                    writer.add(piece);
                });
                MemberReader reader = new MemberReader(contents.files, contents.inputs, read(), arena, buffers)) {
            for (int i = 0; i < parts.size(); i++) {
                Part p = parts.get(i);
                int ordinal = i;
                Piece piece = conveyor.next();
                MemorySegment plain = piece.plain.asSlice(0, p.length);
                if (p.origin >= 0) {
                    reader.skip(p.length);
                } else if (p.kept < 0) {
                    reader.read(plain);
                } else {
                    reader.skip(p.skipped);
                    reader.readOther(plain);
                }
                progress(reader.passed(), p.growing != null ? arrays.get(p.growing.array).name() : reader.current());
                conveyor.start(piece, () -> {
                    if (p.origin >= 0) {
                        piece.repeat(ordinal, p.position, p.length, p.origin, writer.cipher());
                        return null;
                    }
                    byte[] like = p.base < 0 ? null : base.read(p.base, p.length);
                    piece.encode(ordinal, p.position, p.length, way(p, piece, like), p.base, like, writer.cipher());
                    return null;
                });
            }
            conveyor.finish();
            contents.inputs.check();
            long bytes = writer.commit(contents.folder, contents.entry, reader.members(), based[0] ? base.files() : List.of(), arrays, encodings,
                    out, replace);
            return new Packed(Index.total(reader.members()), bytes, report());
        }
    }

    private List<MemberReader.Part> read() {
        List<MemberReader.Part> all = new ArrayList<>();
        for (Part p : parts) {
            if (p.skipped > 0) {
                all.add(new MemberReader.Part(null, 0, p.skipped));
            }
            all.add(p.kept < 0 ? new MemberReader.Part(null, 0, p.length) : new MemberReader.Part(kept.file(), p.kept, p.length));
        }
        return all;
    }

    /** In which way a part is coded. */
    private static Way way(Part p, Piece piece, byte[] like) {
        Growing g = p.growing;
        if (g == null) {
            return Way.ofOther(like != null);
        }
        if (p.first && !g.way.isDone()) {
            try {
                g.choose(piece, p.length, like);
            } finally {
                g.way.completeExceptionally(new IllegalStateException("the first chunk could not be coded"));
            }
        }
        return g.way.join();
    }

    private void progress(long done, String what) {
        if (settings.progress != null) {
            settings.progress.accept(done, what);
        }
    }

    private List<Stored> report() {
        List<Stored> all = new ArrayList<>();
        growing.forEach((number, chunks) -> {
            Array a = arrays.get(number);
            Growing own = chunks.getFirst();
            long sum = 0;
            boolean plain = true;
            Form form = null;
            Map<String, Plane> planes = new TreeMap<>();
            for (Growing g : chunks) {
                sum += g.stored;
                plain &= g.plain;
                form = form == null ? g.form : form;
                g.planes.forEach((name, plane) -> planes.merge(name, plane, Plane::plus));
            }
            String way = own.repeats != null ? "as " + own.repeats : form != null ? "encoding: " + form.describe() : plain ? "plain" : own.way.join().describe();
            all.add(new Stored(a.name(), a.type(), a.bytes(), sum, way, own.sizes, Optional.ofNullable(form), List.copyOf(planes.values())));
        });
        return all;
    }
}
