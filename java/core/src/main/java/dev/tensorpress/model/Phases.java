package dev.tensorpress.model;

import java.util.EnumMap;
import java.util.Locale;
import java.util.Map;
import jdk.jfr.FlightRecorder;

/**
 * Where the time of one compression or expansion goes: added up here, and told to Flight Recorder. Reading and writing have threads of
 * their own, and kernels several, so that times of phases overlap. Thread-safe.
 */
public final class Phases {
    /** A kind of work. */
    public enum Phase {
        /** Choosing forms, and looking at the weights that have to be seen for it. */
        PLAN,
        /** From files to memory. */
        READ,
        /** Encoding or decoding, and measuring. */
        KERNEL,
        /** From memory to files, hashes of streamed ones included. */
        WRITE,
        /** Waiting until a finished file is on disk. */
        FSYNC;

        /** Lower case, as in reports. */
        public String id() {
            return name().toLowerCase(Locale.ROOT);
        }
    }

    /**
     * What a phase took.
     *
     * @param nanos sum over all its spans
     * @param bytes read, encoded as they were before, decoded as they are after, or written
     */
    public record Spent(long nanos, long bytes) {
        static final Spent NOTHING = new Spent(0, 0);

        /** NaN if there were none. */
        public double bytesPerSecond() {
            return bytes == 0 || nanos == 0 ? Double.NaN : bytes / (nanos * 1e-9);
        }
    }

    private final Map<Phase, Spent> spent = new EnumMap<>(Phase.class);

    /** A piece of work that goes on. What fails is never ended, and does not count. */
    public final class Span {
        private final Phase phase;
        /** Null unless Flight Recorder runs: loading the event's class is what start-up would notice. */
        private final PhaseEvent event;
        private final long start;

        private Span(Phase phase) {
            this.phase = phase;
            event = FlightRecorder.isInitialized() ? PhaseEvent.started() : null;
            start = System.nanoTime();
        }

        /**
         * The work is done.
         *
         * @param subject of the event: a file or a weight's name
         * @return its nanoseconds
         */
        public long end(Object subject, long bytes) {
            long nanos = System.nanoTime() - start;
            if (event != null) {
                event.record(phase, subject, bytes);
            }
            add(phase, nanos, bytes);
            return nanos;
        }
    }

    private synchronized void add(Phase phase, long nanos, long bytes) {
        Spent before = of(phase);
        spent.put(phase, new Spent(before.nanos + nanos, before.bytes + bytes));
    }

    /** The work begins, on this thread, which ends it as well. */
    public Span begin(Phase phase) {
        return new Span(phase);
    }

    /** What was spent so far. */
    public synchronized Spent of(Phase phase) {
        return spent.getOrDefault(phase, Spent.NOTHING);
    }
}
