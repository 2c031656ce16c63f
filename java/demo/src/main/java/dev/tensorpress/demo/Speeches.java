package dev.tensorpress.demo;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.zip.GZIPInputStream;

/** English sentences for training. Where they are from is in {@code speeches.LICENSE}. */
final class Speeches {
    private Speeches() {}

    /** 20,000 sentences, in an order that is always the same. */
    static List<String> sentences() {
        try (BufferedReader reader = new BufferedReader(new InputStreamReader(
                new GZIPInputStream(Speeches.class.getResourceAsStream("speeches.gz")), StandardCharsets.UTF_8))) {
            return reader.lines().toList();
        } catch (IOException e) {
            throw new IllegalStateException(e); // it is part of this program
        }
    }
}
