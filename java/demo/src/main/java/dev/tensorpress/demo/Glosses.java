package dev.tensorpress.demo;

import dev.tensorpress.demo.Demo.Work;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.TreeSet;

/** What WordNet 3.1 says of its words, with examples of how they are used: English texts for training, 117,000 of them, under a licence that lets anyone use them. */
final class Glosses {
    /** One to three glosses make a text, so that texts are as long as sentences are: 12 words each. */
    private static final int MOST = 3;

    private Glosses() {}

    /** Texts, each of a few glosses, in an order that is always the same. */
    static List<String> texts(Work work) throws IOException {
        TreeSet<String> all = new TreeSet<>();
        for (String part : List.of("data.noun", "data.verb", "data.adj", "data.adv")) {
            all.addAll(read(work.sources().file(part)));
        }
        List<String> glosses = new ArrayList<>(all);
        Random random = new Random(1);
        Collections.shuffle(glosses, random);
        List<String> texts = new ArrayList<>();
        for (int at = 0; at < glosses.size(); ) {
            int end = Math.min(glosses.size(), at + 1 + random.nextInt(MOST));
            texts.add(String.join(". ", glosses.subList(at, end)));
            at = end;
        }
        return texts;
    }

    /**
     * The glosses of one file: what stands behind the bar of each line.
     *
     * @throws IOException if a line has none
     */
    static List<String> read(Path file) throws IOException {
        List<String> glosses = new ArrayList<>();
        for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
            if (line.startsWith("  ")) {
                continue; // of the licence
            }
            int bar = line.indexOf(" | ");
            if (bar < 0) {
                throw new IOException(file + " holds a line without a gloss, '" + line.substring(0, Math.min(40, line.length())) + "': it is not one of WordNet's data files");
            }
            glosses.add(line.substring(bar + 3).strip());
        }
        return glosses;
    }
}
