package dev.tensorpress.runtime;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.TensorInfo;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.runtime.Images.Layout;
import dev.tensorpress.runtime.Images.Size;
import dev.tensorpress.tensor.Shape;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import javax.imageio.ImageReader;
import javax.imageio.stream.ImageInputStream;

/** Images out of a folder, one after the other by their names. */
final class ImageSource extends Samples {
    private static final long MOST_PIXELS = 1L << 26;
    private static final double[] GRAY = {0.299, 0.587, 0.114};

    private final List<Path> files;
    private final Images images;

    ImageSource(Path folder, Images images) throws IOException {
        this.images = images;
        if (!Files.isDirectory(folder)) {
            throw new NotDirectoryException(folder.toString());
        }
        try (Stream<Path> all = Files.list(folder)) {
            files = all.filter(f -> f.getFileName().toString().toLowerCase(Locale.ROOT).matches(".*\\.(png|jpe?g)")).sorted().toList();
        }
        if (files.isEmpty()) {
            throw new InputException(folder + " holds no images: no file .png, .jpg or .jpeg");
        }
    }

    @Override
    public String source() {
        return "images";
    }

    @Override
    public int size() {
        return files.size();
    }

    @Override
    public List<Path> files() {
        return files;
    }

    @Override
    Map<String, OnnxTensor> feed(Session session, int i) throws IOException {
        if (session.inputs().size() != 1) {
            throw new UnsupportedRequestException(session.model() + " takes more than an image: " + session.declared());
        }
        String name = session.inputs().keySet().iterator().next();
        TensorInfo input = session.inputs().get(name);
        long[] declared = input.getShape();
        Layout layout = images.layout().orElseGet(() -> layout(session, declared));
        if (declared.length != 4) {
            throw new UnsupportedRequestException("input " + name + " of " + session.model() + " is no image of four dimensions: " + session.declared());
        }
        boolean planes = layout == Layout.NCHW;
        int channels = declared[planes ? 1 : 3] == 1 ? 1 : 3;
        Path file = files.get(i);
        Pixels pixels = read(file);
        if (images.size().isPresent()) {
            pixels = pixels.resized(images.size().get());
        } else if (images.shortest().isPresent()) {
            pixels = pixels.resized(shortest(pixels, images.shortest().getAsInt()));
        } else if (images.crop().isEmpty() && declared[planes ? 2 : 1] > 0 && declared[planes ? 3 : 2] > 0) {
            pixels = pixels.resized(new Size((int) declared[planes ? 2 : 1], (int) declared[planes ? 3 : 2]));
        }
        if (images.crop().isPresent()) {
            pixels = pixels.cropped(images.crop().get(), file);
        }
        Shape shape = planes ? Shape.of(1, channels, pixels.height, pixels.width) : Shape.of(1, pixels.height, pixels.width, channels);
        session.check(name, shape);
        ByteBuffer data = ByteBuffer.allocateDirect(Math.multiplyExact((int) shape.elements(), input.type.size)).order(ByteOrder.nativeOrder());
        for (int at = 0; at < shape.elements(); at++) {
            int area = pixels.height * pixels.width;
            int channel = planes ? at / area : at % channels;
            put(session, name, input.type, data, channel, value(pixels, planes ? at % area : at / channels, channel, channels));
        }
        try {
            return Map.of(name, OnnxTensor.createTensor(Session.environment(), data.rewind(), shape.dims(), input.type));
        } catch (OrtException e) {
            throw new IllegalStateException(e);
        }
    }

    private float value(Pixels pixels, int pixel, int channel, int channels) {
        if (channels == 1) {
            float sum = 0;
            for (int c = 0; c < 3; c++) {
                sum += (float) GRAY[c] * pixels.values[3 * pixel + c];
            }
            return sum;
        }
        return pixels.values[3 * pixel + (images.bgr() ? 2 - channel : channel)];
    }

    private void put(Session session, String name, OnnxJavaType type, ByteBuffer data, int channel, float x) {
        double scaled = (x * images.rescale() - of(images.mean(), channel)) / of(images.std(), channel);
        switch (type) {
            case FLOAT -> data.putFloat((float) scaled);
            case FLOAT16 -> data.putShort(Float.floatToFloat16((float) scaled));
            case UINT8 -> data.put((byte) Math.clamp(Math.round(x), 0, 255)); // such models scale it themselves
            default -> throw new UnsupportedRequestException("input " + name + " of " + session.model() + " is " + type + ", but images are FLOAT, FLOAT16"
                    + " or UINT8");
        }
    }

    private static double of(List<Double> values, int channel) {
        return values.get(Math.min(channel, values.size() - 1));
    }

