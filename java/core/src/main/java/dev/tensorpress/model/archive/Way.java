package dev.tensorpress.model.archive;

import dev.tensorpress.kernel.Coding.Elements;
import dev.tensorpress.model.archive.Frame.Stored;
import dev.tensorpress.tensor.DType;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * A way to code a chunk.
 *
 * @param elements that it has, if they are coded as such; else null
 * @param based whether by bytes of the base
 * @param level of Zstandard
 */
record Way(Elements elements, boolean based, int level) {
    private static final int LEVEL = 3;
    /** Of bytes that are no elements: there are few of them, and it suits them better. */
    private static final int HIGH_LEVEL = 9;

    static Way ofOther(boolean base) {
        return new Way(null, base, HIGH_LEVEL);
    }

    Stored stored() {
        return elements == null ? Stored.ZSTD : Stored.CODED;
    }

    /** For reports. */
    String describe() {
        return (elements == null ? "zstd" : elements.name().toLowerCase(Locale.ROOT).replace('_', ' ')) + (based ? " by base" : "");
    }

    /**
     * Those that a chunk of elements can be coded in, the first one first where two are as good.
     *
     * @param type null if they are bytes of no type
     * @param base whether there are bytes of the base that they may be like
     */
    static List<Way> of(DType type, boolean base) {
        List<Way> all = new ArrayList<>();
        for (Elements e : elements(type)) {
            all.add(new Way(e, false, LEVEL));
            if (base) {
                all.add(new Way(e, true, LEVEL));
            }
        }
        if (base) {
            all.add(new Way(null, true, LEVEL));
        }
        all.add(new Way(null, false, LEVEL));
        return all;
    }

    private static List<Elements> elements(DType type) {
        if (type == null) {
            return List.of();
        }
        return switch (type) {
            case F32 -> List.of(Elements.F32);
            case F16 -> List.of(Elements.F16);
            case BF16 -> List.of(Elements.BF16);
            case F8E4M3, F8E4M3FNUZ -> List.of(Elements.F8_E4M3, Elements.BYTES);
            case F8E5M2, F8E5M2FNUZ -> List.of(Elements.F8_E5M2, Elements.BYTES);
            case I8, U8, F8E8M0, BOOL, F6E2M3, F6E3M2 -> List.of(Elements.BYTES);
            case I4, U4, F4 -> List.of(Elements.NIBBLES, Elements.BYTES);
            case F64, C64, I64, I32, I16, U64, U32, U16 -> List.of();
        };
    }
}
