package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.CodingFormatException;
import dev.tensorpress.kernel.Sha256;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.SafetensorsWriter;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Data;
import dev.tensorpress.model.safetensors.SafetensorsWriter.Item;
import dev.tensorpress.runtime.LatentCoder.Table;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.zip.CRC32C;

/**
 * Makes small files of samples that are much alike, such as images or embeddings, and samples of these files, but for an error: an encoder makes whole numbers
 * of a sample, which are coded by a {@link LatentCoder} under a prior of each, and a decoder makes the sample of them. Encoder, decoder and prior are the codec, a
 * folder of {@value #ENCODER}, {@value #DECODER} and {@value #PRIOR}, which whoever decodes has to have.
 *
 * <p>What is decoded is the same on every machine as far as the numbers go, since frequencies are integers; samples are so up to the rounding of floats.
 */
public final class LatentCodec implements AutoCloseable {
    /** From [samples, features], f32 in the units of the data, to [samples, latents], whole numbers in f32. */
    public static final String ENCODER = "encoder.onnx";
    /** And back. */
    public static final String DECODER = "decoder.onnx";
    public static final String PRIOR = "prior.safetensors";

    private static final String FORMAT = "tensorpress-prior-1";
    /** Magnitude of a number, at most: f32 holds all whole numbers up to it. */
    public static final int LARGEST = 1 << 24;
    private static final byte[] MAGIC = {(byte) 0x89, 'T', 'P', 'L', '\r', '\n', 0x1a, '\n'};
    private static final int DIGEST = 16;
    private static final int HEADER = MAGIC.length + 4 + DIGEST + 4;
    private static final int CHECKSUM = 4;
    private static final int TOGETHER = 256;
    private static final int PIECE = 1 << 20;
    /** Of a sample. */
    private static final int MOST_ELEMENTS = 1 << 28;

    private final Path folder;
    private final DType type;
    private final Shape sample;
    private final LatentCoder coder;
    private final byte[] digest;
    private final Session encoder;
    private final Session decoder;

    private LatentCodec(Path folder, int threads) throws IOException {
        this.folder = folder;
        for (String name : List.of(ENCODER, DECODER, PRIOR)) {
            if (!Files.isRegularFile(folder.resolve(name))) {
                throw new NoSuchFileException(folder.toString(), null, folder + " is no codec: it has no file " + name);
            }
        }
        Path file = folder.resolve(PRIOR);
        List<Table> tables = new ArrayList<>();
        try (Safetensors prior = Safetensors.open(file)) {
            if (!FORMAT.equals(prior.metadata().get("format"))) {
                throw prior.bad(-1, "expected a prior, of format " + FORMAT);
            }
            type = switch (String.valueOf(prior.metadata().get("type"))) {
                case "F32" -> DType.F32;
                case "U8" -> DType.U8;
                default -> throw prior.bad(-1, "expected type F32 or U8, found " + prior.metadata().get("type"));
            };
            String dims = String.valueOf(prior.metadata().get("sample"));
            if (!dims.matches("[1-9]\\d{0,8}(x[1-9]\\d{0,8}){0,7}")) {
                throw prior.bad(-1, "expected the shape of a sample, such as 28x28, found " + dims);
            }
            try {
                sample = Shape.of(Arrays.stream(dims.split("x")).mapToLong(Long::parseLong).toArray());
            } catch (ArithmeticException e) {
                throw prior.bad(-1, "expected the shape of a sample, found " + dims);
            }
            if (sample.elements() > MOST_ELEMENTS) {
                throw prior.bad(-1, "a sample of " + dims + "; at most " + MOST_ELEMENTS + " elements are accepted");
            }
            int[] lowest = integers(prior, "lowest");
            int[] values = integers(prior, "values");
            int[] frequencies = integers(prior, "frequencies");
            int at = 0;
            for (int i = 0; i < values.length && lowest.length == values.length; i++) {
                if (values[i] < 1 || values[i] > LatentCoder.MOST_VALUES || at + values[i] + 1 > frequencies.length) {
                    break;
                }
                try {
                    tables.add(new Table(lowest[i], Arrays.copyOfRange(frequencies, at, at + values[i] + 1)));
                } catch (IllegalArgumentException e) {
                    throw prior.bad(-1, "the frequencies of latent " + i + " do not sum to 2^" + LatentCoder.LOG_TOTAL);
                }
                at += values[i] + 1;
            }
            if (tables.isEmpty() || tables.size() != values.length || at != frequencies.length) {
                throw prior.bad(-1, "expected as many frequencies as 'values' says");
            }
        }
        coder = new LatentCoder(tables);
        try (Arena arena = Arena.ofConfined()) {
            Sha256 sha = new Sha256(arena);
            MemorySegment piece = arena.allocate(PIECE);
            for (String name : List.of(DECODER, PRIOR)) {
                try (InputStream in = Files.newInputStream(folder.resolve(name))) {
                    for (byte[] some; (some = in.readNBytes(PIECE)).length > 0; ) {
                        sha.update(piece.asSlice(0, some.length).copyFrom(MemorySegment.ofArray(some)));
                    }
                }
            }
            digest = Arrays.copyOf(sha.digest(), DIGEST);
        }
        encoder = open(ENCODER, "data", sample.elements(), threads);
        try {
            decoder = open(DECODER, "latents", tables.size(), threads);
        } catch (IOException | RuntimeException | Error e) {
            encoder.close();
            throw e;
        }
    }

