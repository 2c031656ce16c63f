package dev.tensorpress.model;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** Flight Recorder event {@code dev.tensorpress.Phase}: a piece of the work of one phase. */
@Name("dev.tensorpress.Phase")
@Label("Phase")
@Category("Tensorpress")
@StackTrace(false)
final class PhaseEvent extends Event {
    @Label("Phase") String phase;
    @Label("Subject") String subject;
    @Label("Bytes") @DataAmount long bytes;

    static PhaseEvent started() {
        PhaseEvent event = new PhaseEvent();
        event.begin();
        return event;
    }

    /** @param of a file or the name of a weight */
    void record(Phases.Phase work, Object of, long bytesDone) {
        end();
        if (shouldCommit()) {
            phase = work.id();
            subject = of.toString();
            bytes = bytesDone;
            commit();
        }
    }
}
