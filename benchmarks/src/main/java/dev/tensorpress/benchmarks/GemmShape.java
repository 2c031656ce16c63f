package dev.tensorpress.benchmarks;

/** Sizes of dense products: a cube, those of encoders such as BERT for 32 to 512 tokens, and a tall one. */
public enum GemmShape {
    M1024_N1024_K1024(1024, 1024, 1024),
    M32_N384_K384(32, 384, 384),
    M32_N1536_K384(32, 1536, 384),
    M32_N384_K1536(32, 384, 1536),
    M32_N3072_K768(32, 3072, 768),
    M128_N384_K384(128, 384, 384),
    M128_N1536_K384(128, 1536, 384),
    M128_N384_K1536(128, 384, 1536),
    M128_N768_K768(128, 768, 768),
    M512_N384_K384(512, 384, 384),
    M512_N3072_K768(512, 3072, 768),
    M512_N768_K3072(512, 768, 3072),
    M4096_N256_K4096(4096, 256, 4096);

    final int m;
    final int n;
    final int k;

    GemmShape(int m, int n, int k) {
        this.m = m;
        this.n = n;
        this.k = k;
    }
}
