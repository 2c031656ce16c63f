import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/**
 * Puts a Maven in its place: {@code java Fetch.java ARCHIVE URL SHA256 FOLDER}. Downloads the zip file unless it is
 * there, compares its digest, and unpacks what lies in its one top folder. The target appears whole or not at all.
 */
class Fetch {
    public static void main(String[] args) throws Exception {
        Path archive = Path.of(args[0]);
        URI uri = URI.create(args[1]);
        Path target = Path.of(args[3]);
        if (!Files.exists(archive)) {
            try {
                download(uri, archive);
            } catch (IOException e) {
                System.err.println("mvnw: cannot get " + uri + ": " + e);
                System.exit(1);
            }
        }
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        String found = HexFormat.of().formatHex(digest.digest(Files.readAllBytes(archive)));
        if (!found.equals(args[2])) {
            System.err.println("mvnw: " + uri + " has SHA-256 " + found + ", but " + args[2] + " was expected");
            System.exit(1);
        }
        Path fresh = Files.createTempDirectory(target.getParent(), ".unpacking-");
        try {
            unpack(archive, fresh);
            try (Stream<Path> scripts = Files.list(fresh.resolve("bin"))) {
                scripts.forEach(script -> script.toFile().setExecutable(true, false));
            }
            fresh.toFile().setReadable(true, false);
            fresh.toFile().setExecutable(true, false);
            Files.move(fresh, target);
        } catch (IOException e) {
            try (Stream<Path> files = Files.walk(fresh)) {
                for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                    Files.delete(file);
                }
            }
            // Another process may have been faster.
            if (!Files.exists(target.resolve("bin/mvn"))) {
                throw e;
            }
        }
    }

    private static void download(URI uri, Path file) throws IOException {
        Proxy proxy = Proxy.NO_PROXY;
        for (String name : List.of("https_proxy", "HTTPS_PROXY")) {
            String value = System.getenv(name);
            if (value != null && !value.isEmpty()) {
                URI address = URI.create(value.contains("://") ? value : "http://" + value);
                proxy = new Proxy(Proxy.Type.HTTP, new InetSocketAddress(address.getHost(), address.getPort()));
            }
        }
        try (InputStream in = uri.toURL().openConnection(proxy).getInputStream()) {
            Files.copy(in, file);
        }
    }

    private static void unpack(Path archive, Path folder) throws IOException {
        try (ZipInputStream in = new ZipInputStream(Files.newInputStream(archive))) {
            for (ZipEntry entry; (entry = in.getNextEntry()) != null; ) {
                String name = entry.getName().substring(entry.getName().indexOf('/') + 1);
                Path file = folder.resolve(name).normalize();
                if (!file.startsWith(folder)) {
                    throw new IOException("entry outside the archive: " + entry.getName());
                }
                if (entry.isDirectory()) {
                    Files.createDirectories(file);
                } else {
                    Files.createDirectories(file.getParent());
                    Files.copy(in, file);
                }
            }
        }
    }
}
