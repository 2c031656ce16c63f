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
 * @param elements that it has, unless it is coded by Zstandard
 * @param based whether by bytes of the base
 * @param level of Zstandard
 */
record Way(Stored stored, Elements elements, boolean based, int level) {
    private static final int LEVEL = 3;
    /** Of bytes that are no elements: there are few of them, and it suits them better. */
    private static final int HIGH_LEVEL = 9;
    /** Percent that another way has to gain before elements are not coded as what they are, which is decoded fastest. */
    private static final int GAIN = 2;

    static Way ofOther(boolean base) {
        return new Way(Stored.ZSTD, null, base, HIGH_LEVEL);
    }

    private static Way of(Elements e, boolean based) {
        return new Way(Stored.CODED, e, based, LEVEL);
    }

    /** That for chunks whose elements have too many values. */
    Way withoutPalette() {
        return of(elements, false);
    }

    /** A size, as it counts where ways are compared. */
    long counted(long size) {
        return stored == Stored.CODED ? size : size + size * GAIN / 100;
    }

    /** For reports. */
    String describe() {
        String how = switch (stored) {
            case ZSTD -> "zstd";
            case PALETTE -> "palette";
            case CODED -> elements.name().toLowerCase(Locale.ROOT).replace('_', ' ');
            case PLAIN, INDEX, REPEATED -> throw new IllegalStateException("no way: " + stored);
        };
        return how + (based ? " by base" : "");
    }

    /**
     * Those that a chunk of elements can be coded in, the first one first where two are as good.
     *
     * @param type of the elements
     * @param base whether there are bytes of the base that they may be like
     */
    static List<Way> of(DType type, boolean base) {
        List<Way> all = new ArrayList<>();
        for (Elements e : elements(type)) {
            all.add(of(e, false));
            if (base) {
                all.add(of(e, true));
            }
            if (e.bytes() > 1) {
                all.add(new Way(Stored.PALETTE, e, false, LEVEL));
            }
        }
        if (base) {
            all.add(new Way(Stored.ZSTD, null, true, LEVEL));
        }
        all.add(new Way(Stored.ZSTD, null, false, LEVEL));
        return all;
    }

    private static List<Elements> elements(DType type) {
        return switch (type) {
            case F32 -> List.of(Elements.F32);
            case F16 -> List.of(Elements.F16);
            case BF16 -> List.of(Elements.BF16);
            case F8E4M3, F8E4M3FNUZ -> List.of(Elements.F8_E4M3, Elements.BYTES);
            case F8E5M2, F8E5M2FNUZ -> List.of(Elements.F8_E5M2, Elements.BYTES);
            case I8, U8, F8E8M0, BOOL, F6E2M3, F6E3M2 -> List.of(Elements.BYTES);
            case I4, U4, F4 -> List.of(Elements.NIBBLES, Elements.BYTES);
            case I16, U16 -> List.of(Elements.F16); // in planes of bits likewise
            case F64, C64, I64, I32, U64, U32 -> List.of();
        };
    }
}
