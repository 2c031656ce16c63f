package dev.tensorpress.cli;

import static dev.tensorpress.cli.JsonTree.list;
import static dev.tensorpress.cli.JsonTree.object;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.tensorpress.cli.MainTest.Result;
import dev.tensorpress.demo.Demo;
import dev.tensorpress.demo.Findings;
import dev.tensorpress.runtime.Comparison;
import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.net.URLEncoder;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Pages as a browser shows them, against the JSON of the same reports; without one, what is written alone. */
class HtmlReportTest {
    private static final String EVIL = "x</script><script>document.title='owned'</script><!--<script>\"'><img src=x onerror=\"document.title='owned'\">"
            + "{{data}} $1 \u00fc&amp;.up_proj.weight";

    @TempDir
    static Path home;
    @TempDir
    Path folder;

    private static Chromium browser;

    @BeforeAll
    static void open() throws Exception {
        if (Chromium.installed()) {
            browser = new Chromium(Files.createDirectory(home.resolve("profile")));
        }
    }

    @AfterAll
    static void close() throws Exception {
        if (browser != null) {
            browser.close();
        }
    }

    private static void show(Path page, String fragment) throws Exception {
        assumeTrue(browser != null, "needs chromium");
        browser.errors().clear();
        browser.open(page.toUri() + fragment);
        assertEquals(List.of(), browser.errors());
    }

    private static Object shown(String expression) throws Exception {
        return browser.value(expression);
    }

    /** Facts of the chosen weight, by their names. */
    private static Map<String, String> facts() throws Exception {
        Map<String, String> facts = new LinkedHashMap<>();
        facts.put("name", (String) shown("document.querySelector('#facts h2')?.textContent"));
        for (Object fact : list(shown("[...document.querySelectorAll('#facts dt')].map(e => [e.textContent, e.nextSibling.textContent])"))) {
            facts.put((String) list(fact).get(0), (String) list(fact).get(1));
        }
        return facts;
    }

    private static double number(String text) {
        return Double.parseDouble(text.replaceAll("[, %]|dB|bytes?$", ""));
    }

    private static Map<String, Object> embedded(Path page, String id) throws IOException {
        Matcher m = Pattern.compile("<script type=\"application/json\" id=\"" + id + "\">(.*?)</script>", Pattern.DOTALL)
                .matcher(Files.readString(page));
        assertTrue(m.find());
        return JsonTree.parse(m.group(1));
    }

    /** Without times, and without what only a page has. */
    private static Object comparable(Object tree) {
        if (tree instanceof Map<?, ?> map) {
            Map<Object, Object> copy = new HashMap<>();
            map.forEach((name, value) -> copy.put(name, comparable(value)));
            copy.keySet().removeAll(List.of("seconds", "bytesPerSecond", "phases", "distribution", "output", "files"));
            return copy;
        }
        return tree instanceof List<?> all ? all.stream().map(HtmlReportTest::comparable).toList() : tree;
    }

    /** A model of safetensors whose matrices are 64 x 64 of small numbers. */
    private static Path model(Path file, String... names) throws IOException {
        StringBuilder header = new StringBuilder("{");
        ByteBuffer data = ByteBuffer.allocate(names.length * 16384).order(ByteOrder.LITTLE_ENDIAN);
        Random random = new Random(1);
        for (String name : names) {
            header.append(header.length() > 1 ? "," : "").append('"').append(name.replace("\"", "\\\"")).append("\":{\"dtype\":\"F32\",\"shape\":[64,64],")
                    .append("\"data_offsets\":[").append(data.position()).append(',').append(data.position() + 16384).append("]}");
            for (int i = 0; i < 4096; i++) {
                data.putFloat((float) random.nextGaussian() / 8);
            }
        }
        byte[] json = header.append('}').toString().getBytes(StandardCharsets.UTF_8);
        return Files.write(file, ByteBuffer.allocate(8 + json.length + data.capacity()).order(ByteOrder.LITTLE_ENDIAN)
                .putLong(json.length).put(json).put(data.array()).array());
    }

