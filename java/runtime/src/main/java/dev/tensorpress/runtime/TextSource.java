package dev.tensorpress.runtime;

import ai.djl.huggingface.tokenizers.Encoding;
import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.TensorInfo;
import dev.tensorpress.model.UnsupportedRequestException;
import java.io.IOException;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Token ids of texts. */
final class TextSource extends Samples {
    private record Tokens(long[] ids, long[] mask, long[] types) {}

    private final List<Tokens> texts;

    private TextSource(List<Tokens> texts) {
        this.texts = texts;
    }

    static TextSource of(List<String> texts, Path tokenizer) throws IOException {
        Djl.settle();
        List<Tokens> tokens = new ArrayList<>();
        // Texts longer than the model takes are cut as the tokenizer's file says.
        try (HuggingFaceTokenizer t = HuggingFaceTokenizer.newInstance(tokenizer, Map.of("padding", "false"))) {
            for (String text : texts) {
                Encoding e = t.encode(text);
                tokens.add(new Tokens(e.getIds(), e.getAttentionMask(), e.getTypeIds()));
            }
        } catch (IOException e) {
            throw e;
        } catch (RuntimeException e) {
            // The native part throws this type whatever is wrong with the file.
            throw new InputException(tokenizer + " is not a tokenizer.json: " + e.getMessage(), e);
        }
        return new TextSource(tokens);
    }

    @Override
    public String source() {
        return "texts";
    }

    @Override
    public int size() {
        return texts.size();
    }

    @Override
    Map<String, OnnxTensor> feed(Session session, int i) {
        Tokens tokens = texts.get(i);
        if (!session.inputs().containsKey("input_ids")) {
            throw new UnsupportedRequestException(session.model() + " has no input 'input_ids' for texts, but "
                    + session.inputs().keySet());
        }
        Map<String, OnnxTensor> feed = new LinkedHashMap<>();
        for (Map.Entry<String, TensorInfo> input : session.inputs().entrySet()) {
            long[] values = switch (input.getKey()) {
                case "input_ids" -> tokens.ids;
                case "attention_mask" -> tokens.mask;
                case "token_type_ids" -> tokens.types;
                case "position_ids" -> {
                    long[] positions = new long[tokens.ids.length];
                    Arrays.setAll(positions, p -> p);
                    yield positions;
                }
                default -> throw new UnsupportedRequestException(session.model() + " has an input '" + input.getKey()
                        + "', which texts do not give");
            };
            feed.put(input.getKey(), tensor(session, input.getKey(), input.getValue(), values));
        }
        return feed;
    }

    private static OnnxTensor tensor(Session session, String name, TensorInfo info, long[] values) {
        long[] shape = {1, values.length};
        try {
            if (info.type == OnnxJavaType.INT64) {
                return OnnxTensor.createTensor(Session.environment(), LongBuffer.wrap(values), shape);
            }
            if (info.type == OnnxJavaType.INT32) {
                int[] ints = new int[values.length];
                Arrays.setAll(ints, v -> (int) values[v]);
                return OnnxTensor.createTensor(Session.environment(), IntBuffer.wrap(ints), shape);
            }
        } catch (OrtException e) {
            throw new IllegalStateException(e);
        }
        throw new UnsupportedRequestException(
                "input " + name + " of " + session.model() + " is " + info.type + ", but tokens are integers");
    }
}
