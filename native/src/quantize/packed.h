/* Part of vector.h: codes in memory, one or two to a byte, and transposed. */

/* 32 codes to 16 bytes. */
INLINE __m128i pack32(const uint8_t *codes) {
    const __m256i x = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)codes), _mm256_set1_epi8(15));
    /* first + 16 * second in each pair */
    const __m256i pairs = _mm256_maddubs_epi16(x, _mm256_set1_epi16(0x1001));
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(pairs, pairs), 0xd8);
    return _mm256_castsi256_si128(bytes);
}

INLINE void pack_pairs(const uint8_t *codes, int64_t n, uint8_t *packed) {
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) _mm_storeu_si128((__m128i *)(packed + i / 2), pack32(codes + i));
    for (; i + 2 <= n; i += 2) packed[i / 2] = (uint8_t)((codes[i] & 15) | codes[i + 1] << 4);
}

INLINE void unpack32(bool sign, const uint8_t *packed, uint8_t *codes) {
    const __m128i x = _mm_loadu_si128((const __m128i *)packed), mask = _mm_set1_epi8(15);
    __m128i low = _mm_and_si128(x, mask), high = _mm_and_si128(_mm_srli_epi16(x, 4), mask);
    if (sign) {
        const __m128i eight = _mm_set1_epi8(8);
        low = _mm_sub_epi8(_mm_xor_si128(low, eight), eight);
        high = _mm_sub_epi8(_mm_xor_si128(high, eight), eight);
    }
    _mm_storeu_si128((__m128i *)codes, _mm_unpacklo_epi8(low, high));
    _mm_storeu_si128((__m128i *)(codes + 16), _mm_unpackhi_epi8(low, high));
}

/* Codes i .. i + n of a tensor, one to a byte. */
static void get_codes(tp_dtype type, const uint8_t *codes, int64_t i, int64_t n, uint8_t *to) {
    if (n == 0) return;
    if (type == TP_I8 || type == TP_U8) {
        memcpy(to, codes + i, (size_t)n);
        return;
    }
    int64_t k = 0;
    if (i % 2) to[k++] = tp_nibble(type, codes, i);
    for (; k + 32 <= n; k += 32) unpack32(type == TP_I4, codes + (i + k) / 2, to + k);
    for (; k < n; k++) to[k] = tp_nibble(type, codes, i + k);
}

/* Writes n codes to places i .. i + n of a tensor. */
static void put_codes(bool four_bits, uint8_t *codes, int64_t i, int64_t n, const uint8_t *from) {
    if (n == 0) return;
    if (!four_bits) {
        if (n == 64 && (uintptr_t)(codes + i) % 64 == 0)
            vb_stream(codes + i, vb_load(from));
        else
            memcpy(codes + i, from, (size_t)n);
        return;
    }
    int64_t k = 0;
    if (i % 2) tp_put_shared_nibble(codes, i, from[k++]);
    pack_pairs(from + k, n - k, codes + (i + k) / 2);
    if ((n - k) % 2) tp_put_shared_nibble(codes, i + n - 1, from[n - 1]);
}

/* Transposes 16 x 16 bytes. */
INLINE void transpose16(const uint8_t *from, int64_t from_stride, uint8_t *to, int64_t to_stride) {
    __m128i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm_loadu_si128((const __m128i *)(from + i * from_stride));
    /* Four perfect shuffles of the rows, each interleaving a half with the other, exchange row and column numbers. */
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 8; i++) {
            b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
            b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
        }
        for (int i = 0; i < 16; i++) a[i] = b[i];
    }
    for (int i = 0; i < 16; i++) _mm_storeu_si128((__m128i *)(to + i * to_stride), a[i]);
}
