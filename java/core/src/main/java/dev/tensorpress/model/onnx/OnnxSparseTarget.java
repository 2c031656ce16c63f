package dev.tensorpress.model.onnx;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.encoding.Form.Storage;
import dev.tensorpress.io.DurableFile;
import dev.tensorpress.kernel.Executor;
import dev.tensorpress.model.Destination;
import dev.tensorpress.model.Target;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import dev.tensorpress.model.archive.SparseFileWriter;
import dev.tensorpress.model.archive.SparseFileWriter.Expected;
import dev.tensorpress.model.onnx.Rope.Part;
import dev.tensorpress.tensor.Shape;
import dev.tensorpress.tensor.Tensor;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Writes a {@link dev.tensorpress.model.archive.SparseFile}: the model that another target would write, with the elements
 * of pruned weights taken out and stored without their zeros. Those are dense elements, and 8-bit symmetric codes;
 * other codes have no one code for zero, or share bytes, and stay where they are.
 */
final class OnnxSparseTarget implements Target {
    static final String NAME = "sparse";

    private final OnnxModel model;
    private final OnnxTarget ordinary;

    OnnxSparseTarget(OnnxModel model, OnnxTarget ordinary) {
        this.model = model;
        this.ordinary = ordinary;
    }

    @Override
    public String name() {
        return NAME;
    }

    @Override
    public Form accept(Weight weight, Form wanted) {
        Form form = ordinary.accept(weight, wanted);
        Shape shape = weight.tensor().shape();
        if (!(form instanceof Form.Sparse s) || !packable(s, shape)) {
            return form;
        }
        // Packed it might gain, but what is expanded is what the ordinary target writes, where it does not.
        if (s.bytes(shape) > weight.tensor().bytes()) {
            throw new UnsupportedRequestException("would take " + s.bytes(shape) + " bytes as " + s.describe());
        }
        return s.stored(Storage.PACKED);
    }

    private static boolean packable(Form.Sparse form, Shape shape) {
        if (form.values() instanceof Form.Quantized q) {
            return SparseFileWriter.leavesOut(q) && SparseFileWriter.packable(q.type(), q.codes(shape));
        }
        return SparseFileWriter.packable(((Form.Dense) form.values()).dtype(), shape);
    }

    private static boolean packed(Form form) {
        return form instanceof Form.Sparse s && s.storage() == Storage.PACKED;
    }

    /** The forms that the ordinary model has. */
    private Map<Weight, Form> ordinary(Map<Weight, Form> forms) {
        Map<Weight, Form> all = new LinkedHashMap<>();
        for (Map.Entry<Weight, Form> e : forms.entrySet()) {
            all.put(e.getKey(), packed(e.getValue()) ? ordinary.accept(e.getKey(), e.getValue()) : e.getValue());
        }
        return all;
    }

    @Override
    public String requires(Map<Weight, Form> forms) {
        return ordinary.requires(ordinary(forms));
    }

    @Override
    public List<String> remarks(Map<Weight, Form> forms) {
        return ordinary.remarks(ordinary(forms));
    }

    private OnnxTarget.Layout layout(Map<Weight, Form> forms) {
        OnnxTarget.Layout l = ordinary.layout(ordinary(forms));
        if (l.external()) {
            throw new UnsupportedRequestException("target 'sparse' takes models in one file, and this one would be larger"
                    + " than " + OnnxTarget.LARGEST_MESSAGE + " bytes; target 'onnxruntime' takes it");
        }
        return l;
    }

    /** True for what is not written to the model's file, but to arrays beside it. */
    private static boolean takes(Map<Weight, Form> forms, Rope.Payload p) {
        return packed(forms.get(p.job().info.weight)) && part(p.part()) != null;
    }

    private static SparseFileWriter.Part part(Part p) {
        return switch (p) {
            case ELEMENTS, CODES -> SparseFileWriter.Part.ELEMENTS;
            case NONZEROS -> SparseFileWriter.Part.NONZEROS;
            case INDICES -> SparseFileWriter.Part.INDICES;
            case SCALES, ZEROS, ZEROS_PACKED, ZEROS_PACKED_BY_ROW -> null;
        };
    }

