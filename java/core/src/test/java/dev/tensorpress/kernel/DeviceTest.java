package dev.tensorpress.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class DeviceTest {
    @Test
    void namesAreReadAndWritten() {
        assertEquals(Device.CPU, Device.of("cpu"));
        assertEquals(Device.cuda(0), Device.of("cuda"));
        assertEquals(Device.cuda(12), Device.of("cuda:12"));
        for (Device device : new Device[] {Device.CPU, Device.cuda(0), Device.cuda(7)}) {
            assertEquals(device, Device.of(device.toString()));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda: 1", "cuda:1x", "cuda:99999999999", "cpu:0", "cuda0", "cuda:\u0661"})
    void otherNamesAreRefused(String name) {
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> Device.of(name));
        assertEquals("a device is cpu, cuda, or cuda:0, cuda:1 and so on, not '" + name + "'", e.getMessage());
    }

    @Test
    void numbersOfDevicesAreNotNegative() {
        assertThrows(IllegalArgumentException.class, () -> Device.cuda(-1));
        assertThrows(IllegalArgumentException.class, () -> new Device(Device.Kind.CPU, 1));
    }
}