    private static Layout layout(Session session, long[] declared) {
        boolean planes = declared.length == 4 && (declared[1] == 1 || declared[1] == 3);
        boolean together = declared.length == 4 && (declared[3] == 1 || declared[3] == 3);
        if (planes == together) {
            throw new UnsupportedRequestException(session.model() + " does not say where its input has the channels of an image: " + session.declared()
                    + "; give the layout", "layout");
        }
        return planes ? Layout.NCHW : Layout.NHWC;
    }

    private static Size shortest(Pixels pixels, int edge) {
        int least = Math.min(pixels.height, pixels.width);
        return new Size(Math.max(1, (int) ((long) pixels.height * edge / least)), Math.max(1, (int) ((long) pixels.width * edge / least)));
    }

    private static Pixels read(Path file) throws IOException {
        BufferedImage image;
        try (ImageInputStream in = ImageIO.createImageInputStream(file.toFile())) {
            Iterator<ImageReader> readers = in == null ? List.<ImageReader>of().iterator() : ImageIO.getImageReaders(in);
            if (!readers.hasNext()) {
                throw new InputException(file + " is no image in PNG or JPEG");
            }
            ImageReader reader = readers.next();
            try {
                reader.setInput(in, true, true);
                long pixels = (long) reader.getWidth(0) * reader.getHeight(0);
                if (pixels > MOST_PIXELS) {
                    throw new InputException(file + " has " + pixels + " pixels; at most " + MOST_PIXELS + " are read");
                }
                image = reader.read(0);
            } finally {
                reader.dispose();
            }
        } catch (IOException | IllegalArgumentException | IndexOutOfBoundsException e) {
            if (e instanceof InputException) {
                throw e;
            }
            // What readers throw for damaged files.
            throw new InputException(file + " cannot be read as an image: " + e.getMessage(), e);
        }
        int height = image.getHeight();
        int width = image.getWidth();
        float[] values = new float[Math.multiplyExact(3, height * width)];
        int[] line = new int[width];
        for (int y = 0; y < height; y++) {
            image.getRGB(0, y, width, 1, line, 0, width);
            for (int x = 0; x < width; x++) {
                for (int c = 0; c < 3; c++) {
                    values[3 * (y * width + x) + c] = line[x] >> 16 - 8 * c & 0xff;
                }
            }
        }
        return new Pixels(height, width, values);
    }

    /** Red, green and blue of each, from 0 to 255. */
    record Pixels(int height, int width, float[] values) {
        /** Linear between pixels; where the image shrinks, over as many as become one. */
        Pixels resized(Size to) {
            if (to.height() == height && to.width() == width) {
                return this;
            }
            return along(true, to.width()).along(false, to.height());
        }

        private Pixels along(boolean lines, int length) {
            int from = lines ? width : height;
            int newHeight = lines ? height : length;
            int newWidth = lines ? length : width;
            float[] out = new float[Math.multiplyExact(3, newHeight * newWidth)];
            double scale = (double) from / length;
            double reach = Math.max(1, scale);
            for (int i = 0; i < length; i++) {
                double center = (i + 0.5) * scale - 0.5;
                int first = (int) Math.max(0, Math.ceil(center - reach));
                int last = (int) Math.min(from - 1, Math.floor(center + reach));
                double[] weights = new double[last - first + 1];
                double sum = 0;
                for (int k = 0; k < weights.length; k++) {
                    weights[k] = Math.max(0, 1 - Math.abs(first + k - center) / reach);
                    sum += weights[k];
                }
                for (int across = 0; across < (lines ? height : width); across++) {
                    for (int c = 0; c < 3; c++) {
                        double value = 0;
                        for (int k = 0; k < weights.length; k++) {
                            int pixel = lines ? across * width + first + k : (first + k) * width + across;
                            value += weights[k] * values[3 * pixel + c];
                        }
                        out[3 * (lines ? across * newWidth + i : i * newWidth + across) + c] = (float) (value / sum);
                    }
                }
            }
            return new Pixels(newHeight, newWidth, out);
        }

        /** The middle. */
        Pixels cropped(Size to, Path file) {
            if (to.height() > height || to.width() > width) {
                throw new InputException(file + " has " + height + "x" + width + " pixels when it is cropped to " + to.height() + "x" + to.width()
                        + "; resize it to more");
            }
            int top = (height - to.height()) / 2;
            int left = (width - to.width()) / 2;
            float[] out = new float[3 * to.height() * to.width()];
            for (int y = 0; y < to.height(); y++) {
                System.arraycopy(values, 3 * ((top + y) * width + left), out, 3 * y * to.width(), 3 * to.width());
            }
            return new Pixels(to.height(), to.width(), out);
        }
    }
}
