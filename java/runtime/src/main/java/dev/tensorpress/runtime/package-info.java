/** Runs the original and the compressed model in ONNX Runtime and compares what they say and how long they take. */
package dev.tensorpress.runtime;