    private static void ok(Object... command) {
        Result r = MainTest.run(command);
        assertEquals(0, r.code(), r.err());
    }

    private Path compressed(Path model, Object... more) {
        Path page = folder.resolve("report.html");
        List<Object> command = new ArrayList<>(List.of("compress", model, "-o", folder.resolve("out"), "--force", "--report", page));
        command.addAll(List.of(more));
        ok(command.toArray());
        return page;
    }

    @Test
    void holdsTheJsonOfTheReportAndMore() throws Exception {
        Path model = SmallModel.write(folder.resolve("it's small.onnx"));
        Path page = compressed(model, "--recipe", "int8", "--set", "min-size=1");
        Path json = folder.resolve("report.json");
        ok("compress", model, "-o", folder.resolve("out2"), "--recipe", "int8", "--set", "min-size=1", "--report", json);
        Map<String, Object> c = embedded(page, "compression");
        assertEquals(comparable(JsonTree.parse(Files.readString(json))), comparable(c));
        assertFalse(Files.readString(json).contains("distribution"), "only who looks at it pays for it");
        Map<String, Object> distribution = object(object(list(c.get("weights")).getFirst()).get("distribution"));
        double sum = number(distribution.get("below").toString()) + number(distribution.get("above").toString());
        for (Object count : list(distribution.get("counts"))) {
            sum += (double) count;
        }
        assertEquals(128 * 128, sum);
        assertEquals(128 * 128, list(distribution.get("codes")).stream().mapToDouble(n -> (double) n).sum());
        String text = Files.readString(page);
        assertTrue(text.contains("'" + model.toString().replace("'", "'\\''") + "' -o "), text);
        assertTrue(text.contains("select: {role: [linear"), text);
        assertFalse(text.replace("http://www.w3.org/2000/svg", "").matches("(?s).*(https?:|src=|url\\(|@import).*"), "asks nothing of the net");
    }

    /** The same name in every place where the page has it. */
    @Test
    void showsTheNumbersOfTheJson() throws Exception {
        Path page = compressed(model(folder.resolve("m.safetensors"), "a.up_proj.weight", "b.up_proj.weight", "c.norm.weight"),
                "--recipe", "w4a16");
        Map<String, Object> c = embedded(page, "compression");
        show(page, "");
        assertEquals("out", shown("document.title"));
        List<Object> weights = list(c.get("weights"));
        assertEquals(2, weights.size());
        for (Object each : weights) {
            Map<String, Object> w = object(each);
            String name = (String) w.get("name");
            show(page, "?" + name + "#weight=" + URLEncoder.encode(name, StandardCharsets.UTF_8));
            Map<String, String> facts = facts();
            assertEquals(name, facts.get("name"));
            assertEquals(w.get("form"), facts.get("form"));
            assertEquals("64 \u00d7 64", facts.get("shape"));
            assertEquals(w.get("bytesBefore"), number(facts.get("bytes before")));
            assertEquals(w.get("bytesAfter"), number(facts.get("bytes after")));
            for (Map.Entry<String, String> fact : Map.of("relativeError", "relative error", "maxError", "largest error", "sqnr",
                    "signal to noise").entrySet()) {
                double wanted = (double) w.get(fact.getKey());
                assertEquals(wanted, number(facts.get(fact.getValue())), 1e-3 * wanted, fact.getKey());
            }
            String[] range = facts.get("range").split(" to ");
            Map<String, Object> distribution = object(w.get("distribution"));
            assertEquals((double) distribution.get("least"), number(range[0]), 1e-3);
            assertEquals((double) distribution.get("largest"), number(range[1]), 1e-3);
            assertEquals(2.0, shown("document.querySelectorAll('#facts path').length"));
        }
        Map<Object, List<Object>> table = new HashMap<>();
        for (Object row : list(shown("[...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(e => e.textContent))"))) {
            table.put(list(row).getFirst(), list(row));
        }
        for (Object each : weights) {
            Map<String, Object> w = object(each);
            List<Object> row = table.remove(w.get("name"));
            assertEquals(w.get("bytesAfter"), number((String) row.get(5)));
            assertEquals((double) w.get("relativeError"), number((String) row.get(6)), 1e-2 * (double) w.get("relativeError"));
        }
        assertEquals(List.of("c.norm.weight"), List.copyOf(table.keySet()));
        List<Object> heads = list(shown("[...document.querySelectorAll('.figures dd')].map(e => e.title || e.textContent)"));
        assertEquals(100 * (double) c.get("ratio"), number((String) heads.get(0)), 0.1);
        assertEquals(c.get("bytesBefore"), number((String) heads.get(1)));
        assertEquals(c.get("bytesAfter"), number((String) heads.get(2)));
        assertEquals((double) c.get("relativeError"), number((String) heads.get(3)), 1e-12);
        // Areas of the treemaps are bytes, on one scale.
        List<Object> areas = list(shown("[...document.querySelectorAll('section:first-of-type svg a rect')].map(r => (+r.getAttribute('width') + 1)"
                + " * (+r.getAttribute('height') + 1))"));
        assertEquals(6, areas.size());
        double before = (double) areas.get(0);
        assertEquals(before, (double) areas.get(1), 0.01 * before);
        double after = areas.stream().mapToDouble(a -> (double) a).min().orElseThrow();
        assertEquals((double) object(weights.getFirst()).get("bytesAfter") / 16384, after / before, 0.01);
    }

