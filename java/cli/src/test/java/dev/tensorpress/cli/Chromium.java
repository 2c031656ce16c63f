package dev.tensorpress.cli;

import static dev.tensorpress.cli.JsonTree.object;

import com.fasterxml.jackson.core.io.JsonStringEncoder;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** One page in a headless browser, driven by its DevTools protocol. */
final class Chromium implements AutoCloseable {
    private static final Pattern PAGE = Pattern.compile("\"webSocketDebuggerUrl\":\\s*\"(ws://[^\"]+/devtools/page/[^\"]+)\"");
    private static final long SECONDS = 60;

    private final Path profile;
    private final Process process;
    private final HttpClient http = HttpClient.newHttpClient();
    private final BlockingQueue<String> received = new LinkedBlockingQueue<>();
    private final List<String> errors = new ArrayList<>();
    private WebSocket socket;
    private int calls;

    /** @param profile an empty folder */
    Chromium(Path profile) throws Exception {
        this.profile = profile;
        process = new ProcessBuilder("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
                "--user-data-dir=" + profile, "--window-size=1200,900", "about:blank")
                .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        boolean opened = false;
        try {
            Path port = profile.resolve("DevToolsActivePort");
            String found = null;
            for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS); found == null; Thread.sleep(20)) {
                if (System.nanoTime() > end || !process.isAlive()) {
                    throw new IOException("chromium does not start");
                }
                // Two lines, of which the first may be there alone.
                List<String> lines = Files.exists(port) ? Files.readAllLines(port) : List.of();
                found = lines.size() == 2 ? page(lines.getFirst()) : null;
            }
            socket = http.newWebSocketBuilder().buildAsync(URI.create(found), new WebSocket.Listener() {
                private final StringBuilder message = new StringBuilder();

                @Override
                public CompletionStage<?> onText(WebSocket from, CharSequence part, boolean last) {
                    message.append(part);
                    if (last) {
                        received.add(message.toString());
                        message.setLength(0);
                    }
                    from.request(1);
                    return null;
                }
            }).get(SECONDS, TimeUnit.SECONDS);
            call("Page.enable", "{}");
            call("Runtime.enable", "{}");
            call("Log.enable", "{}");
            opened = true;
        } finally {
            if (!opened) {
                close();
            }
        }
    }

    static boolean installed() throws InterruptedException {
        try {
            return new ProcessBuilder("chromium", "--version").redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD)
                    .start().waitFor() == 0;
        } catch (IOException e) {
            return false;
        }
    }

    private String page(String port) throws IOException, InterruptedException {
        Matcher url = PAGE.matcher(http.send(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port + "/json/list")).build(),
                HttpResponse.BodyHandlers.ofString()).body());
        return url.find() ? url.group(1) : null;
    }

    private Map<String, Object> call(String method, String parameters) throws Exception {
        int id = ++calls;
        socket.sendText("{\"id\":" + id + ",\"method\":\"" + method + "\",\"params\":" + parameters + "}", true).get();
        return object(await(message -> Double.valueOf(id).equals(message.get("id"))).get("result"));
    }

    private interface Wanted {
        boolean is(Map<String, Object> message);
    }

    private Map<String, Object> await(Wanted wanted) throws Exception {
        while (true) {
            String text = received.poll(SECONDS, TimeUnit.SECONDS);
            if (text == null) {
                throw new IOException("chromium does not answer");
            }
            Map<String, Object> message = JsonTree.parse(text);
            if (message.containsKey("error") || "Runtime.exceptionThrown".equals(message.get("method"))
                    || "Log.entryAdded".equals(message.get("method"))) {
                errors.add(text);
            }
            if (wanted.is(message)) {
                return message;
            }
        }
    }

    /** Opens a page, another one than before, and waits until it is drawn. */
    void open(String url) throws Exception {
        call("Page.navigate", "{\"url\":" + quoted(url) + "}");
        await(message -> "Page.loadEventFired".equals(message.get("method")));
    }

    /** What the page threw or complained of so far: scripts and requests that its policy blocks, too. */
    List<String> errors() {
        return errors;
    }

    /** The value of an expression in the page. */
    Object value(String expression) throws Exception {
        return object(call("Runtime.evaluate", "{\"returnByValue\":true,\"awaitPromise\":true,\"expression\":" + quoted(expression) + "}")
                .get("result")).get("value");
    }

    /** Presses the left button of the mouse over the middle of an element. */
    void click(String selector) throws Exception {
        List<Object> middle = JsonTree.list(value("(() => { const e = document.querySelector(" + quoted(selector)
                + "); e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
                + " return [r.x + r.width / 2, r.y + r.height / 2]; })()"));
        for (String type : List.of("mousePressed", "mouseReleased")) {
            call("Input.dispatchMouseEvent", "{\"type\":\"" + type + "\",\"x\":" + middle.get(0) + ",\"y\":" + middle.get(1)
                    + ",\"button\":\"left\",\"clickCount\":1}");
        }
        settle();
    }

    void press(String key, int code) throws Exception {
        for (String type : List.of("rawKeyDown", "char", "keyUp")) {
            String text = type.equals("char") ? ",\"text\":\"\\r\"" : "";
            if (!type.equals("char") || key.equals("Enter")) {
                call("Input.dispatchKeyEvent", "{\"type\":\"" + type + "\",\"key\":\"" + key + "\",\"windowsVirtualKeyCode\":" + code + text
                        + "}");
            }
        }
        settle();
    }

    /** Two frames later what an event led to has been drawn. */
    private void settle() throws Exception {
        value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))");
    }

    void scheme(String scheme) throws Exception {
        call("Emulation.setEmulatedMedia", "{\"features\":[{\"name\":\"prefers-color-scheme\",\"value\":\"" + scheme + "\"}]}");
    }

    /** As PNG. */
    byte[] screenshot() throws Exception {
        return Base64.getDecoder().decode(call("Page.captureScreenshot", "{\"format\":\"png\"}").get("data").toString());
    }

    private static String quoted(String text) {
        return "\"" + new String(JsonStringEncoder.getInstance().quoteAsString(text)) + "\"";
    }

    @Override
    public void close() throws IOException, InterruptedException {
        if (socket != null) {
            socket.abort();
        }
        http.close();
        // Its children end with it.
        process.destroy();
        if (!process.waitFor(SECONDS, TimeUnit.SECONDS)) {
            process.destroyForcibly().waitFor();
        }
        Files.deleteIfExists(profile.resolve("SingletonSocket")); // a link that leads out of the folder
    }
}
