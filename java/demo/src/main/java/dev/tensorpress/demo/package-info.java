/** The classic experiments of model compression, each from its data to a table: what {@code tensorpress demo NAME} runs. */
package dev.tensorpress.demo;
