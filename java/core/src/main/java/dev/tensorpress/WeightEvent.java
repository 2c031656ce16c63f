package dev.tensorpress;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Timespan;

/** Flight Recorder event {@code dev.tensorpress.Weight}: one compressed weight, from its first part to its last. */
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
    @Label("Time of kernels") @Timespan(Timespan.NANOSECONDS) long time;

    static WeightEvent started() {
        WeightEvent event = new WeightEvent();
        event.begin();
        return event;
    }

    void record(Report.Entry entry) {
        end();
        if (shouldCommit()) {
            Plan.Entry planned = entry.planned();
            weight = planned.weight().name();
            form = planned.describe();
            bytesBefore = planned.bytesBefore();
            bytesAfter = planned.after();
            relativeError = entry.relativeError();
            time = entry.nanos();
            commit();
        }
    }
}
