package dev.tensorpress.runtime;

import dev.tensorpress.io.InputFiles;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.tensor.DType;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.Channels;
import java.nio.channels.ReadableByteChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.CRC32;
import java.util.zip.CheckedInputStream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipException;
import java.util.zip.ZipFile;

/** Reads arrays that NumPy saved. Their data stay as long as they can be reached. */
final class Npy {
    private static final byte[] MAGIC = {(byte) 0x93, 'N', 'U', 'M', 'P', 'Y'};
    private static final int LONGEST_HEADER = 1 << 16;
    private static final int LARGEST = Integer.MAX_VALUE - 8;
    private static final String SUFFIX = ".npy";
    /** What deflate makes of zeros, and then some. */
    private static final long DENSEST = 1100;

    // The header is a dictionary of Python.
    private static final Pattern DESCR = Pattern.compile("'descr' ?: ?'([^']*)'");
    private static final Pattern FORTRAN = Pattern.compile("'fortran_order' ?: ?(True|False)");
    private static final Pattern SHAPE = Pattern.compile("'shape' ?: ?\\(((?:\\d{1,18}, ?){0,64})(\\d{1,18})?\\)");

    private final Path file;
    /** Of an archive, with a colon, else empty. */
    private final String entry;
    private final InputStream in;

    private Npy(Path file, String entry, InputStream in) {
        this.file = file;
        this.entry = entry;
        this.in = in;
    }

    /** The array of a file {@code .npy}. */
    static Tensor read(Path file) throws IOException {
        new InputFiles().add(file);
        try (InputStream in = new BufferedInputStream(Files.newInputStream(file))) {
            return new Npy(file, "", in).read(Files.size(file));
        }
    }

    /** The arrays of a file {@code .npz} by their names. */
    static Map<String, Tensor> archive(Path file) throws IOException {
        new InputFiles().add(file);
        Map<String, Tensor> arrays = new LinkedHashMap<>();
        try (ZipFile zip = new ZipFile(file.toFile())) {
            for (ZipEntry e : Collections.list(zip.entries())) {
                String entry = e.getName() + ": ";
                if (!e.getName().endsWith(SUFFIX)) {
                    throw new MalformedModelException(file, -1, entry + "expected arrays, whose names end with " + SUFFIX);
                }
                if (e.getSize() / DENSEST > e.getCompressedSize()) {
                    throw new MalformedModelException(file, -1, entry + "claims " + e.getSize() + " bytes, packed to "
                            + e.getCompressedSize());
                }
                try (CheckedInputStream in = new CheckedInputStream(zip.getInputStream(e), new CRC32())) {
                    Tensor array = new Npy(file, entry, in).read(e.getSize());
                    if (in.getChecksum().getValue() != e.getCrc()) {
                        throw new MalformedModelException(file, -1, entry + "its data do not have the checksum noted for them");
                    }
                    if (arrays.put(e.getName().substring(0, e.getName().length() - SUFFIX.length()), array) != null) {
                        throw new MalformedModelException(file, -1, entry + "is there twice");
                    }
                }
            }
        } catch (ZipException | EOFException e) {
            MalformedModelException malformed =
                    new MalformedModelException(file, -1, "expected an archive of arrays (.npz): " + e.getMessage());
            malformed.initCause(e);
            throw malformed;
        }
        return arrays;
    }

