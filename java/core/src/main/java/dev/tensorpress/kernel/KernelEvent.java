package dev.tensorpress.kernel;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Timespan;

/** Flight Recorder event {@code dev.tensorpress.Kernel}: one call of a kernel, on all threads of its executor. */
@Name("dev.tensorpress.Kernel")
@Label("Kernel")
@Category("Tensorpress")
@StackTrace(false)
final class KernelEvent extends Event {
    @Label("Kernel") String kernel;
    @Label("Device") String device;
    @Label("Weight") String weight;
    @Label("Lines") long lines;
    @Label("Bytes read") @DataAmount long bytesRead;
    @Label("Bytes written") @DataAmount long bytesWritten;
    @Label("Operations") long operations;
    @Label("Time of the device") @Timespan(Timespan.NANOSECONDS) long deviceTime;

    private transient long start;

    static KernelEvent started() {
        KernelEvent event = new KernelEvent();
        event.start = System.nanoTime();
        event.begin();
        return event;
    }

    /** @param executor null if it is the caller's thread, and no weight is known */
    void record(String name, Executor executor, long count, Native.Cost cost) {
        end();
        if (shouldCommit()) {
            kernel = name;
            device = "cpu";
            weight = executor == null ? "" : executor.subject();
            lines = count;
            bytesRead = cost.read();
            bytesWritten = cost.written();
            operations = cost.operations();
            deviceTime = System.nanoTime() - start;
            commit();
        }
    }
}
