package dev.tensorpress.model.onnx;

import dev.tensorpress.model.onnx.DataFiles.DataFile;
import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Which tensors lie where in the data file of an output, if it has one. */
final class DataLayout {
    /** Offsets into data files, as the standard recommends, so that runtimes can map tensors. */
    private static final long PAGE = 4096;
    /** Runtimes want to see small constants without opening another file. */
    private static final long SMALL = 1024;

    private final OnnxModel model;
    private final String location;
    private final List<Placed> placed = new ArrayList<>();
    private final Map<Region, Long> copied = new HashMap<>();
    private long length;

    /** A tensor in the data file. */
    record Placed(long offset, Stored section) {}

    /** A part of an encoding, memory, or bytes of a file as it was read. */
    sealed interface Stored permits Rope.Payload, Rope.Memory, Region {
        long length();
    }

    record Region(Path file, long offset, long length) implements Stored {}

    /** @param location name of the file; null if there is none */
    DataLayout(OnnxModel model, String location) {
        this.model = model;
        this.location = location;
    }

    List<Placed> placed() {
        return placed;
    }

    /** Bytes of the file so far. */
    long length() {
        return length;
    }

    boolean exists() {
        return location != null;
    }

    /** Whether there is a file, and data of so many bytes belong there. */
    boolean takes(long bytes) {
        return exists() && bytes >= SMALL;
    }

    /** Gives something the next place, and tells a TensorProto that it is there. */
    void place(Proto tensor, Stored section) {
        external(tensor, place(section), section.length());
    }

    private long place(Stored section) {
        long offset = (length + PAGE - 1) / PAGE * PAGE;
        placed.add(new Placed(offset, section));
        length = Math.addExact(offset, section.length());
        return offset;
    }

    private void external(Proto tensor, long offset, long bytes) {
        entry(tensor, "location", location);
        entry(tensor, "offset", Long.toString(offset));
        entry(tensor, "length", Long.toString(bytes));
        tensor.integer(14, 1);
    }

    private static void entry(Proto tensor, String key, String value) {
        tensor.message(13, new Proto().string(1, key).string(2, value));
    }

    /**
     * Tensors that are external already follow into the new data file, so that the output does not need the old one.
     *
     * @param compressed those that are written otherwise
     * @param raw whether the large ones of the model itself move there too
     */
    void move(Set<TensorInfo> compressed, boolean raw, Edits edits) {
        for (OnnxGraph g : model.parsed().graphs) {
            for (TensorInfo t : g.initializers) {
                boolean big = raw && t.hasRaw && !t.external && t.bytes() == t.rawLength && t.rawLength >= SMALL;
                if ((t.external || big) && !compressed.contains(t)) {
                    edits.replace(g, t.fieldStart, t.end, new Rope().add(new Proto().message(5, moved(t))));
                }
            }
            for (Node n : g.nodes) {
                Attribute a = n.is("Constant") ? n.attribute("value") : null;
                if (a != null && a.tensor != null && a.tensor.external && !compressed.contains(a.tensor)) {
                    edits.replaceTensor(n, a, new Rope().add(new Proto().message(5, moved(a.tensor))));
                }
            }
        }
    }

    private Proto moved(TensorInfo t) {
        Proto p = new Proto();
        Wire w = model.wire();
        w.seek(t.start, t.end);
        while (w.next()) {
            if (w.field != 9 && w.field != 13 && w.field != 14) {
                p.fields(w.bytes(w.fieldStart, Math.toIntExact(w.end() - w.fieldStart)));
            }
        }
        long bytes = t.external ? t.externalLength : t.rawLength;
        long offset;
        try {
            DataFile file = t.external ? model.dataFiles().of(t) : null;
            Region region = new Region(file == null ? model.path() : file.path(),
                    file == null ? t.rawStart : t.externalOffset, bytes);
            Long before = copied.get(region);
            if (before == null) {
                before = place(region);
                copied.put(region, before);
            }
            offset = before;
        } catch (IOException e) {
            // Opened already, with the model.
            throw new UncheckedIOException(e);
        }
        external(p, offset, bytes);
        return p;
    }
}
