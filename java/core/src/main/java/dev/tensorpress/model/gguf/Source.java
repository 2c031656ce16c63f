package dev.tensorpress.model.gguf;

import dev.tensorpress.model.MalformedModelException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** A file's bytes in their order, little-endian, of none more than there are. */
final class Source implements AutoCloseable {
    private static final int PIECE = 1 << 16;

    private final Path path;
    private final FileChannel channel;
    private final long size;
    private final ByteBuffer buffer = ByteBuffer.allocate(PIECE).order(ByteOrder.LITTLE_ENDIAN);
    /** Where the buffer starts in the file. */
    private long start;

    Source(Path path) throws IOException {
        this.path = path;
        channel = FileChannel.open(path, StandardOpenOption.READ);
        size = channel.size();
        buffer.limit(0);
    }

    Path path() {
        return path;
    }

    /** Where the next byte is. */
    long at() {
        return start + buffer.position();
    }

    long left() {
        return size - at();
    }

    MalformedModelException bad(long at, String expected) {
        return new MalformedModelException(path, at, expected);
    }

    /** Makes n bytes of the next ones readable in the buffer. */
    private void need(int n, String what) throws IOException {
        if (buffer.remaining() >= n) {
            return;
        }
        if (left() < n) {
            throw bad(at(), "expected " + what + ", " + n + " bytes, where " + left() + " are left");
        }
        long from = at();
        buffer.compact();
        start = from;
        while (buffer.position() < n) {
            if (channel.read(buffer, start + buffer.position()) < 0) {
                throw new IOException("cannot read " + path + ": it became shorter while it was read");
            }
        }
        buffer.flip();
    }

    int i32(String what) throws IOException {
        need(4, what);
        return buffer.getInt();
    }

    long i64(String what) throws IOException {
        need(8, what);
        return buffer.getLong();
    }

    /** UTF-8 of so many bytes. */
    String text(long length, String what) throws IOException {
        long at = at();
        if (length < 0 || length > Math.min(left(), PIECE)) {
            throw bad(at, "expected " + what + " of at most " + Math.min(left(), PIECE) + " bytes, found " + Long.toUnsignedString(length));
        }
        need((int) length, what);
        ByteBuffer bytes = buffer.slice(buffer.position(), (int) length);
        buffer.position(buffer.position() + (int) length);
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(bytes).toString();
        } catch (CharacterCodingException e) {
            throw bad(at, "expected " + what + " in UTF-8");
        }
    }

    /** Numbers that are finite and not negative, unless they may be. */
    float[] floats(int n, boolean negative, String what) throws IOException {
        if (4L * n > left()) {
            throw bad(at(), "expected " + what + ", " + n + " numbers, where " + left() + " bytes are left");
        }
        float[] x = new float[n];
        for (int i = 0; i < n; i++) {
            need(4, what);
            x[i] = buffer.getFloat();
            if (!Float.isFinite(x[i]) || x[i] < 0 && !negative) {
                throw bad(at() - 4, "expected " + what + " to be finite" + (negative ? "" : " and not negative") + ", found " + x[i]);
            }
        }
        return x;
    }

    void skip(long n, String what) throws IOException {
        if (n < 0 || n > left()) {
            throw bad(at(), "expected " + what + ", " + Long.toUnsignedString(n) + " bytes, where " + left() + " are left");
        }
        long to = at() + n;
        if (n <= buffer.remaining()) {
            buffer.position(buffer.position() + (int) n);
        } else {
            start = to;
            buffer.limit(0);
        }
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }
}
