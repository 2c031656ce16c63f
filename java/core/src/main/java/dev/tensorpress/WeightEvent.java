package dev.tensorpress;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Timespan;

/** Flight Recorder event {@code dev.tensorpress.Weight}: one compressed weight. */
@Name("dev.tensorpress.Weight")
@Label("Weight compressed")
@Category("Tensorpress")
@StackTrace(false)
final class WeightEvent extends Event {
    @Label("Weight") String weight;
    @Label("Form") String form;
    @Label("Bytes before") @DataAmount long bytesBefore;
    @Label("Bytes after") @DataAmount long bytesAfter;
    @Label("Relative error") double relativeError;
    @Label("Time") @Timespan(Timespan.NANOSECONDS) long time;

    static void record(Report.Entry entry) {
        WeightEvent event = new WeightEvent();
        if (event.shouldCommit()) {
            Plan.Entry planned = entry.planned();
            event.weight = planned.weight().name();
            event.form = planned.form().describe();
            event.bytesBefore = planned.bytesBefore();
            event.bytesAfter = planned.bytesAfter();
            event.relativeError = entry.relativeError();
            event.time = entry.nanos();
            event.commit();
        }
    }
}
