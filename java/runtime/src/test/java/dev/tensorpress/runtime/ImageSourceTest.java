package dev.tensorpress.runtime;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxTensor;
import dev.tensorpress.model.UnsupportedRequestException;
import java.awt.image.BufferedImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ImageSourceTest {
    @TempDir
    Path folder;
    private Path images;

    @BeforeEach
    void makeFolder() throws IOException {
        images = Files.createDirectory(folder.resolve("images"));
    }

    private void write(String name, int height, int width, int... colours) throws IOException {
        BufferedImage image = new BufferedImage(width, height, BufferedImage.TYPE_INT_RGB);
        image.setRGB(0, 0, width, height, colours, 0, width);
        assertTrue(ImageIO.write(image, name.substring(name.lastIndexOf('.') + 1), images.resolve(name).toFile()));
    }

    /** What a model with such an input is fed. */
    private float[] fed(int type, String dims, Images options, int sample) throws IOException {
        Path model = new TinyModel().node("Identity", "x -> y").input("x", type, dims).output("y", type, dims).write(folder.resolve("m.onnx"));
        try (Session session = Session.open(model, 1)) {
            Map<String, OnnxTensor> feed = Samples.images(images, options).feed(session, sample);
            OnnxTensor x = feed.get("x");
            if (type == TinyModel.UINT8) {
                byte[] bytes = x.getByteBuffer().array();
                float[] values = new float[bytes.length];
                for (int i = 0; i < bytes.length; i++) {
                    values[i] = bytes[i] & 0xff;
                }
                x.close();
                return values;
            }
            float[] values = Embeddings.floats(x);
            x.close();
            return values;
        }
    }

    private float[] fed(String dims, Images options) throws IOException {
        return fed(TinyModel.FLOAT, dims, options, 0);
    }

    @Test
    void pixelsLieAsTheModelWantsThem() throws IOException {
        write("a.png", 1, 2, 0xff0033, 0x00ff66);
        Images plain = Images.DEFAULT.set("rescale", "1");
        assertArrayEquals(new float[] {255, 0, 0, 255, 0x33, 0x66}, fed("n 3 h w", plain));
        assertArrayEquals(new float[] {255, 0, 0x33, 0, 255, 0x66}, fed("n h w 3", plain));
        assertArrayEquals(new float[] {255, 0, 0x33, 0, 255, 0x66}, fed("n h w c", plain.set("layout", "nhwc")));
        assertArrayEquals(new float[] {0x33, 0x66, 0, 255, 255, 0}, fed("n 3 h w", plain.set("order", "bgr")));
        assertArrayEquals(new float[] {1, 0, 0, 1, 0.2f, 0.4f}, fed("n 3 h w", Images.DEFAULT), 1e-6f);
        assertArrayEquals(new float[] {1, -1, 0, 4, 0, 0.5f}, fed("n 3 h w", Images.DEFAULT.set("mean", "0.5,0,0.2").set("std", "0.5, 0.25, 0.4")), 1e-6f);
        assertArrayEquals(new float[] {0.299f + 0.114f * 0.2f, 0.587f + 0.114f * 0.4f}, fed("n 1 h w", Images.DEFAULT), 1e-6f);
        assertArrayEquals(new float[] {255, 0, 0x33, 0, 255, 0x66}, fed(TinyModel.UINT8, "n h w 3", Images.DEFAULT, 0));
        assertArrayEquals(new float[] {1, 0, 0, 1, 0.2f, 0.4f}, fed(TinyModel.FLOAT16, "n 3 h w", Images.DEFAULT, 0), 1e-3f);
    }

    @Test
    void imagesAreResizedAndCropped() throws IOException {
        int[] columns = {0x000000, 0x404040, 0x808080, 0xc0c0c0};
        int[] pixels = new int[16];
        Arrays.setAll(pixels, i -> columns[i % 4]);
        write("a.png", 4, 4, pixels);
        Images plain = Images.DEFAULT.set("rescale", "1");
        assertArrayEquals(new float[] {64, 128, 64, 128}, fed("n 1 h w", plain.set("crop", "2")), 1e-3f);
        // Of each pair of pixels, with an eighth of the next one to each side that there is: 0, 64, 128 by 3 3 1.
        float left = (3 * 0 + 3 * 64 + 128) / 7f;
        assertArrayEquals(new float[] {left, 192 - left}, fed("n 1 h w", plain.set("size", "1x2")), 1e-3f);
        assertArrayEquals(new float[] {left, 192 - left, left, 192 - left}, fed("1 1 2 2", plain), 1e-3f);
        write("a.png", 1, 2, 0x000000, 0x808080);
        assertArrayEquals(new float[] {0, 32, 96, 128}, fed("n 1 h w", plain.set("size", "1x4")), 1e-3f);
        assertEquals(4 * 8, fed("n 1 h w", plain.set("size", "4")).length);
    }

    @Test
    void imagesComeByTheirNames() throws IOException {
        write("b.png", 1, 1, 0xffffff);
        write("a.png", 1, 1, 0);
        write("c.jpg", 1, 1, 0x808080);
        Files.writeString(images.resolve("labels.txt"), "not read");
        assertEquals(3, Samples.images(images, Images.DEFAULT).size());
        assertEquals(0, fed(TinyModel.FLOAT, "n 1 h w", Images.DEFAULT, 0)[0]);
        assertEquals(1, fed(TinyModel.FLOAT, "n 1 h w", Images.DEFAULT, 1)[0], 1e-6);
        assertEquals(0.5, fed(TinyModel.FLOAT, "n 1 h w", Images.DEFAULT, 2)[0], 0.01);
    }

    private void refused(Class<? extends Exception> type, String message, String dims, Images options) {
        Exception e = assertThrows(type, () -> fed(dims, options));
        assertTrue(e.getMessage().contains(message), e.getMessage());
    }

    @Test
    void whatIsNoImageIsNamed() throws IOException {
        refused(InputException.class, "images holds no images", "n 3 h w", Images.DEFAULT);
        assertThrows(NotDirectoryException.class, () -> Samples.images(folder.resolve("none"), Images.DEFAULT));
        Files.writeString(images.resolve("a.png"), "no image");
        refused(InputException.class, "a.png is no image in PNG or JPEG", "n 3 h w", Images.DEFAULT);
        int[] pixels = new int[4096];
        Arrays.setAll(pixels, i -> i * 7919);
        write("a.png", 64, 64, pixels);
        byte[] whole = Files.readAllBytes(images.resolve("a.png"));
        Files.write(images.resolve("a.png"), Arrays.copyOf(whole, whole.length / 2));
        refused(InputException.class, "a.png cannot be read as an image", "n 3 h w", Images.DEFAULT);
        whole[16] = 0x70; // the width
        Files.write(images.resolve("a.png"), whole);
        refused(InputException.class, "pixels; at most", "n 3 h w", Images.DEFAULT);
    }

    @Test
    void whatDoesNotFitTheModelIsNamed() throws IOException {
        write("a.png", 2, 2, 0, 0, 0, 0);
        refused(InputException.class, "the shape 1x3x2x2 does not fit the input x", "n 3 5 w", Images.DEFAULT);
        refused(InputException.class, "2x2 pixels when it is cropped to 3x3", "n 3 h w", Images.DEFAULT.set("crop", "3"));
        refused(UnsupportedRequestException.class, "give the layout", "n c h w", Images.DEFAULT);
        refused(UnsupportedRequestException.class, "is no image of four dimensions", "n 3", Images.DEFAULT.set("layout", "nchw"));
        for (String wrong : new String[] {"size=0", "size=1x2x3", "crop=99999", "layout=hw", "order=grb", "std=0", "rescale=1,2", "mean=", "gamma=1"}) {
            String[] two = wrong.split("=", 2);
            InputException e = assertThrows(InputException.class, () -> Images.DEFAULT.set(two[0], two[1]), wrong);
            assertTrue(e.getMessage().contains(two[0]), e.getMessage());
        }
    }

    @Test
    void preprocessorsOfHuggingFaceAreRead() throws IOException {
        Path file = folder.resolve("preprocessor_config.json");
        Files.writeString(file, """
                {"do_resize": true, "size": {"shortest_edge": 256}, "resample": 3, "do_center_crop": true, "crop_size": {"height": 224, "width": 200},
                 "do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true, "image_mean": [0.5, 0.4, 0.3],
                 "image_std": [0.1, 0.2, 0.3], "nested": {"size": [1, {"size": 3}]}}
                """);
        assertEquals(Images.DEFAULT.set("size", "256").set("crop", "224x200").set("mean", "0.5,0.4,0.3").set("std", "0.1,0.2,0.3"), Images.read(file));
        Files.writeString(file, "{\"size\": 224, \"crop_size\": 200, \"do_center_crop\": false, \"do_rescale\": false, \"do_normalize\": false, \"image_mean\": [1]}");
        assertEquals(Images.DEFAULT.set("size", "224").set("rescale", "1"), Images.read(file));
        Files.writeString(file, "{\"size\": {\"height\": 30, \"width\": 40}, \"crop_size\": 20}");
        assertEquals(Images.DEFAULT.set("size", "30x40").set("crop", "20"), Images.read(file));
        for (String wrong : new String[] {"", "[]", "{\"size\": 224", "{\"image_std\": [0, 0, 0]}", "{\"image_mean\": [\"a\"]}", "{\"size\": 1000000}"}) {
            Files.writeString(file, wrong);
            InputException e = assertThrows(InputException.class, () -> Images.read(file), wrong);
            assertTrue(e.getMessage().contains("preprocessor_config.json"), e.getMessage());
        }
    }
}
