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

    /**
     * The call ran on the processor, and is over.
     *
     * @param executor null if it is the caller's thread, and no weight is known
     */
    void record(String name, Executor executor, long count, Native.Cost cost) {
        record(name, Device.CPU, executor == null ? "" : executor.subject(), System.nanoTime() - start, count, cost);
    }

    /** The call ran on the executor's device, where its kernels took so long, and is over. */
    void record(String name, CudaExecutor executor, long nanos, long count, Native.Cost cost) {
        record(name, executor.device(), executor.subject(), nanos, count, cost);
    }

    private void record(String name, Device where, String subject, long nanos, long count, Native.Cost cost) {
        end();
        if (shouldCommit()) {
            kernel = name;
            device = where.toString();
            weight = subject;
            lines = count;
            bytesRead = cost.read();
            bytesWritten = cost.written();
            operations = cost.operations();
            deviceTime = nanos;
            commit();
        }
    }
}
