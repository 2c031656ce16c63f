/** The Tensorpress library. */
module dev.tensorpress {
    requires dev.tensorpress.bindings;
    requires jdk.jfr;
    requires org.snakeyaml.engine;
    requires com.fasterxml.jackson.core;
    requires com.github.luben.zstd_jni;
    requires static org.bouncycastle.provider;

    exports dev.tensorpress;
    exports dev.tensorpress.encoding;
    exports dev.tensorpress.kernel;
    exports dev.tensorpress.model;
    exports dev.tensorpress.model.archive;
    exports dev.tensorpress.model.compressedtensors;
    exports dev.tensorpress.model.gguf;
    exports dev.tensorpress.model.onnx;
    exports dev.tensorpress.model.safetensors;
    exports dev.tensorpress.method;
    exports dev.tensorpress.statistics;
    exports dev.tensorpress.structure;
    exports dev.tensorpress.tensor;
}
