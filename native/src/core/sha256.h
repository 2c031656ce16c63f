/* SHA-256 of whole blocks. */
#ifndef TP_CORE_SHA256_H
#define TP_CORE_SHA256_H

#include <stdint.h>

enum { TP_SHA256_BLOCK = 64 };

/* The constants of the 64 rounds. */
extern const uint32_t tp_sha256_rounds[64];

/* Two states at once, if the second is not null: each takes as many blocks, from its own place. */
void tp_sha256_blocks__ref(uint32_t *state, uint32_t *other, const uint8_t *in, const uint8_t *other_in, int64_t blocks);
void tp_sha256_blocks__ni(uint32_t *state, uint32_t *other, const uint8_t *in, const uint8_t *other_in, int64_t blocks);

#endif
