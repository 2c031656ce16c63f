/** Changes of what a model computes: graphs that get smaller, and the same or nearly the same results. */
package dev.tensorpress.structure;
