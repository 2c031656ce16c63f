package dev.tensorpress.model.archive;

import dev.tensorpress.kernel.Sha256;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayDeque;
import java.util.Deque;

/**
 * The root of a binary tree of SHA-256 over leaves that come one by one. What is hashed begins with 0 for a leaf and with 1 for a node of
 * two, so that none can stand for the other. Of n leaves the left branch has the largest power of two below n.
 */
final class HashTree {
    static final int DIGEST = 32;
    private static final byte LEAF = 0;
    private static final byte NODE = 1;

    private final Sha256 hash;
    private final MemorySegment node;
    /** Whole subtrees from left to right, each smaller than the one before. */
    private final Deque<Subtree> subtrees = new ArrayDeque<>();

    private record Subtree(long leaves, byte[] digest) {}

    /** @param arena that the working memory is in */
    HashTree(Arena arena) {
        hash = new Sha256(arena);
        node = arena.allocate(1 + 2 * DIGEST);
        node.set(ValueLayout.JAVA_BYTE, 0, NODE);
    }

    /** Makes digests of leaves, on any one thread. */
    static final class Leaf {
        private final Sha256 hash;
        private final MemorySegment prefix;

        Leaf(Arena arena) {
            hash = new Sha256(arena);
            prefix = arena.allocate(1);
            prefix.set(ValueLayout.JAVA_BYTE, 0, LEAF);
        }

        /** Of bytes off-heap. */
        byte[] digest(MemorySegment bytes) {
            hash.update(prefix);
            hash.update(bytes);
            return hash.digest();
        }
    }

    /** A leaf's digest. */
    void add(byte[] leaf) {
        Subtree last = new Subtree(1, leaf);
        while (!subtrees.isEmpty() && subtrees.getLast().leaves == last.leaves) {
            last = join(subtrees.removeLast(), last);
        }
        subtrees.addLast(last);
    }

    /** Of all leaves, of which there is at least one; no more come. */
    byte[] root() {
        Subtree right = subtrees.removeLast();
        while (!subtrees.isEmpty()) {
            right = join(subtrees.removeLast(), right);
        }
        return right.digest;
    }

    private Subtree join(Subtree left, Subtree right) {
        MemorySegment.copy(left.digest, 0, node, ValueLayout.JAVA_BYTE, 1, DIGEST);
        MemorySegment.copy(right.digest, 0, node, ValueLayout.JAVA_BYTE, 1 + DIGEST, DIGEST);
        hash.update(node);
        return new Subtree(left.leaves + right.leaves, hash.digest());
    }
}
