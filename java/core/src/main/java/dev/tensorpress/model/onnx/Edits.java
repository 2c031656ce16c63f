package dev.tensorpress.model.onnx;

import dev.tensorpress.model.onnx.OnnxGraph.Attribute;
import dev.tensorpress.model.onnx.OnnxGraph.Node;
import dev.tensorpress.model.onnx.Rope.Edit;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** What changes in the graphs of a model, in any order, and the model file with all of it. */
final class Edits {
    private final OnnxModel model;
    private final List<Edit> top = new ArrayList<>();
    private final Map<OnnxGraph, List<Edit>> inGraphs = new IdentityHashMap<>();
    private final Map<Attribute, List<Edit>> inAttributes = new IdentityHashMap<>();
    private final Map<OnnxGraph, List<Node>> touched = new IdentityHashMap<>();
    private final Set<Node> seen = new HashSet<>();
    private final Map<List<OnnxGraph.Described>, Set<String>> removed = new IdentityHashMap<>();

    Edits(OnnxModel model) {
        this.model = model;
    }

    /** Inserts fields of the model itself, outside of its graph. */
    void insert(long at, Proto fields) {
        top.add(new Edit(at, at, new Rope().add(fields)));
    }

    /** Replaces fields of a graph. */
    void replace(OnnxGraph g, long from, long to, Rope with) {
        list(inGraphs, g).add(new Edit(from, to, with));
    }

    void insert(OnnxGraph g, long at, Rope fields) {
        replace(g, at, at, fields);
    }

    /** Other nodes in the place of one. */
    void replace(Node n, Rope with) {
        replace(n.graph, n.fieldStart, n.end, with);
    }

    /** Other contents of the tensor field of a node's attribute. */
    void replaceTensor(Node n, Attribute a, Rope with) {
        touch(n);
        list(inAttributes, a).add(new Edit(a.tensorField, a.tensorEnd, with));
    }

    /** Removes descriptions of a name, if there are any, from a list of a graph. */
    void remove(List<OnnxGraph.Described> from, String name) {
        Set<String> names = removed.get(from);
        if (names == null) {
            names = new HashSet<>();
            removed.put(from, names);
        }
        names.add(name);
    }

    private void removeFrom(OnnxGraph g, List<OnnxGraph.Described> list) {
        Set<String> names = removed.getOrDefault(list, Set.of());
        for (OnnxGraph.Described d : list) {
            if (names.contains(d.name())) {
                replace(g, d.fieldStart(), d.end(), new Rope());
            }
        }
    }

    private void touch(Node n) {
        if (seen.add(n)) {
            list(touched, n.graph).add(n);
        }
    }

    private static <K, V> List<V> list(Map<K, List<V>> map, K key) {
        List<V> l = map.get(key);
        if (l == null) {
            l = new ArrayList<>();
            map.put(key, l);
        }
        return l;
    }

    /** The whole file. From the innermost graphs outwards, since the length of each is written in front of it. */
    Rope assemble() {
        List<OnnxGraph> graphs = model.parsed().graphs;
        for (int i = graphs.size() - 1; i >= 0; i--) {
            OnnxGraph g = graphs.get(i);
            List<Node> nodes = touched.get(g);
            if (nodes != null) {
                for (Node n : nodes) {
                    replace(n, node(n));
                }
            }
            removeFrom(g, g.valueInfos);
            removeFrom(g, g.inputs);
            List<Edit> own = inGraphs.get(g);
            if (own == null) {
                continue;
            }
            Edit e = new Edit(g.fieldStart, g.end, Rope.splice(g.start, g.end, own).field(g.field));
            if (g.parent == null) {
                top.add(e);
            } else {
                list(inAttributes, g.attribute).add(e);
                touch(g.owner);
            }
        }
        return Rope.splice(0, model.size(), top);
    }

    private Rope node(Node n) {
        List<Edit> inNode = new ArrayList<>();
        for (Attribute a : n.attributes) {
            List<Edit> inAttribute = inAttributes.get(a);
            if (inAttribute != null) {
                inNode.add(new Edit(a.fieldStart, a.end, Rope.splice(a.start, a.end, inAttribute).field(5)));
            }
        }
        return Rope.splice(n.start, n.end, inNode).field(1);
    }
}
