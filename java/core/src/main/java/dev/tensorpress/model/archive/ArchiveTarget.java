package dev.tensorpress.model.archive;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Storage;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.io.InputFiles;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Lowering;
import dev.tensorpress.model.Model;
import dev.tensorpress.model.SeparableTarget;
import dev.tensorpress.model.SeparableTarget.Run;
import dev.tensorpress.model.Size;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Writes a {@link SparseFile}: the model that another target would write, with the elements of pruned weights taken out and stored
 * without their zeros. Those are dense elements, and 8-bit symmetric codes; other codes have no one code for zero, or share bytes, and
 * stay where they are.
 */
final class ArchiveTarget implements Target {
    private final Model model;
    private final SeparableTarget ordinary;

    ArchiveTarget(Model model, SeparableTarget ordinary) {
        this.model = model;
        this.ordinary = ordinary;
    }

    /**
     * A weight without its zeros.
     *
     * @param whole what it is in the file that is put together again
     */
    private record WithoutZeros(Lowering whole, Form.Sparse form, Shape shape) implements Lowering {
        @Override
        public Size size() {
            return new Size.AtMost(form.bytes(shape));
        }
    }

    @Override
    public String name() {
        return SparseFiles.NAME;
    }

    @Override
    public Lowering lower(Weight weight, Form wanted) {
        Lowering whole = ordinary.lower(weight, wanted);
        Shape shape = weight.tensor().shape();
        Form.Sparse s = whole.form().sparse();
        if (s == null || !packable(s.values(), shape)) {
            return whole;
        }
        // Packed it might gain, but what is expanded is what the ordinary target writes, where it does not.
        if (s.bytes(shape) > weight.tensor().bytes()) {
            throw new UnsupportedRequestException("would take " + s.bytes(shape) + " bytes as " + s.describe());
        }
        return new WithoutZeros(whole, s.stored(Storage.PACKED), shape);
    }

    private static boolean packable(Form values, Shape shape) {
        return switch (values.kind()) {
            case DENSE -> Packed.of("", ((Form.Dense) values).dtype(), shape).packable();
            case QUANTIZED -> {
                Form.Quantized q = values.quantized();
                yield SparseFormat.leavesOut(q) && Packed.of("", q.type(), q.codes(shape)).packable();
            }
            case CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, SUM -> false;
        };
    }

    /** What the ordinary model has. */
    private static Map<Weight, Lowering> whole(Map<Weight, Lowering> lowerings) {
        Map<Weight, Lowering> all = new LinkedHashMap<>();
        for (Map.Entry<Weight, Lowering> e : lowerings.entrySet()) {
            all.put(e.getKey(), e.getValue() instanceof WithoutZeros p ? p.whole : e.getValue());
        }
        return all;
    }

    @Override
    public String requires(Map<Weight, Lowering> lowerings) {
        return ordinary.requires(whole(lowerings));
    }

    @Override
    public List<String> remarks(Map<Weight, Lowering> lowerings) {
        return ordinary.remarks(whole(lowerings));
    }

    @Override
    public Size size(Map<Weight, Lowering> lowerings) {
        SeparableTarget.Layout layout = ordinary.layout(whole(lowerings));
        Map<Weight, SparseFileWriter.Expected> expected = new LinkedHashMap<>();
        long arrays = 0;
        long skeleton = layout.length();
        for (Run run : layout.runs()) {
            Weight w = run.weight();
            if (!(lowerings.get(w) instanceof WithoutZeros p)) {
                continue;
            }
            skeleton -= run.length();
            SparseFileWriter.Expected of = expected.get(w);
            if (of == null) {
                Form.Quantized q = p.form.quantized();
                if (q != null) {
                    of = new SparseFileWriter.Expected(w.name(), q.type(), q.codes(p.shape), new ArrayList<>(2));
                    arrays += p.form.bytes(p.shape) - (q.bytes(p.shape) - q.codeBytes(p.shape));
                } else {
                    of = new SparseFileWriter.Expected(w.name(), w.tensor().dtype(), p.shape, new ArrayList<>(2));
                    arrays += p.form.bytes(p.shape);
                }
                expected.put(w, of);
            }
            of.contents().add(run.content());
        }
        return SparseFileWriter.size(List.copyOf(expected.values()), layout.length(), skeleton, arrays);
    }

