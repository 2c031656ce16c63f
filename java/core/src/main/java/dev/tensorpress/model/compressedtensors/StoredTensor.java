package dev.tensorpress.model.compressedtensors;

import dev.tensorpress.model.MalformedModelException;
import dev.tensorpress.model.safetensors.Safetensors;
import dev.tensorpress.model.safetensors.Safetensors.Entry;
import dev.tensorpress.tensor.DType;
import java.util.Arrays;

/** A tensor and the file that holds it. */
record StoredTensor(Safetensors file, Entry entry) {
    MalformedModelException bad(String expected) {
        return file.bad(entry.described(), "tensor '" + entry.name() + "' " + expected);
    }

    /** @param dims -1 is any size */
    void check(DType type, long... dims) {
        long[] found = entry.shape().dims();
        boolean fits = found.length == dims.length && (type == null || entry.dtype() == type);
        for (int i = 0; fits && i < dims.length; i++) {
            fits = dims[i] < 0 || dims[i] == found[i];
        }
        if (!fits) {
            throw bad("is " + entry.dtype() + " " + Arrays.toString(found) + ", expected "
                    + (type == null ? "" : type + " ") + Arrays.toString(dims).replace("-1", "any"));
        }
    }

    void check(Scheme.Stored expected) {
        check(expected.dtype(), expected.shape().dims());
    }
}
