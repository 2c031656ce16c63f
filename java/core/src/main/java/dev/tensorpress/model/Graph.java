package dev.tensorpress.model;

import java.util.List;
import java.util.Optional;
import java.util.Set;

/**
 * What a model computes: its operators, and what they multiply with weights.
 *
 * @param operators all, in file order; those of a subgraph come behind all of the graph around it
 * @param feeds what products with weights read, in the order of the first product of each
 * @param tables weights of products whose rows are looked up as well
 */
public record Graph(List<Operator> operators, List<Feed> feeds, Set<Weight> tables) {
    public Graph {
        operators = List.copyOf(operators);
        feeds = List.copyOf(feeds);
        tables = Set.copyOf(tables);
    }

    /** An operator of a model. */
    public interface Operator {
        /** Such as {@code MatMul}. */
        String type();

        /** Whose operator it is, such as {@code com.microsoft}; empty for those of the format itself. */
        String domain();

        /** Empty if it has none. */
        String name();

        /** What messages call it: its name, or else that of its first result. */
        String label();

        /** Where it is: empty, or in a subgraph what names of weights begin with there. */
        String path();

        /** What it reads, in its order, without operands that are left out. */
        List<Value> operands();

        /** What it makes, in its order, without results that are left out. */
        List<Value> results();
    }

    /** Something that operators read or make. One value is one object. */
    public interface Value {
        /** As the file has it; unique in its graph. */
        String name();

        /** As of an {@link Operator}. Values of the graphs around a subgraph can be read there. */
        String path();

        /** Empty of inputs and constants. */
        Optional<Operator> producer();

        /** What reads it, in subgraphs too; an operator that reads it twice is there twice. */
        List<Operator> readers();

        /** Whether the graph hands it out. */
        boolean isOutput();
    }

    /**
     * One value that products with weights sum over, along one axis. Who scales it along that axis has to scale all these weights
     * against it, along their input axes. A weight can be in several feeds.
     *
     * @param value what the products read; where operators between only move or convert it and leave the axis as it is, what
     *     those read
     * @param axis of the value, from its first one, or from its end if negative
     * @param normalization if the value is the result of one along that axis
     * @param exclusive whether nothing but these products reads its elements, and it is no output
     * @param source where scales of the value can go to
     * @param products with one weight each, in the order of the operators
     */
    public record Feed(Value value, int axis, Optional<Normalization> normalization, boolean exclusive, Source source,
            List<Product> products) {
        public Feed {
            products = List.copyOf(products);
        }
    }

    /**
     * Where the sizes of a feed's channels come from. Who divides these weights by positive numbers, one for each channel, divides what the
     * products of the feed read by them, and nothing else; multiplied by the same numbers along their input axes, the weights of the
     * products make up for it, and the model computes what it did. None of all these weights has another use, or is cut or joined.
     *
     * @param weights scale and bias of a normalization, or matrix and bias of a product, that one first; none if there is no such place
     * @param why there is none, for messages: a sentence without its full stop; empty if there is one
     */
    public record Source(List<Channels> weights, String why) {
        public Source {
            weights = List.copyOf(weights);
        }
    }

    /**
     * A weight that has channels.
     *
     * @param axis whose indices they are
     */
    public record Channels(Weight weight, int axis) {}

    /**
     * A product, convolution or recurrent operator with a weight, or with a matrix that operators make by moving or joining weights.
     *
     * @param input what it reads beside the weight
     * @param window of a convolution along one or two axes whose padding does not depend on its input; empty of all others
     * @param bias what is added to its result, an element for each output, and has no other use
     * @param result what becomes of that of a convolution; empty of others
     */
    public record Product(Operator operator, Weight weight, Value input, Optional<Window> window, Optional<Weight> bias,
            Optional<Result> result) {}

    /**
     * What becomes of a convolution's sums before anything else can read them.
     *
     * @param value these, scaled and shifted output by output, as batch normalization does, if that follows
     * @param scale of each output; not to be changed
     * @param activation a function of single elements, if that alone reads the value
     */
    public record Result(Value value, float[] scale, Optional<Activation> activation) {}

    /**
     * An activation function.
     *
     * @param value what it makes
     * @param clamps whether it does nothing between its bounds
     * @param least what it makes of less it makes of this as well; at most 0
     * @param most alike
     */
    public record Activation(Value value, boolean clamps, float least, float most) {}

    /**
     * Where a convolution looks, along the last two axes of its input [n, channels, height, width], or [n, channels, width], which is one
     * of height 1. A position of the result is one patch of the input: of each group of channels, channels / groups times height times
     * width elements, in that order, as a line of the weight has them.
     *
     * @param height of the kernel
     * @param width of the kernel
     * @param strides along height and width, as all that follows
     * @param dilations steps within the kernel
     * @param before rows and columns of zeros before the input
     * @param after rows and columns of zeros behind it
     */
    public record Window(int height, int width, Pair strides, Pair dilations, Pair before, Pair after, int groups) {
        /** Of height and width. */
        public record Pair(int height, int width) {
            @Override
            public String toString() {
                return height + "x" + width;
            }
        }

        /** What 1 by 1 kernels see: each position by itself. */
        public static final Window POINT =
                new Window(1, 1, new Pair(1, 1), new Pair(1, 1), new Pair(0, 0), new Pair(0, 0), 1);

        public Window {
            if (height < 1 || width < 1 || groups < 1 || least(strides) < 1 || least(dilations) < 1 || least(before) < 0 || least(after) < 0) {
                throw new IllegalArgumentException("a window of " + height + "x" + width + ", strides " + strides + ", dilations " + dilations
                        + ", padded by " + before + " and " + after + ", " + groups + " groups");
            }
        }

        private static int least(Pair pair) {
            return Math.min(pair.height, pair.width);
        }
    }

    /**
     * One operator that normalizes, or several that together do.
     *
     * @param scale what its result is multiplied with, element by element along the axis; others may read it as well, which
     *     {@link Weight#uses} tells
     * @param bias what is added then
     */
    public record Normalization(Norm norm, Optional<Weight> scale, Optional<Weight> bias) {
        /** What it makes alike: each line of the axis, without or with the mean taken off, or what else has the same index of it. */
        public enum Norm { RMS, LAYER, BATCH, INSTANCE, GROUP }
    }
}