    @Override
    public long size(Map<Weight, Form> forms, long shardSize) {
        OnnxTarget.Layout l = layout(forms);
        Map<Weight, List<SparseFileWriter.Part>> parts = new IdentityHashMap<>();
        List<Expected> expected = new ArrayList<>();
        long arrays = 0;
        long skeleton = l.rope().length();
        for (Rope.Piece piece : l.rope().pieces()) {
            if (!(piece instanceof Rope.Payload p) || !takes(forms, p)) {
                continue;
            }
            skeleton -= p.length();
            Weight w = p.job().info.weight;
            List<SparseFileWriter.Part> of = parts.get(w);
            if (of == null) {
                of = new ArrayList<>(2);
                parts.put(w, of);
                Form.Sparse s = (Form.Sparse) forms.get(w);
                Shape shape = w.tensor().shape();
                if (s.values() instanceof Form.Quantized q) {
                    expected.add(new Expected(w.name(), q.type(), q.codes(shape), of));
                    arrays += s.bytes(shape) - (q.bytes(shape) - q.codeBytes(shape));
                } else {
                    expected.add(new Expected(w.name(), w.tensor().dtype(), shape, of));
                    arrays += s.bytes(shape);
                }
            }
            of.add(part(p.part()));
        }
        return SparseFileWriter.bound(expected, l.rope().length(), skeleton, arrays);
    }

    /**
     * {@inheritDoc}
     *
     * @throws UnsupportedRequestException if the destination is the file the model was read from
     */
    @Override
    public Set<Path> write(Map<Weight, Form> forms, Encoder encoder, Destination to) throws IOException {
        Path out = to.path();
        model.inputs().check();
        OnnxTarget.Layout l = layout(forms);
        if (Files.exists(out) && Files.isSameFile(model.path(), out)) {
            throw new UnsupportedRequestException("the output " + out + " is a file that the model is read from");
        }
        if (Files.isDirectory(out)) {
            throw new IOException("cannot write " + out + ": a folder has that name");
        }
        Path folder = out.toAbsolutePath().normalize().getParent();
        // One thread: packing keeps up with the disk.
        try (Executor executor = Executor.cpu(1);
                SparseFileWriter file = new SparseFileWriter(folder, out.getFileName().toString(), executor, to.phases())) {
            Encoder held = model.guarded(encoder, to.phases());
            Output o = new Output(file.startModel(), out, to.phases(), unpacked(forms, held), true, new Packing(forms, file));
            o.rope(l.rope(), model);
            file.finishModel(l.rope().length(), (int) o.checksum());
            model.inputs().check();
            file.commit(out, to.overwrite());
            return Set.of(out);
        } catch (FileAlreadyExistsException e) {
            throw e;
        } catch (IOException e) {
            throw DurableFile.explain(e, out);
        } catch (InternalError e) {
            throw model.gone(e);
        }
    }

    /** Asks for the forms that were accepted here, and gives what the ordinary target asks for. */
    private Encoder unpacked(Map<Weight, Form> forms, Encoder encoder) {
        return (weight, form, rows, first) -> {
            Form asked = forms.get(weight);
            Encoding e = encoder.encode(weight, asked, rows, first);
            if (!packed(asked)) {
                return e;
            }
            if (!e.form().equals(asked)) {
                throw new IllegalStateException("the encoding of '" + weight.name() + "' is not what was asked for: "
                        + asked.describe());
            }
            return new Encoding.Sparse((Form.Sparse) form, ((Encoding.Sparse) e).values());
        };
    }

    /** Takes elements and codes out of the model. */
    private static final class Packing implements Output.Packer {
        private final Map<Weight, Form> forms;
        private final SparseFileWriter file;
        private Weight last;

        Packing(Map<Weight, Form> forms, SparseFileWriter file) {
            this.forms = forms;
            this.file = file;
        }

        @Override
        public boolean takes(Rope.Payload p) {
            return OnnxSparseTarget.takes(forms, p);
        }

        @Override
        public void take(Rope.Payload p, Encoding values, long position) throws IOException {
            Weight w = p.job().info.weight;
            if (w != last) {
                last = w;
                if (values instanceof Encoding.Quantized q) {
                    file.add(w.name(), new Tensor(q.codes().dtype(), q.form().codes(q.shape()), q.codes().data()),
                            SparseFileWriter.middle(q.form()));
                } else {
                    file.add(w.name(), ((Encoding.Dense) values).tensor(), 0);
                }
            }
            file.place(part(p.part()), position);
        }
    }
}
