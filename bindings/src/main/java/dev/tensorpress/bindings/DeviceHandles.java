package dev.tensorpress.bindings;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Memory of devices, as far as Java may know it. */
public final class DeviceHandles {
    private DeviceHandles() {
    }

    /** An address that no Java code can follow, since the segment has no bytes; alive as long as the arena. */
    @SuppressWarnings("restricted")
    public static MemorySegment of(MemorySegment address, Arena arena) {
        return MemorySegment.ofAddress(address.address()).reinterpret(arena, null);
    }
}