    /** @param size bytes of header and data */
    private Tensor read(long size) throws IOException {
        byte[] start = in.readNBytes(8);
        if (start.length < 8 || !Arrays.equals(start, 0, 6, MAGIC, 0, 6)) {
            throw bad(0, "expected an array of NumPy (.npy)");
        }
        if (start[6] < 1 || start[6] > 3) {
            throw bad(6, "expected version 1, 2 or 3 of the format, found " + start[6]);
        }
        byte[] counted = in.readNBytes(start[6] == 1 ? 2 : 4);
        long length = 0;
        for (int i = counted.length - 1; i >= 0; i--) {
            length = length << 8 | counted[i] & 0xff;
        }
        if (length > LONGEST_HEADER) {
            throw bad(8, "a header of " + length + " bytes; at most " + LONGEST_HEADER + " are accepted");
        }
        String header = new String(in.readNBytes((int) length), StandardCharsets.UTF_8).replaceAll("\\s+", " ");
        Matcher descr = DESCR.matcher(header);
        Matcher fortran = FORTRAN.matcher(header);
        Matcher shape = SHAPE.matcher(header);
        if (!descr.find() || !fortran.find() || !shape.find()) {
            throw bad(8, "expected a header with 'descr' in quotes, 'fortran_order' and 'shape'; found "
                    + header.substring(0, Math.min(header.length(), 120)));
        }
        DType type = dtype(descr.group(1));
        String dims = shape.group(1) + (shape.group(2) == null ? "" : shape.group(2));
        return data(type, shape(dims), fortran.group(1).equals("True"), 8 + counted.length + length, size);
    }

    private DType dtype(String descr) {
        return switch (descr) {
            case "<f8" -> DType.F64;
            case "<f4" -> DType.F32;
            case "<f2" -> DType.F16;
            case "<i8" -> DType.I64;
            case "<i4" -> DType.I32;
            case "<i2" -> DType.I16;
            case "|i1" -> DType.I8;
            case "|u1" -> DType.U8;
            case "|b1" -> DType.BOOL;
            default -> throw new UnsupportedRequestException(file + ": " + entry + "an array of type '" + descr
                    + "'; read are <f8, <f4, <f2, <i8, <i4, <i2, |i1, |u1 and |b1");
        };
    }

    private Shape shape(String dims) {
        try {
            return Shape.of(dims.isBlank() ? new long[0]
                    : Pattern.compile(", ?").splitAsStream(dims).mapToLong(Long::parseLong).toArray());
        } catch (ArithmeticException e) {
            throw bad(8, "the dimensions " + dims + " multiply to more than 2^63");
        }
    }

    private Tensor data(DType type, Shape shape, boolean fortran, long start, long size) throws IOException {
        int width = type.bits() / 8;
        if (shape.elements() > LARGEST / width) {
            throw new UnsupportedRequestException(file + ": " + entry + "an array of 2 GiB or more; at most that is read");
        }
        long bytes = shape.elements() * width;
        if (start + bytes != size) {
            throw bad(start, "shape and type ask for " + bytes + " bytes, " + (size - start) + " are there");
        }
        MemorySegment data = Arena.ofAuto().allocate(bytes, Long.BYTES);
        ReadableByteChannel channel = Channels.newChannel(in);
        for (var buffer = data.asByteBuffer(); buffer.hasRemaining(); ) {
            if (channel.read(buffer) < 0) {
                throw bad(size, "the array ends before its " + bytes + " bytes");
            }
        }
        return new Tensor(type, shape, fortran && shape.rank() > 1 ? byRows(data, shape.dims(), width) : data);
    }

    /** The array with its last axis closest in memory, which was the first. */
    private static MemorySegment byRows(MemorySegment data, long[] dims, int width) {
        MemorySegment rows = Arena.ofAuto().allocate(data.byteSize(), Long.BYTES);
        long[] index = new long[dims.length];
        for (long to = 0; to < data.byteSize(); to += width) {
            long from = 0;
            for (int d = dims.length - 1; d >= 0; d--) {
                from = from * dims[d] + index[d];
            }
            MemorySegment.copy(data, from * width, rows, to, width);
            for (int d = dims.length - 1; d >= 0 && ++index[d] == dims[d]; d--) {
                index[d] = 0;
            }
        }
        return rows;
    }

    private MalformedModelException bad(long offset, String expected) {
        return new MalformedModelException(file, entry.isEmpty() ? offset : -1, entry + expected);
    }
}