    /**
     * {@inheritDoc}
     *
     * @throws UnsupportedRequestException if the destination is the file the model was read from
     */
    @Override
    public Set<Path> write(Map<Weight, Lowering> lowerings, Encoder encoder, Destination to) throws IOException {
        Path out = to.path();
        if (InputFiles.replacedBy(out, model.files()) != null) {
            throw new UnsupportedRequestException("the output " + out + " is a file that the model is read from");
        }
        if (Files.isDirectory(out)) {
            throw new IOException("cannot write " + out + ": a folder has that name");
        }
        Path folder = out.toAbsolutePath().normalize().getParent();
        // One thread: packing keeps up with the disk.
        try (Executor executor = Executor.cpu(1);
                SparseFileWriter file = new SparseFileWriter(folder, out.getFileName().toString(), executor, to.phases())) {
            SeparableTarget.Whole whole = ordinary.separate(whole(lowerings), unpacked(lowerings, encoder), to,
                    new Packer(lowerings, file, file.startModel()));
            file.finishModel(whole.length(), whole.checksum());
            file.commit(out, to.overwrite());
            return Set.of(out);
        } catch (FileAlreadyExistsException e) {
            throw e;
        } catch (IOException e) {
            throw DurableFile.explain(e, out);
        }
    }

    /** Asks for the forms that were planned, and gives what the ordinary target asks for. */
    private static Encoder unpacked(Map<Weight, Lowering> lowerings, Encoder encoder) {
        return (weight, form, rows, first) -> {
            Lowering planned = lowerings.get(weight);
            Encoding e = encoder.encode(weight, planned.form(), rows, first);
            if (!(planned instanceof WithoutZeros)) {
                return e;
            }
            if (!e.form().equals(planned.form())) {
                throw new IllegalStateException("the encoding of '" + weight.name() + "' is not what was asked for: "
                        + planned.form().describe());
            }
            return new Encoding.Sparse((Form.Sparse) form, ((Encoding.Sparse) e).values());
        };
    }

    /** Takes elements and codes of packed weights out of the model. */
    private static final class Packer implements SeparableTarget.Separator {
        private final Map<Weight, Lowering> lowerings;
        private final SparseFileWriter file;
        private final FileChannel rest;
        private Weight last;

        Packer(Map<Weight, Lowering> lowerings, SparseFileWriter file, FileChannel rest) {
            this.lowerings = lowerings;
            this.file = file;
            this.rest = rest;
        }

        @Override
        public FileChannel rest() {
            return rest;
        }

        @Override
        public boolean takes(Run run) {
            return lowerings.get(run.weight()) instanceof WithoutZeros;
        }

        @Override
        public void take(Run run, Encoding values, long offset) throws IOException {
            Weight w = run.weight();
            if (w != last) {
                last = w;
                Tensor elements = switch (values.kind()) {
                    case DENSE -> ((Encoding.Dense) values).tensor();
                    case QUANTIZED -> {
                        Encoding.Quantized q = (Encoding.Quantized) values;
                        yield new Tensor(q.codes().dtype(), q.form().codes(q.shape()), q.codes().data());
                    }
                    case CODEBOOK, TRANSFORMED, HASHED, SPARSE, LOW_RANK, SUM -> throw new IllegalStateException("no archive lacks the zeros of " + values.form());
                };
                Form.Quantized q = values.form().quantized();
                file.add(w.name(), elements, q == null ? 0 : SparseFormat.middle(q));
            }
            file.place(run.content(), offset);
        }
    }
}
