package dev.tensorpress.method;

import dev.tensorpress.encoding.Encoding;
import dev.tensorpress.encoding.Form;
import dev.tensorpress.model.UnsupportedRequestException;
import dev.tensorpress.model.Weight;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.PriorityQueue;

/** A {@link FactorizeMethod} that knows the rank of each of its weights. */
final class PreparedFactorize implements Prepared {
    private final FactorizeMethod method;
    private final Map<String, Chosen> chosen = new HashMap<>();
    /** Why the method takes none of its weights, or null. */
    private String refusal;
    /** Why it does not take single ones. */
    private final Map<String, String> tooLarge = new HashMap<>();

    /** @param rank 0 to leave the weight whole */
    private record Chosen(Spectrum spectrum, long rank) {}

    private PreparedFactorize(FactorizeMethod method) {
        this.method = method;
    }

    static PreparedFactorize of(FactorizeMethod method, Evidence evidence) {
        Workspace workspace = evidence.workspace();
        PreparedFactorize choice = new PreparedFactorize(method);
        List<Weight> able = new ArrayList<>();
        List<Spectrum> spectra = new ArrayList<>();
        for (Weight weight : evidence.weights()) {
            try {
                Factors.matrix(weight);
            } catch (UnsupportedRequestException e) {
                continue; // the plan asks again, and shows the reason
            }
            String large = workspace.tooLarge(weight);
            if (large != null) {
                choice.tooLarge.put(weight.name(), large);
                continue;
            }
            able.add(weight);
            spectra.add(Factors.spectrum(weight, workspace));
        }
        if (method.budget() >= 0) {
            choice.together(able, spectra);
            return choice;
        }
        for (int i = 0; i < able.size(); i++) {
            Spectrum s = spectra.get(i);
            choice.chosen.put(able.get(i).name(), new Chosen(s, s.rank(method.allowed())));
        }
        return choice;
    }

    /** One weight on its way to fewer bytes: whole, then in factors of ever smaller rank. */
    private static final class Candidate {
        final int index;
        final Spectrum spectrum;
        final Factors.Matrix matrix;
        /** Bytes of an element. */
        final long size;
        /** Of the energy, as errors are compared: that of the weight, or 1. */
        final double squares;
        /** The largest rank that saves anything. */
        final long limit;
        long rank;
        /** The next rank, and the squared error that each byte saved on the way to it costs. */
        long next;
        double price;

        Candidate(int index, Weight weight, Spectrum spectrum, boolean relative) {
            this.index = index;
            this.spectrum = spectrum;
            squares = relative ? 1 : spectrum.squares();
            matrix = Factors.matrix(weight);
            size = weight.tensor().dtype().bytes(1);
            limit = (weight.tensor().shape().elements() - 1) / matrix.elements(1);
            first();
        }

        long bytes(long ofRank) {
            return size * (ofRank == 0 ? matrix.rows() * matrix.cols() : matrix.elements(ofRank));
        }

        /** From the whole weight: the rank at which the saved bytes cost least. Beyond it each rank costs more. */
        private void first() {
            price = Double.POSITIVE_INFINITY;
            for (long r = limit; r >= 1; r--) {
                double cost = spectrum.lost(r) * squares / (bytes(0) - bytes(r));
                if (cost < price) {
                    price = cost;
                    next = r;
                }
            }
        }

        /** @return whether there is a further step */
        boolean step() {
            rank = next;
            next = rank - 1;
            if (next == 0) {
                return false;
            }
            price = (spectrum.lost(next) - spectrum.lost(rank)) * squares / (bytes(rank) - bytes(next));
            return true;
        }
    }

    private void together(List<Weight> weights, List<Spectrum> spectra) {
        List<Candidate> candidates = new ArrayList<>();
        PriorityQueue<Candidate> queue = new PriorityQueue<>(
                (a, b) -> a.price != b.price ? Double.compare(a.price, b.price) : Integer.compare(a.index, b.index));
        long total = 0;
        for (int i = 0; i < weights.size(); i++) {
            Candidate c = new Candidate(i, weights.get(i), spectra.get(i), method.relative());
            candidates.add(c);
            total += c.bytes(0);
            if (c.limit >= 1) {
                queue.add(c);
            }
        }
        while (total > method.budget()) {
            Candidate c = queue.poll();
            if (c == null) {
                refusal = "even at rank 1 these weights take " + total + " bytes, more than the budget of " + method.budget();
                return;
            }
            total -= c.bytes(c.rank);
            if (c.step()) {
                queue.add(c);
            }
            total += c.bytes(c.rank);
            if (total <= method.budget()) {
                // The last step may have been a long one: what is left of the budget is this weight's, if it has a use for it.
                long useful = Math.min(c.limit, c.spectrum.rank(Spectrum.ACCURACY));
                c.rank = Math.max(c.rank, Math.min(useful, c.rank + (method.budget() - total) / c.bytes(1)));
            }
        }
        for (Candidate c : candidates) {
            chosen.put(weights.get(c.index).name(), new Chosen(c.spectrum, c.rank));
        }
    }

    @Override
    public FactorizeMethod method() {
        return method;
    }

    @Override
    public Form plan(Weight weight, Form current) {
        FactorizeMethod.check(weight, current);
        if (tooLarge.containsKey(weight.name())) {
            throw new UnsupportedRequestException(tooLarge.get(weight.name()));
        }
        if (refusal != null) {
            throw new UnsupportedRequestException(refusal);
        }
        Chosen c = chosen.get(weight.name());
        if (c == null) {
            throw new IllegalStateException("weight " + weight.name() + " was not among those that were looked at");
        }
        if (c.rank == 0) {
            throw new NoGainException(method.describe() + " leaves it whole");
        }
        return FactorizeMethod.form(weight, c.rank, ", and less would not keep to " + method.describe());
    }

    @Override
    public Optional<Loss> loss(Weight weight) {
        Chosen c = chosen.get(weight.name());
        return Optional.of(new Loss(c.spectrum.lost(c.rank), Double.NaN));
    }

    @Override
    public Encoding apply(Weight weight, Encoding current, Form form, Workspace workspace) {
        Form.LowRank f = (Form.LowRank) form;
        return FactorizeMethod.apply(weight, f, chosen.get(weight.name()).spectrum, method.allowed(), workspace);
    }
}
