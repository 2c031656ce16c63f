package dev.tensorpress.runtime;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.stream.Stream;

/**
 * What becomes of an image before a model sees it, in this order: it is resized, cropped in its middle, and each of its numbers x, from 0 to
 * 255, becomes (x rescale - mean) / std of its channel.
 *
 * @param shortest the shorter edge after resizing, the other in proportion
 * @param size after resizing, whatever the proportions; neither this nor {@code shortest} for what the model declares, or else as it is
 * @param layout empty for what the model's input looks like
 * @param bgr whether blue is the first channel
 * @param mean one for each channel, or one for all
 * @param std likewise, above 0
 */
public record Images(OptionalInt shortest, Optional<Size> size, Optional<Size> crop, Optional<Layout> layout, boolean bgr, double rescale,
        List<Double> mean, List<Double> std) {
    /** From 0 to 1, RGB, in the size that the model declares. */
    public static final Images DEFAULT = new Images(OptionalInt.empty(), Optional.empty(), Optional.empty(), Optional.empty(), false, 1.0 / 255,
            List.of(0.0), List.of(1.0));
    private static final int LARGEST = 1 << 15;
    private static final String NUMBER = "-?\\d{1,6}(\\.\\d{1,20})?([eE]-?\\d{1,2})?";

    /** In pixels. */
    public record Size(int height, int width) {
        public Size {
            if (height < 1 || width < 1 || height > LARGEST || width > LARGEST) {
                throw new IllegalArgumentException("images have edges of 1 to " + LARGEST + " pixels, not " + height + "x" + width);
            }
        }
    }

    /** How pixels lie: channels in planes, or together. */
    public enum Layout { NCHW, NHWC }

    public Images {
        mean = List.copyOf(mean);
        std = List.copyOf(std);
        if (shortest.isPresent() && size.isPresent()) {
            throw new IllegalArgumentException("an image is resized to a size or to a shortest edge, not to both");
        }
    }

    private Images resized(OptionalInt shortest, Optional<Size> size) {
        return new Images(shortest, size, crop, layout, bgr, rescale, mean, std);
    }

    /**
     * With another value of an option: {@code size} (256 for the shortest edge, or 256x320 for height and width), {@code crop} (224x224),
     * {@code layout} (nchw, nhwc), {@code order} (rgb, bgr), {@code rescale}, {@code mean}, {@code std} (numbers, separated by commas).
     *
     * @throws InputException if there is no such option, or it does not take the value
     */
    public Images set(String key, String value) {
        try {
            switch (key) {
                case "size" -> {
                    return value.contains("x") ? resized(OptionalInt.empty(), Optional.of(size(value)))
                            : resized(OptionalInt.of(size(value + "x" + value).width()), Optional.empty());
                }
                case "crop" -> {
                    Size to = size(value.contains("x") ? value : value + "x" + value);
                    return new Images(shortest, size, Optional.of(to), layout, bgr, rescale, mean, std);
                }
                case "layout" -> {
                    if (value.equals("nchw") || value.equals("nhwc")) {
                        Layout to = value.equals("nchw") ? Layout.NCHW : Layout.NHWC;
                        return new Images(shortest, size, crop, Optional.of(to), bgr, rescale, mean, std);
                    }
                }
                case "order" -> {
                    if (value.equals("rgb") || value.equals("bgr")) {
                        return new Images(shortest, size, crop, layout, value.equals("bgr"), rescale, mean, std);
                    }
                }
                case "rescale" -> {
                    return new Images(shortest, size, crop, layout, bgr, numbers(value, 1).getFirst(), mean, std);
                }
                case "mean" -> {
                    return new Images(shortest, size, crop, layout, bgr, rescale, numbers(value, 4), std);
                }
                case "std" -> {
                    List<Double> all = numbers(value, 4);
                    if (all.stream().allMatch(s -> s > 0)) {
                        return new Images(shortest, size, crop, layout, bgr, rescale, mean, all);
                    }
                }
                default -> throw new InputException("images have no option '" + key
                        + "', but size, crop, layout, order, rescale, mean and std");
            }
        } catch (IllegalArgumentException e) {
            if (e instanceof InputException) {
                throw e;
            }
            throw new InputException("the option " + key + " of images: " + e.getMessage(), e);
        }
        throw new InputException("the option " + key + " of images does not take '" + value + "'");
    }

    private static Size size(String value) {
        if (!value.matches("\\d{1,6}x\\d{1,6}")) {
            throw new IllegalArgumentException("expected pixels, such as 224 or 224x320, found '" + value + "'");
        }
        int x = value.indexOf('x');
        return new Size(Integer.parseInt(value.substring(0, x)), Integer.parseInt(value.substring(x + 1)));
    }

    private static List<Double> numbers(String value, int most) {
        if (!value.matches(NUMBER + "(, ?" + NUMBER + "){0," + (most - 1) + "}")) {
            throw new IllegalArgumentException("expected " + (most == 1 ? "a number" : "numbers, separated by commas") + ", found '" + value + "'");
        }
        return Stream.of(value.split(", ?")).map(Double::valueOf).toList();
    }

    /**
     * What a {@code preprocessor_config.json} of Hugging Face says. Of what it can say, resizing, cropping, rescaling and normalizing are
     * followed.
     *
     * @throws InputException if it is none, or its numbers cannot be
     * @throws IOException if it cannot be read
     */
    public static Images read(Path file) throws IOException {
        Config config = new Config();
        try (JsonParser json = new JsonFactory().createParser(file.toFile())) {
            if (json.nextToken() != JsonToken.START_OBJECT) {
                throw new InputException(file + " is no preprocessor_config.json: it holds no object");
            }
            while (json.nextToken() == JsonToken.FIELD_NAME) {
                config.read(json);
            }
        } catch (JsonProcessingException e) {
            throw new InputException(file + " is no preprocessor_config.json: " + e.getOriginalMessage(), e);
        }
        try {
            return config.images();
        } catch (IllegalArgumentException e) {
            throw new InputException(file + ": " + e.getMessage(), e);
        }
    }

    /** Sizes are numbers, for a shortest edge or a square, or objects with names. */
    private static final class Config {
        private Edges size = new Edges();
        private Edges crop = new Edges();
        private boolean resize = true;
        private boolean cut = true;
        private boolean scale = true;
        private boolean normalize = true;
        private String factor = Double.toString(DEFAULT.rescale);
        private String mean = "";
        private String std = "";

        private static final class Edges {
            int one;
            int shortest;
            int height;
            int width;
        }

        void read(JsonParser json) throws IOException {
            String key = json.currentName();
            JsonToken value = json.nextToken();
            switch (key) {
                case "size" -> size = edges(json, value);
                case "crop_size" -> crop = edges(json, value);
                case "do_resize" -> resize = value != JsonToken.VALUE_FALSE;
                case "do_center_crop" -> cut = value == JsonToken.VALUE_TRUE;
                case "do_rescale" -> scale = value != JsonToken.VALUE_FALSE;
                case "do_normalize" -> normalize = value != JsonToken.VALUE_FALSE;
                case "rescale_factor" -> factor = json.getText();
                case "image_mean" -> mean = list(json);
                case "image_std" -> std = list(json);
                default -> { }
            }
            json.skipChildren();
        }

        private static Edges edges(JsonParser json, JsonToken value) throws IOException {
            Edges e = new Edges();
            if (value == JsonToken.VALUE_NUMBER_INT) {
                e.one = json.getIntValue();
            }
            while (value == JsonToken.START_OBJECT && json.nextToken() == JsonToken.FIELD_NAME) {
                String name = json.currentName();
                JsonToken number = json.nextToken();
                int n = number == JsonToken.VALUE_NUMBER_INT ? json.getIntValue() : 0;
                switch (name) {
                    case "shortest_edge" -> e.shortest = n;
                    case "height" -> e.height = n;
                    case "width" -> e.width = n;
                    default -> json.skipChildren();
                }
            }
            return e;
        }

        private static String list(JsonParser json) throws IOException {
            List<String> all = new ArrayList<>();
            if (json.currentToken() == JsonToken.START_ARRAY) {
                while (json.nextToken() != JsonToken.END_ARRAY) {
                    all.add(json.getText());
                    json.skipChildren();
                }
            }
            return String.join(",", all);
        }

        Images images() {
            Images images = DEFAULT;
            if (resize && size.height > 0) {
                images = images.set("size", size.height + "x" + size.width);
            } else if (resize && size.shortest + size.one > 0) {
                images = images.set("size", Integer.toString(size.shortest + size.one));
            }
            if (cut && crop.height + crop.one > 0) {
                images = images.set("crop", crop.height > 0 ? crop.height + "x" + crop.width : Integer.toString(crop.one));
            }
            images = images.set("rescale", scale ? factor : "1");
            images = normalize && !mean.isEmpty() ? images.set("mean", mean) : images;
            return normalize && !std.isEmpty() ? images.set("std", std) : images;
        }
    }
}