    private static int[] integers(Safetensors file, String name) throws IOException {
        Safetensors.Entry e = file.tensors().get(name);
        if (e == null || e.dtype() != DType.I32 || e.shape().rank() != 1 || e.length() > 1 << 28) {
            throw file.bad(-1, "expected '" + name + "', i32 of one axis");
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment data = arena.allocate(Math.max(4, e.length()), 4).asSlice(0, e.length());
            file.read(e, data);
            return data.toArray(ValueLayout.JAVA_INT);
        }
    }

    private Session open(String name, String input, long width, int threads) throws IOException {
        Session session = Session.open(folder.resolve(name), threads);
        try {
            if (!session.inputs().keySet().equals(Set.of(input))) {
                throw new MalformedModelException(session.model(), -1, "expected the input '" + input + "', found " + session.declared());
            }
            try {
                session.check(input, Shape.of(1, width));
            } catch (InputException e) {
                throw new MalformedModelException(session.model(), -1, e.getMessage());
            }
            return session;
        } catch (RuntimeException | Error e) {
            session.close();
            throw e;
        }
    }

    /**
     * Opens a codec.
     *
     * @param folder see above
     * @param threads 0 for all processors
     * @throws MalformedModelException if a file of it is damaged
     * @throws IOException if one is missing, or cannot be read
     */
    public static LatentCodec open(Path folder, int threads) throws IOException {
        return new LatentCodec(folder, threads);
    }

    /**
     * Writes the prior of a codec.
     *
     * @param type of the data, F32 or U8
     * @param sample shape of a sample
     */
    public static void writePrior(Path file, DType type, Shape sample, List<Table> tables) throws IOException {
        int[] lowest = tables.stream().mapToInt(Table::lowest).toArray();
        int[] values = tables.stream().mapToInt(t -> t.frequencies().length - 1).toArray();
        int[] frequencies = tables.stream().flatMapToInt(t -> Arrays.stream(t.frequencies())).toArray();
        List<Item> items = List.of(item("lowest", lowest), item("values", values), item("frequencies", frequencies));
        String dims = Arrays.stream(sample.dims()).mapToObj(Long::toString).collect(Collectors.joining("x"));
        try (DurableFile out = new DurableFile(file.toAbsolutePath().getParent(), file.getFileName().toString())) {
            new SafetensorsWriter(items, Map.of("format", FORMAT, "type", type.name(), "sample", dims)).write(out.channel());
            out.commit(file, true);
        }
    }

    private static Item item(String name, int[] values) {
        return new Item(name, DType.I32, Shape.of(values.length), Data.of(Arena.ofAuto().allocate(4L * values.length, 64).copyFrom(MemorySegment.ofArray(values))));
    }

    /** Shape of a sample. */
    public Shape sample() {
        return sample;
    }

