/** What is known of the values that a model computes: gathered on samples, kept in files, asked by methods. */
package dev.tensorpress.statistics;