    /** By mouse and by keyboard, in a chart and in the table. */
    @Test
    void aWeightThatIsClickedShowsItsFacts() throws Exception {
        String[] names = {"a.up_proj.weight", "b.up_proj.weight", "c.norm.weight"};
        Path page = compressed(model(folder.resolve("m.safetensors"), names), "--recipe", "w8a16");
        show(page, "");
        for (String name : names) {
            for (String place : List.of("svg a[aria-label^='" + name + "'] .mark", "td a[href*='" + name + "']")) {
                shown("location.hash = ''");
                String other = name.equals(names[0]) ? names[1] : names[0];
                browser.click("td a[href*='" + other + "']");
                assertEquals(other, facts().get("name"));
                browser.click(place);
                assertEquals(name, facts().get("name"), place);
                assertEquals("#weight=" + name, shown("location.hash"));
                assertTrue((double) shown("document.querySelectorAll('svg a.chosen').length") >= 2, "marked wherever it is");
            }
        }
        assertEquals("as it was", facts().get("form"));
        shown("document.querySelector('svg a[tabindex=\"0\"]').focus()");
        browser.press("ArrowRight", 39);
        String focused = (String) shown("document.activeElement.getAttribute('aria-label')");
        assertTrue(focused.startsWith(names[1]), focused);
        browser.press("Enter", 13);
        assertEquals(names[1], facts().get("name"));
        assertEquals(1.0, shown("document.querySelectorAll('svg')[0].querySelectorAll('a[tabindex=\"0\"]').length"), "one stop for the tab key");
        // A click on a heading sorts by it.
        browser.click("th:last-child button");
        assertEquals("descending", shown("document.querySelector('th:last-child').getAttribute('aria-sort')"));
        assertEquals(names[2], shown("[...document.querySelectorAll('td:first-child')].at(-1).textContent"));
    }

    @Test
    void demosShowTablesAndPlots() throws Exception {
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream out = new PrintStream(printed, true, StandardCharsets.UTF_8);
        Findings found = ClassicDemo.run("digits", folder, new DemoFiles(null, new Console(out, out)), new Demo.Effort(500, 1), 2, new Console(out, out));
        assertEquals(DemoCommand.CLASSICS, Demo.ALL.stream().map(Demo::name).toList());
        show(folder.resolve("digits.html"), "");
        Findings.Table table = found.tables().getFirst();
        assertEquals((double) table.rows().size(), shown("document.querySelectorAll('tbody tr').length"));
        assertEquals(table.rows().get(2).get(4), shown("document.querySelectorAll('tbody tr')[2].children[4].textContent"));
        assertEquals((double) found.plots().getFirst().series().stream().mapToInt(s -> s.points().size()).sum(), shown("document.querySelectorAll('svg circle').length"));
        assertTrue(printed.toString(StandardCharsets.UTF_8).contains(table.rows().get(2).get(4)), printed.toString(StandardCharsets.UTF_8));
    }

