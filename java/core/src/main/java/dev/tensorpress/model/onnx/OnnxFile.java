package dev.tensorpress.model.onnx;

import dev.tensorpress.io.Buffers;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.io.ReadAhead;
import dev.tensorpress.io.StreamFile;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.onnx.DataLayout.Placed;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;

/**
 * A model file made of another, with a data file if it needs one: if the other has external data, or this would pass 2 GiB, tensors go to
 * {@code MODEL.HASH.data} beside it, where MODEL is the name of the file read, and HASH depends on the contents: the data of an older output
 * stays as long as its model does.
 */
final class OnnxFile {
    /** Readers of protobuf stop here. */
    static final long LARGEST_MESSAGE = Integer.MAX_VALUE;
    private static final String HASH = "00000000";
    /** Of the memory, this part is for buffers; the rest is for the weight at hand. */
    private static final long BUFFERS_SHARE = 4;

    private final OnnxModel model;
    private final long largest;
    private final Contents contents;

    /** Lays a model file out. */
    interface Contents {
        /**
         * @param data takes what belongs into the data file
         * @param all whether whatever is large belongs there, or just what was in one before
         */
        Rope lay(DataLayout data, boolean all);
    }

    /** Of a model file laid out. */
    private record Plan(Rope rope, DataLayout data, String location) {
        boolean external() {
            return !data.placed().isEmpty();
        }
    }

    /** @param largest bytes of a model file above which tensors go to a file of their own */
    OnnxFile(OnnxModel model, long largest, Contents contents) {
        this.model = model;
        this.largest = largest;
        this.contents = contents;
    }

    /** Of both files. */
    long bytes() {
        Plan p = plan(HASH);
        return Math.addExact(p.rope.length(), p.data.length());
    }

    private Plan plan(String hash) {
        // The name of the data file is as long as it will be, so that sizes are exact before its contents are known.
        String location = stem() + "." + hash + ".data";
        if (model.externalTensors().isEmpty()) {
            Plan p = plan(null, false);
            if (p.rope.length() <= largest) {
                return p;
            }
        }
        Plan p = plan(location, false);
        if (p.rope.length() > largest) {
            p = plan(location, true);
        }
        if (p.rope.length() > largest) {
            throw new UnsupportedRequestException(model.path() + ": even without its tensors the model would take "
                    + p.rope.length() + " bytes; protobuf files end at " + largest);
        }
        return p;
    }

    private Plan plan(String location, boolean all) {
        DataLayout data = new DataLayout(model, location);
        return new Plan(contents.lay(data, all), data, location);
    }

    private String stem() {
        String file = model.path().getFileName().toString();
        return file.endsWith(".onnx") && file.length() > 5 ? file.substring(0, file.length() - 5) : file;
    }

    /**
     * Writes it, whole or not at all.
     *
     * @param encoder of what is compressed
     * @return the files, that which refers to the others last
     * @throws UnsupportedRequestException if the destination is one of the files the model was read from
     * @throws IOException if writing fails
     */
    Set<Path> write(Target.Encoder encoder, Destination to) throws IOException {
        Path out = to.path();
        model.inputs().check();
        Plan p = plan(HASH);
        checkReplaces(out);
        if (Files.isDirectory(out)) {
            throw new IOException("cannot write " + out + ": a folder has that name");
        }
        Path folder = out.toAbsolutePath().normalize().getParent();
        Target.Encoder guarded = model.guarded(encoder, to.phases());
        try {
            if (p.external()) {
                return writeWithData(p, guarded, folder, to);
            }
            Output.announce(p.rope.sections(), guarded);
            try (DurableFile file = new DurableFile(folder, out.getFileName().toString(), to.phases())) {
                new Output(file.channel(), out, to.phases(), guarded).rope(p.rope, model);
                model.inputs().check();
                file.commit(out, to.overwrite());
            }
            return Set.of(out);
        } catch (FileAlreadyExistsException e) {
            throw e;
        } catch (IOException e) {
            throw DurableFile.explain(e, out);
        } catch (InternalError e) {
            throw model.gone(e);
        }
    }

    private void checkReplaces(Path out) throws IOException {
        if (InputFiles.replacedBy(out, model.files()) != null) {
            throw new UnsupportedRequestException("the output " + out + " is a file that the model is read from");
        }
    }

    /** Both files under temporary names first, then the data file's rename, then the model's. */
    private Set<Path> writeWithData(Plan p, Target.Encoder encoder, Path folder, Destination to) throws IOException {
        Path out = to.path();
        try (Buffers buffers = new Buffers(to.memory() / BUFFERS_SHARE, to.phases());
                StreamFile data = StreamFile.unhashed(folder, p.location, p.data.length(), buffers);
                DurableFile top = new DurableFile(folder, out.getFileName().toString(), to.phases())) {
            Output o = new Output(data, encoder);
            Output.announce(p.data.placed().stream().map(Placed::section).toList(), encoder);
            Output.announce(p.rope.sections(), encoder);
            data(o, p.data.placed(), buffers);
            Plan named = plan(HexFormat.of().toHexDigits((int) o.checksum()));
            Path path = folder.resolve(named.location);
            boolean there = Files.exists(path);
            checkReplaces(path);
            new Output(top.channel(), out, to.phases(), encoder).rope(named.rope, model);
            data.finish();
            if (there && !to.overwrite() && !data.isLike(path)) {
                throw new FileAlreadyExistsException(path.toString(), null, "exists, and is no output of these contents; it is replaced"
                        + " only when asked to");
            }
            model.inputs().check();
            try {
                data.commit(path);
                top.commit(out, to.overwrite());
            } finally {
                // A model that has its name needs its data, whatever failed since.
                if (!there && !top.committed()) {
                    Files.deleteIfExists(path);
                }
            }
            return new LinkedHashSet<>(List.of(path, out));
        }
    }

    /** What is compressed is encoded, and what stays is read ahead meanwhile. */
    private void data(Output o, List<Placed> placed, Buffers buffers) throws IOException {
        List<ReadAhead.Range> kept = new ArrayList<>();
        for (Placed p : placed) {
            if (p.section() instanceof DataLayout.Region r) {
                kept.addAll(ranges(r));
            }
        }
        try (ReadAhead ahead = new ReadAhead(kept, buffers)) {
            long at = 0;
            for (Placed p : placed) {
                o.pad(at, p.offset());
                if (p.section() instanceof Rope.Payload payload) {
                    o.payload(payload);
                } else if (p.section() instanceof Rope.Memory memory) {
                    o.segment(memory.data());
                } else {
                    for (int i = ranges((DataLayout.Region) p.section()).size(); i > 0; i--) {
                        o.segment(ahead.next());
                    }
                }
                at = p.offset() + p.section().length();
            }
            o.flush();
        }
    }

    private static List<ReadAhead.Range> ranges(DataLayout.Region r) {
        return ReadAhead.ranges(r.file(), r.offset(), r.length());
    }
}
