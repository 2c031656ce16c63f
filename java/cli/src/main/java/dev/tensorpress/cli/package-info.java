/**
 * The {@code tensorpress} command. {@link dev.tensorpress.cli.Main} picks a {@link dev.tensorpress.cli.Command}; each
 * declares its {@link dev.tensorpress.cli.Syntax}, which Commons CLI parses, and does its work.
 *
 * <p>A command's start is a good part of the time that compressing a model takes. Hence no formats, regular expressions
 * or streams on the way of {@code compress}, and no library whose classes the JVM's AOT cache does not take, which are
 * those compiled for Java 5 and before, such as picocli's.
 */
package dev.tensorpress.cli;
