package dev.tensorpress.model.onnx;

import dev.tensorpress.model.Role;

/** What one reader, or all readers, do with a weight. Axes are those of the weight. */
record Purpose(Role role, int in, int out, boolean replaceable, String obstacle) {
    static final Purpose OTHER = new Purpose(Role.OTHER, -1, -1, false, null);

    static Purpose of(Role role, int in, int out, boolean replaceable) {
        return new Purpose(role, in, out, replaceable, null);
    }

    static Purpose blocked(String why) {
        return new Purpose(Role.OTHER, -1, -1, false, why);
    }

    Purpose and(Purpose other) {
        if (obstacle != null || other.obstacle != null) {
            return obstacle != null ? this : other;
        }
        if (tied(other)) {
            return of(other.role, other.in, other.out, replaceable && other.replaceable);
        }
        if (other.tied(this)) {
            return other.and(this);
        }
        boolean products = role.isProduct() && other.role.isProduct();
        if (role != other.role && !products || in != other.in || out != other.out) {
            return blocked("its readers disagree: " + describe() + " for one, " + other.describe()
                    + " for another");
        }
        return of(role == Role.HEAD ? role : other.role, in, out, replaceable && other.replaceable);
    }

    /** A table whose rows make scores as well is the matrix of that product, which bears less than a table does. */
    private boolean tied(Purpose product) {
        return role == Role.EMBEDDING && product.role.isProduct() && out == product.out;
    }

    private String describe() {
        return role.id() + (out < 0 ? "" : " with outputs along axis " + out);
    }
}
