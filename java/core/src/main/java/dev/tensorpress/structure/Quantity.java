package dev.tensorpress.structure;

import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * A number that is known, or a known multiple of sizes that are not known before a model runs.
 *
 * @param factor the number; what the symbols are multiplied with
 * @param symbols sorted, one for each unknown size; empty of a number that is known
 */
public record Quantity(long factor, List<String> symbols) {
    /** What every product begins with. */
    public static final Quantity ONE = of(1);

    /** A known number. */
    public static Quantity of(long number) {
        return new Quantity(number, List.of());
    }

    static Quantity symbol(String name) {
        return new Quantity(1, List.of(name));
    }

    /** Whether it has no symbols. */
    public boolean known() {
        return symbols.isEmpty();
    }

    /** Whether it is this number. */
    public boolean is(long number) {
        return known() && factor == number;
    }

    /** The product; empty if its factor does not fit in a {@code long}, or if it has more than 16 symbols. */
    Optional<Quantity> times(Quantity other) {
        long high = Math.multiplyHigh(factor, other.factor);
        long low = factor * other.factor;
        if (high != low >> 63 || symbols.size() + other.symbols.size() > 16) {
            return Optional.empty();
        }
        if (low == 0) {
            return Optional.of(of(0));
        }
        List<String> all = new ArrayList<>(symbols);
        all.addAll(other.symbols);
        all.sort(null);
        return Optional.of(new Quantity(low, List.copyOf(all)));
    }

    /** The quotient; empty if it is not known to be a whole number. */
    Optional<Quantity> dividedBy(Quantity other) {
        if (other.factor == 0 || factor % other.factor != 0) {
            return Optional.empty();
        }
        List<String> rest = new ArrayList<>(symbols);
        for (String s : other.symbols) {
            if (!rest.remove(s)) {
                return Optional.empty();
            }
        }
        return Optional.of(new Quantity(factor / other.factor, List.copyOf(rest)));
    }

    /** For example {@code 384}, {@code batch} or {@code 12*batch}. */
    @Override
    public String toString() {
        String product = String.join("*", symbols);
        return known() ? Long.toString(factor) : factor == 1 ? product : factor + "*" + product;
    }
}
