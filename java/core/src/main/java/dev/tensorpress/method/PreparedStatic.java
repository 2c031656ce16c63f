package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.Role;
import dev.tensorpress.model.Weight;
import java.util.Optional;

/** What makes codes of weights, with codes for the activations around them. */
record PreparedStatic(Prepared codes, StaticActivations activations) implements Prepared {
    @Override
    public Method method() {
        return codes.method();
    }

    @Override
    public Form plan(Weight weight, Form current) {
        Form form = codes.plan(weight, current);
        return switch (form.kind()) {
            case QUANTIZED -> activations.of(weight, form.quantized());
            case SPARSE -> form.quantized() == null ? form : form.sparse().of(activations.of(weight, form.quantized()));
            case DENSE, CODEBOOK, TRANSFORMED, HASHED, LOW_RANK, CHAIN, SUM -> form;
        };
    }

    /** {@inheritDoc} The bias of a convolution of codes is of codes itself, and makes up for the mean by that of the input. */
    @Override
    public Optional<Weight> companion(Weight weight) {
        return weight.role() == Role.CONV && activations.reason(weight).isEmpty() ? Optional.empty() : codes.companion(weight);
    }

    @Override
    public Optional<Loss> loss(Weight weight) {
        return codes.loss(weight);
    }

    @Override
    public Optional<Zeros> zeros(Weight weight) {
        return codes.zeros(weight);
    }

    @Override
    public boolean powersOfTwo() {
        return codes.powersOfTwo();
    }

    @Override
    public String note(Weight weight, Form form) {
        String note = codes.note(weight, form);
        String reason = activations.reason(weight);
        return note.isEmpty() || reason.isEmpty() ? note + reason : note + "; " + reason;
    }

    @Override
    public boolean byRows(Weight weight, Form form) {
        return codes.byRows(weight, form);
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        return codes.apply(weight, current, form, workspace);
    }
}