    @Test
    void namesAreNoMarkup() throws Exception {
        Path page = compressed(model(folder.resolve("m.safetensors"), EVIL, "b.up_proj.weight"), "--recipe", "w8a16");
        String text = Files.readString(page);
        assertFalse(text.contains("x</script>") || text.contains("<img"), text);
        assertEquals(EVIL, object(list(embedded(page, "compression").get("weights")).getFirst()).get("name"));
        show(page, "#weight=" + URLEncoder.encode(EVIL, StandardCharsets.UTF_8).replace("+", "%20"));
        assertEquals(EVIL, facts().get("name"));
        assertEquals("out", shown("document.title"));
        assertEquals(2.0, shown("document.scripts.length"));
        assertEquals(0.0, shown("document.images.length"));
        // What would get in all the same does not run.
        shown("document.body.append(Object.assign(document.createElement('script'), {textContent: \"document.title = 'owned'\"}))");
        assertEquals("out", shown("document.title"));
        show(page, "?no#weight=%E0%A4%A");
        assertNotEquals(null, facts().get("name"));
    }

    /** Drawn in both colour schemes: many colours, and another ground. */
    @Test
    void isNotBlank() throws Exception {
        Path page = compressed(SmallModel.write(folder.resolve("m.onnx")));
        show(page, "");
        Map<String, Integer> grounds = new HashMap<>();
        for (String scheme : List.of("light", "dark")) {
            browser.scheme(scheme);
            BufferedImage image = ImageIO.read(new ByteArrayInputStream(browser.screenshot()));
            long colours = Stream.iterate(0, i -> i + 1).limit((long) image.getWidth() * image.getHeight())
                    .map(i -> image.getRGB(i % image.getWidth(), i / image.getWidth())).distinct().count();
            assertTrue(colours > 50, scheme + " " + colours);
            grounds.put(scheme, image.getRGB(2, 2) & 255);
        }
        browser.scheme("light");
        assertTrue(grounds.get("light") > 240 && grounds.get("dark") < 60, grounds::toString);
    }

    /** A page stays small, whatever the model: the smallest weights are summed up. */
    @Test
    void manyWeightsAreCut() throws Exception {
        String[] names = new String[3000];
        for (int i = 0; i < names.length; i++) {
            names[i] = "layers." + i + ".mlp." + "x".repeat(500) + ".up_proj.weight";
        }
        Path page = compressed(model(folder.resolve("m.safetensors"), names), "--recipe", "w8a16");
        assertTrue(Files.size(page) < HtmlReport.MOST_BYTES, () -> page.toFile().length() + " bytes");
        Map<String, Object> c = embedded(page, "compression");
        int told = list(c.get("weights")).size();
        assertTrue(told >= 500, told + " weights");
        Map<String, Object> omitted = object(c.get("omitted"));
        assertEquals(3000.0, told + (double) omitted.get("weights"));
        assertEquals(3000 * 16384.0, told * 16384 + (double) omitted.get("bytesBefore"));
        long distributions = list(c.get("weights")).stream().filter(w -> object(w).containsKey("distribution")).count();
        assertEquals(256, distributions);
        show(page, "");
        assertTrue((boolean) shown("document.body.textContent.includes('" + (3000 - told) / 1000 + ",')"));
    }

