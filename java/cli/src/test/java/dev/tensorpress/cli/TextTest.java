package dev.tensorpress.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class TextTest {
    @Test
    void counts() {
        assertEquals("0", Text.count(0));
        assertEquals("999", Text.count(999));
        assertEquals("1,000", Text.count(1000));
        assertEquals("90,984,153", Text.count(90_984_153));
        assertEquals("-12,345", Text.count(-12_345));
        assertEquals("1 weight", Text.plural(1, "weight"));
        assertEquals("0 weights", Text.plural(0, "weight"));
    }

    @Test
    void sizes() {
        assertEquals("208 bytes", Text.size(208));
        assertEquals("1.0 KiB", Text.size(1024));
        assertEquals("86.8 MiB", Text.size(90_984_153));
    }

    @Test
    void decimals() {
        assertEquals("0.5", Text.fixed(0.45, 1));
        assertEquals("-0.45", Text.fixed(-0.45, 2));
        assertEquals("0.0", Text.fixed(-0.01, 1));
        assertEquals("12", Text.fixed(12.4, 0));
        assertEquals("0.99978", Text.fixed(0.999778, 5));
        assertEquals("NaN", Text.fixed(Double.NaN, 2));
        assertEquals("25.8 %", Text.percent(0.2576));
    }

    @Test
    void digitsThatCount() {
        assertEquals("0", Text.digits(0));
        assertEquals("0.00652", Text.digits(0.006519));
        assertEquals("12.3", Text.digits(12.34));
        assertEquals("12345", Text.digits(12345));
        assertEquals("4.10e-7", Text.digits(4.1e-7));
        assertEquals("1.00e-5", Text.digits(0.999999e-5));
        assertEquals("Infinity", Text.digits(Double.POSITIVE_INFINITY));
    }

    @Test
    void times() {
        assertEquals("4.2 ms", Text.time(4_200_000));
        assertEquals("0.31 s", Text.time(310_000_000));
    }

    @Test
    void tablesAlign() {
        Table table = new Table("A", ">BYTES", "C");
        table.row("long", "1", "");
        table.row("s", "1,000", "x");
        assertEquals("A     BYTES  C\nlong      1\ns     1,000  x\n", table.toString());
    }
}
