package dev.tensorpress.model.archive;

import dev.tensorpress.model.UnsupportedRequestException;
import org.bouncycastle.crypto.generators.Argon2BytesGenerator;
import org.bouncycastle.crypto.params.Argon2Parameters;

/**
 * What Argon2id (RFC 9106, version 1.3) costs whoever tries passphrases. The bounds are of archives from anyone: a header asks for no
 * more than this memory, nor for more than a few seconds.
 *
 * @param memory in KiB, at least 8 for each lane, at most {@value #MOST_MEMORY}
 * @param passes over the memory, 1 to {@value #MOST_PASSES}
 * @param lanes 1 to {@value #MOST_LANES}
 */
record Argon2(int memory, int passes, int lanes) {
    static final int MOST_MEMORY = 256 << 10;
    static final int MOST_PASSES = 10;
    static final int MOST_LANES = 16;
    /** The second that RFC 9106 recommends, for machines where memory is short. */
    static final Argon2 USUAL = new Argon2(64 << 10, 3, 4);

    /** @throws IllegalArgumentException if one is out of bounds */
    Argon2 {
        check("lanes", lanes, 1, MOST_LANES);
        check("passes", passes, 1, MOST_PASSES);
        check("KiB of memory", memory, 8 * lanes, MOST_MEMORY);
    }

    private static void check(String what, int value, int least, int most) {
        if (value < least || value > most) {
            throw new IllegalArgumentException("expected " + least + " to " + most + " " + what + " of Argon2id, this is " + value);
        }
    }

    /**
     * The 32 bytes of a passphrase.
     *
     * @throws UnsupportedRequestException if Bouncy Castle is not there
     */
    byte[] derive(byte[] passphrase, byte[] salt) {
        byte[] key = new byte[ArchiveKey.BYTES];
        try {
            Argon2BytesGenerator generator = new Argon2BytesGenerator();
            generator.init(new Argon2Parameters.Builder(Argon2Parameters.ARGON2_id).withVersion(Argon2Parameters.ARGON2_VERSION_13)
                    .withMemoryAsKB(memory).withIterations(passes).withParallelism(lanes).withSalt(salt).build());
            generator.generateBytes(passphrase, key);
        } catch (NoClassDefFoundError e) {
            throw new UnsupportedRequestException("passphrases need Bouncy Castle, org.bouncycastle:bcprov-jdk18on, which is not there;"
                    + " keys from files do not");
        }
        return key;
    }
}