    @Test
    void evaluationsHaveTheirOwn() throws Exception {
        Path model = SmallModel.write(folder.resolve("m.onnx"));
        ok("compress", model, "-o", folder.resolve("c.onnx"));
        Path page = folder.resolve("e.html");
        ok("evaluate", model, folder.resolve("c.onnx"), "--random", 3, "--report", page);
        Map<String, Object> e = embedded(page, "evaluation");
        show(page, "");
        assertTrue(((String) shown("document.body.textContent")).contains("Random inputs do not measure quality."));
        List<Object> heads = list(shown("[...document.querySelectorAll('.figures dd')].map(e => e.title || e.textContent)"));
        assertEquals(object(e.get("candidate")).get("bytes"), number((String) heads.get(2)));
        Map<String, Object> y = object(list(e.get("outputs")).getFirst());
        assertEquals((double) y.get("cosineMean"), number((String) heads.get(3)), 1e-5);
        List<Object> row = list(shown("[...document.querySelectorAll('tbody td')].map(e => e.textContent)"));
        assertEquals("y", row.getFirst());
        assertEquals((double) y.get("cosineMin"), number((String) row.get(3)), 1e-5);
        List<Object> millis = list(shown("[...document.querySelectorAll('svg')[0].querySelectorAll('text')].map(e => e.textContent)"));
        assertTrue(((String) millis.get(3)).startsWith("%.2f ms".formatted((double) object(e.get("candidate")).get("medianMillis"))), millis::toString);
        assertEquals(true, shown("document.getElementById('facts').hidden"));
    }

    @Test
    void tasks() throws Exception {
        Path page = folder.resolve("t.html");
        new HtmlReport("Compared", "model").data("evaluation", most -> new Comparison(new Comparison.Side(Path.of("a"), 100, 2, 3),
                new Comparison.Side(Path.of("b"), 40, 1, 2), "1.28.0", 2, 4, "texts", List.of(),
                List.of(new Comparison.Output("y", 0.9, 0.8, 0.7, 0.1, 0.2, Double.NaN)), 0.5,
                List.of(new Comparison.Task("spearman", 3, 0.75, 0.5), new Comparison.Task("recall@10", 2, Double.NaN, 1))).toJson())
                .write(page);
        show(page, "");
        List<Object> cells = list(shown("[...[...document.querySelectorAll('table')].at(-1).querySelectorAll('td')].map(e => e.textContent)"));
        assertEquals(List.of("spearman", "3", "0.7500", "0.5000", "recall@10", "2", "none", "1.0000"), cells);
        List<Object> dots = list(shown("[...document.querySelectorAll('section:last-of-type svg circle')].map(e => +e.getAttribute('cx'))"));
        assertEquals(2, dots.size());
        assertEquals(0.25 * 400, (double) dots.get(0) - (double) dots.get(1), 1e-6);
    }

    /** What a search has to give. */
    @Test
    void frontier() throws Exception {
        Path page = folder.resolve("s.html");
        new HtmlReport("Searched", "model").data("search", most -> """
                {"quality": "cosine", "frontier": [
                  {"name": "int8", "bytes": 26000000, "quality": 0.9996, "chosen": false},
                  {"name": "mixed", "bytes": 18000000, "quality": 0.9950, "chosen": true},
                  {"name": "worse", "bytes": 19000000, "quality": 0.9900, "chosen": false}]}""").text("Command", "a < b").write(page);
        show(page, "");
        assertEquals(3.0, shown("document.querySelectorAll('svg circle').length"));
        assertEquals("mixed: 18,000,000 bytes, cosine 0.995", shown("document.querySelector('svg circle[r=\"7\"]').parentNode.textContent"));
        assertEquals("worse", shown("[...document.querySelectorAll('tbody tr')].at(-1).cells[0].textContent"));
        assertEquals(2.0, shown("document.querySelector('svg path').getAttribute('d').match(/[MV]/g).length"), "the line leaves out what is worse");
        assertEquals("a < b", shown("document.querySelector('pre').textContent"));
        new HtmlReport("Searched", "model").data("search", most -> """
                {"quality": "cosine", "frontier": [
                  {"name": "fast", "bytes": 26000000, "quality": 0.99, "milliseconds": 2.5, "chosen": true},
                  {"name": "slow", "bytes": 18000000, "quality": 1, "milliseconds": 5, "chosen": false}]}""").write(page);
        show(page, "");
        assertEquals("fast: 2.5 ms, 26,000,000 bytes, cosine 0.99", shown("document.querySelector('svg circle[r=\"7\"]').parentNode.textContent"));
        assertEquals(2.0, shown("document.querySelector('svg path').getAttribute('d').match(/[MV]/g).length"));
    }
}
