package dev.tensorpress.model.archive;

import dev.tensorpress.io.DurableFile;
import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFileAttributeView;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.EnumSet;
import java.util.Set;

/** Small texts that only their owner may read, or that are public and yet precious. */
final class SecretFile {
    private static final int LONGEST = 1 << 16;
    private static final String OWNER = "rw-------";

    private SecretFile() {}

    /**
     * The text of a file, or of a pipe from who keeps secrets.
     *
     * @throws UnsupportedRequestException if it is a file that others may read or change
     */
    static String read(Path file) throws IOException {
        if (Files.isRegularFile(file) && Files.getFileStore(file).supportsFileAttributeView(PosixFileAttributeView.class)) {
            Set<PosixFilePermission> permissions = EnumSet.copyOf(Files.getPosixFilePermissions(file));
            Set<PosixFilePermission> own = EnumSet.copyOf(permissions);
            own.removeAll(EnumSet.range(PosixFilePermission.GROUP_READ, PosixFilePermission.OTHERS_EXECUTE));
            if (!own.equals(permissions)) {
                throw new UnsupportedRequestException(file + " holds a secret, and others may read or change it ("
                        + PosixFilePermissions.toString(permissions) + "); chmod 600 keeps them out");
            }
        }
        return readPublic(file);
    }

    /** The text of a file that is no secret. */
    static String readPublic(Path file) throws IOException {
        try (InputStream in = Files.newInputStream(file)) {
            byte[] bytes = in.readNBytes(LONGEST + 1);
            if (bytes.length > LONGEST) {
                throw new MalformedModelException(file, LONGEST, "expected a key or a passphrase, which are shorter");
            }
            return new String(bytes, StandardCharsets.UTF_8);
        }
    }

    /** Writes a new file that only its owner may read, durably. */
    static void write(Path file, String text) throws IOException {
        write(file, text, OWNER);
    }

    /** Writes a new file that anyone may read, durably. */
    static void writePublic(Path file, String text) throws IOException {
        write(file, text, "rw-r--r--");
    }

    private static void write(Path file, String text, String permissions) throws IOException {
        Set<StandardOpenOption> options = EnumSet.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
        // From the start: a file that is closed to others only later can be open in their hands by then.
        try (FileChannel channel = FileChannel.open(file, options, PosixFilePermissions.asFileAttribute(
                PosixFilePermissions.fromString(permissions)))) {
            try {
                for (ByteBuffer bytes = StandardCharsets.UTF_8.encode(text); bytes.hasRemaining(); ) {
                    channel.write(bytes);
                }
                channel.force(true);
            } catch (IOException e) {
                Files.delete(file);
                throw DurableFile.explain(e, file);
            }
        }
        DurableFile.forceFolder(file.toAbsolutePath().getParent());
    }
}