    /** Of samples: F32, or U8. */
    public DType type() {
        return type;
    }

    /** Whole numbers that a sample becomes. */
    public int latents() {
        return coder.columns();
    }

    /** The coder, with the prior's tables. */
    public LatentCoder coder() {
        return coder;
    }

    /**
     * Whole numbers of samples.
     *
     * @param data [samples, ...], of type and shape of the codec's samples
     * @return [samples, latents]
     * @throws InputException if they do not fit, hold NaN or infinity, or are so far from what was learned that a number is above {@link #LARGEST}
     */
    public int[] latents(Tensor data) {
        long[] dims = data.shape().dims();
        if (data.dtype() != type || dims.length < 1 || !Shape.of(Arrays.copyOfRange(dims, 1, dims.length)).equals(sample)) {
            throw new InputException("the data are " + data.dtype() + " " + data.shape() + ", but the codec is for samples of " + type + " " + sample);
        }
        float[] values = floats(data);
        int rows = (int) dims[0];
        float[] found = run(encoder, "data", values, rows, values.length / Math.max(1, rows), latents());
        int[] codes = new int[found.length];
        for (int i = 0; i < codes.length; i++) {
            if (Float.isNaN(found[i])) {
                throw new UnsupportedRequestException("the encoder makes NaN of sample " + i / latents());
            }
            if (Math.abs(found[i]) > LARGEST) {
                throw new InputException("sample " + i / latents() + " is too far from what the codec has learned: it becomes " + found[i]
                        + ", but at most " + LARGEST + " is coded (the first one is 0)");
            }
            codes[i] = Math.round(found[i]);
        }
        return codes;
    }

    /**
     * Elements in f32.
     *
     * @param data F32 or U8
     * @throws InputException if they are of another type, or one is NaN or infinite; it is named
     */
    public static float[] floats(Tensor data) {
        float[] values;
        if (data.dtype() == DType.U8) {
            byte[] bytes = data.data().toArray(ValueLayout.JAVA_BYTE);
            values = new float[bytes.length];
            for (int i = 0; i < bytes.length; i++) {
                values[i] = bytes[i] & 0xff;
            }
        } else if (data.dtype() == DType.F32) {
            values = data.data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
        } else {
            throw new InputException("data are F32 or U8, not " + data.dtype());
        }
        for (int i = 0; i < values.length; i++) {
            if (!Float.isFinite(values[i])) {
                long each = values.length / data.shape().dim(0);
                throw new InputException("element " + i % each + " of sample " + i / each + " is " + values[i] + " (the first one of each is 0)");
            }
        }
        return values;
    }

