package dev.tensorpress.model.archive;

import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.util.BitSet;
import javax.crypto.AEADBadTagException;
import javax.crypto.Cipher;
import javax.crypto.SecretKey;
import javax.crypto.spec.GCMParameterSpec;

/**
 * AES-256-GCM with a key that no other archive has. The nonce of a piece is its ordinal, so that none is used twice, and the header's
 * hash is associated with each piece: none is of another place, nor of another archive.
 */
final class AesGcm implements ChunkCipher {
    static final int TAG = 16;
    private static final int NONCE = 12;

    private final SecretKey key;
    private final byte[] headerHash;
    private final BitSet sealed = new BitSet();

    AesGcm(SecretKey key, byte[] headerHash) {
        this.key = key;
        this.headerHash = headerHash;
    }

    @Override
    public int overhead() {
        return TAG;
    }

    @Override
    public void seal(long ordinal, ByteBuffer associated, ByteBuffer plain, ByteBuffer out) {
        synchronized (sealed) {
            int at = Math.toIntExact(ordinal);
            if (sealed.get(at)) {
                throw new IllegalStateException("piece " + ordinal + " was sealed before: two with one nonce give the key's stream away");
            }
            sealed.set(at);
        }
        try {
            cipher(Cipher.ENCRYPT_MODE, ordinal, associated).doFinal(plain, out);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // nothing of that depends on data
        }
    }

    @Override
    public boolean open(long ordinal, ByteBuffer associated, ByteBuffer sealed, ByteBuffer out) {
        if (sealed.remaining() < TAG) {
            return false;
        }
        try {
            cipher(Cipher.DECRYPT_MODE, ordinal, associated).doFinal(sealed, out);
            return true;
        } catch (AEADBadTagException e) {
            return false;
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    private Cipher cipher(int mode, long ordinal, ByteBuffer associated) throws GeneralSecurityException {
        Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
        cipher.init(mode, key, new GCMParameterSpec(8 * TAG, ByteBuffer.allocate(NONCE).putLong(NONCE - Long.BYTES, ordinal).array()));
        cipher.updateAAD(headerHash);
        cipher.updateAAD(associated);
        return cipher;
    }
}
