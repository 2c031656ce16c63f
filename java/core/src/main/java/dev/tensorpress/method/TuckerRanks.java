package dev.tensorpress.method;

import dev.tensorpress.kernel.Tucker;
import dev.tensorpress.kernel.Tucker.Ranks;

/**
 * Ways to choose the ranks of a Tucker decomposition from the spectra of the kernel seen as a matrix by outputs, and by inputs. Cutting both
 * off adds to the squared error what the two lack together at most (De Lathauwer, De Moor and Vandewalle 2000), and iterating lowers it.
 *
 * @param outputs of the matrix [outputs, inputs times places]
 * @param inputs of the matrix [inputs, outputs times places]
 */
record TuckerRanks(Tucker.Size size, Spectrum outputs, Spectrum inputs) {
    /** The fewest elements with which no more than this part of the energy is lost, 0 to 1, whatever the iteration does. */
    Ranks losing(double part) {
        Ranks best = null;
        long q = inputs.size();
        for (long r = 1; r <= outputs.size(); r++) {
            double left = part + Spectrum.ACCURACY - outputs.lost(r);
            while (q > 1 && inputs.lost(q - 1) <= left) {
                q--;
            }
            Ranks ranks = fitting(r, q);
            if (ranks != null && inputs.lost(q) <= left && (best == null || ranks.elements(size) < best.elements(size))) {
                best = ranks;
            }
        }
        return best;
    }

    /** What stands out of noise, at least 1 each. */
    Ranks significant() {
        long r = Math.max(1, outputs.significant(size.outputs(), size.inputs() * size.places()));
        long q = Math.max(1, inputs.significant(size.inputs(), size.outputs() * size.places()));
        // Of noise that is none, as zeros are, the two may differ by more than a core can.
        return new Ranks(Math.min(r, q * size.places()), Math.min(q, r * size.places()));
    }

    /** With as many inputs as these outputs need; null if that are more outputs than inputs can have. */
    private Ranks fitting(long r, long q) {
        long more = Math.max(q, Math.ceilDiv(r, size.places()));
        return more > r * size.places() ? null : new Ranks(r, more);
    }
}