    /** Samples of whole numbers: the inverse of {@link #latents(Tensor)}, as near as the codec comes. */
    public Tensor samples(int[] latents) {
        int rows = latents.length / latents();
        long[] dims = new long[sample.rank() + 1];
        System.arraycopy(sample.dims(), 0, dims, 1, sample.rank());
        dims[0] = rows;
        MemorySegment out = ArrayFile.allocate(DType.F32, Shape.of(dims));
        float[] in = new float[latents.length];
        for (int i = 0; i < in.length; i++) {
            in[i] = latents[i];
        }
        float[] found = run(decoder, "latents", in, rows, latents(), Math.toIntExact(sample.elements()));
        if (type == DType.F32) {
            return new Tensor(DType.F32, Shape.of(dims), out.copyFrom(MemorySegment.ofArray(found)));
        }
        byte[] bytes = new byte[found.length];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) Math.clamp(Math.round(found[i]), 0, 255);
        }
        return new Tensor(DType.U8, Shape.of(dims), out.asSlice(0, bytes.length).copyFrom(MemorySegment.ofArray(bytes)));
    }

    /** @param wide of an input, [rows, wide] */
    private static float[] run(Session session, String input, float[] in, int rows, int wide, int result) {
        float[] out = new float[Math.multiplyExact(rows, result)];
        for (int row = 0; row < rows; row += TOGETHER) {
            int some = Math.min(TOGETHER, rows - row);
            int to = row * result;
            try {
                OnnxTensor feed = OnnxTensor.createTensor(Session.environment(), FloatBuffer.wrap(in, row * wide, some * wide), new long[] {some, wide});
                session.run(Map.of(input, feed), results -> {
                    OnnxTensor made = results.size() == 1 ? results.values().iterator().next() : null;
                    if (made == null || !Arrays.equals(made.getInfo().getShape(), new long[] {some, result})) {
                        throw new MalformedModelException(session.model(), -1, "expected one result, of " + some + "x" + result);
                    }
                    System.arraycopy(Embeddings.floats(made), 0, out, to, some * result);
                });
            } catch (OrtException e) {
                throw new IllegalStateException(e);
            }
        }
        return out;
    }

    /**
     * What became of data.
     *
     * @param bytes of the file
     * @param squaredError mean over all elements, of what is decoded
     */
    public record Coded(long samples, long bytes, double squaredError) {}

    /**
     * Codes samples into a file.
     *
     * @param replace whether a file that is there is replaced
     * @throws InputException if the data do not fit
     */
    public Coded encode(Tensor data, Path file, boolean replace) throws IOException {
        int[] codes = latents(data);
        byte[] coded = coder.encode(codes);
        ByteBuffer out = ByteBuffer.allocate(HEADER + coded.length + CHECKSUM).order(ByteOrder.LITTLE_ENDIAN)
                .put(MAGIC).putInt(1).put(digest).putInt((int) data.shape().dim(0)).put(coded);
        CRC32C sum = new CRC32C();
        sum.update(out.duplicate().flip());
        out.putInt((int) sum.getValue()).flip();
        long bytes = out.remaining();
        float[] before = floats(data);
        float[] after = floats(samples(codes));
        double squares = 0;
        for (int i = 0; i < before.length; i++) {
            squares += ((double) before[i] - after[i]) * ((double) before[i] - after[i]);
        }
        try (DurableFile to = new DurableFile(file.toAbsolutePath().getParent(), file.getFileName().toString())) {
            to.write(out);
            to.commit(file, replace);
        }
        return new Coded(data.shape().dim(0), bytes, squares / Math.max(1, before.length));
    }

    /**
     * The samples of a file.
     *
     * @throws UnsupportedRequestException if another codec made it
     * @throws MalformedModelException if it is damaged, or no such file
     */
    public Tensor decode(Path file) throws IOException {
        InputFiles.named(file);
        // What a codec has not made may be larger than memory.
        try (InputStream start = Files.newInputStream(file)) {
            if (!Arrays.equals(start.readNBytes(MAGIC.length), MAGIC)) {
                throw new MalformedModelException(file, 0, "expected a file that a codec has made");
            }
        }
        ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
        if (in.limit() < HEADER + CHECKSUM) {
            throw new MalformedModelException(file, in.limit(), "ends too early");
        }
        int version = in.position(MAGIC.length).getInt();
        if (version != 1) {
            throw new MalformedModelException(file, MAGIC.length, "expected version 1, found " + Integer.toUnsignedString(version));
        }
        int end = in.limit() - CHECKSUM;
        CRC32C sum = new CRC32C();
        sum.update(in.duplicate().position(0).limit(end));
        if (in.getInt(end) != (int) sum.getValue()) {
            throw new MalformedModelException(file, end, "its bytes do not have the checksum noted for them: it is damaged, or cut off");
        }
        byte[] made = new byte[DIGEST];
        in.get(made);
        if (!Arrays.equals(made, digest)) {
            throw new UnsupportedRequestException(file + " was made by another codec");
        }
        int rows = in.getInt();
        if (rows < 0 || rows > Integer.MAX_VALUE / 4 / Math.max(sample.elements(), latents())) {
            throw new UnsupportedRequestException(file + " has " + Integer.toUnsignedString(rows) + " samples, which would take 2 GiB or more");
        }
        try {
            return samples(coder.decode(in.limit(end).slice(), rows));
        } catch (CodingFormatException e) {
            throw new MalformedModelException(file, -1, e.getMessage());
        }
    }

    @Override
    public void close() {
        encoder.close();
        decoder.close();
    }
}
