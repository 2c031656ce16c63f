package dev.tensorpress;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;
import java.util.List;
import java.util.Random;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.TestTemplate;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.extension.Extension;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.TestTemplateInvocationContext;
import org.junit.jupiter.api.extension.TestTemplateInvocationContextProvider;

/**
 * How long tests with random numbers go on, and with which: {@code -Dtensorpress.effort=20} runs twenty rounds of each
 * {@link RandomTest}, {@code -Dtensorpress.seed=N} begins with the seed N instead of 1. Rounds print their seeds.
 */
public final class Effort implements TestTemplateInvocationContextProvider {
    /** The number of rounds; for loops that no seed repeats, such as races of threads, a factor. */
    public static final int ROUNDS = Integer.parseInt(System.getProperty("tensorpress.effort", "1"));

    private static final long FIRST = Long.parseLong(System.getProperty("tensorpress.seed", "1"));
    private static long seed = FIRST;

    /** A test that takes its numbers from {@link #random()} or {@link #seed()}, and runs once for each round. */
    @Target(ElementType.METHOD)
    @Retention(RetentionPolicy.RUNTIME)
    @TestTemplate
    @ExtendWith(Effort.class)
    public @interface RandomTest {}

    /** That of the round; the first one in tests without rounds. */
    public static long seed() {
        return seed;
    }

    /** Numbers from the start of {@link #seed()}. */
    public static Random random() {
        return new Random(seed);
    }

    @Override
    public boolean supportsTestTemplate(ExtensionContext context) {
        return true;
    }

    @Override
    public Stream<TestTemplateInvocationContext> provideTestTemplateInvocationContexts(ExtensionContext context) {
        return LongStream.range(FIRST, FIRST + ROUNDS).mapToObj(Round::new);
    }

    private record Round(long seed) implements TestTemplateInvocationContext {
        @Override
        public String getDisplayName(int index) {
            return "seed " + seed;
        }

        /** Before the test's object is made, which may take numbers as well. */
        @Override
        public void prepareInvocation(ExtensionContext context) {
            Effort.seed = seed;
            System.out.println(context.getRequiredTestClass().getSimpleName() + "." + context.getRequiredTestMethod().getName()
                    + ": -Dtensorpress.seed=" + seed);
        }

        @Override
        public List<Extension> getAdditionalExtensions() {
            return List.of((AfterEachCallback) context -> Effort.seed = FIRST);
        }
    }
}
