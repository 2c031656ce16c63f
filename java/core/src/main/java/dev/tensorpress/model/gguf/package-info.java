/** Importance matrices of llama.cpp: what the inputs of weights are like, by the names that weights have in GGUF. */
package dev.tensorpress.model.gguf;
