package dev.tensorpress.runtime;

import java.nio.file.Path;

/** DJL's libraries unpack their native parts into a cache. They must neither look for them on the net nor report use. */
public final class Djl {
    private Djl() {}

    /** Says that, before the first call of theirs, unless somebody has said something else. */
    public static void settle() {
        setDefault("ai.djl.offline", "true");
        setDefault("OPT_OUT_TRACKING", "true");
        setDefault("DJL_CACHE_DIR", cache().toString());
    }

    private static void setDefault(String key, String value) {
        if (System.getProperty(key) == null && System.getenv(key) == null) {
            System.setProperty(key, value);
        }
    }

    private static Path cache() {
        String xdg = System.getenv("XDG_CACHE_HOME");
        return (xdg == null || xdg.isEmpty() ? Path.of(System.getProperty("user.home"), ".cache") : Path.of(xdg))
                .resolve("tensorpress");
    }
}
