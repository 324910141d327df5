//! How much an encrypted key may ask for to derive its own key from the password.
//!
//! The file itself says how many rounds and how much memory that takes (RFC 8018, 5.2; RFC 7914, 6). One that asks for a terabyte
//! would end the node, as memory that is not to be had aborts the process; one with billions of rounds would hold a thread for hours.

use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{Kdf, ScryptParams};

/// Ten times what is recommended today; some seconds.
const MAX_ROUNDS: u32 = 10_000_000;
/// Sixteen times what OpenSSL asks for by default.
const MAX_SCRYPT_BYTES: u64 = 256 << 20;

/// Refuses a key that asks for more than it can sensibly need, or for what cannot be.
pub(super) fn check(scheme: &EncryptionScheme) -> Result<(), &'static str> {
    // What PKCS#5 had before PBES2 counts its rounds in 16 bits.
    let Some(parameters) = scheme.pbes2() else {
        return Ok(());
    };
    match &parameters.kdf {
        Kdf::Pbkdf2(pbkdf2) if pbkdf2.iteration_count > MAX_ROUNDS => Err("it asks for too many rounds"),
        Kdf::Scrypt(scrypt) => check_scrypt(scrypt),
        _ => Ok(()),
    }
}

/// RFC 7914, 2 and 6.
fn check_scrypt(scrypt: &ScryptParams) -> Result<(), &'static str> {
    if scrypt.cost_parameter < 2 || !scrypt.cost_parameter.is_power_of_two() {
        return Err("its scrypt cost is no power of two");
    }
    let bytes = [128, scrypt.block_size.into(), scrypt.parallelization.into()]
        .into_iter()
        .fold(scrypt.cost_parameter, u64::saturating_mul);
    if bytes > MAX_SCRYPT_BYTES {
        return Err("it asks for too much memory");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pkcs8::EncryptedPrivateKeyInfoRef;
    use pkcs8::der::Encode;
    use pkcs8::der::asn1::OctetStringRef;
    use pkcs8::pkcs5::pbes2::{EncryptionScheme as Cipher, Parameters, Pbkdf2Params, Pbkdf2Prf, Salt};

    use super::*;
    use crate::net::tls::options::Secret;
    use crate::net::tls::pem;

    /// Why a key is not decrypted. It would take the node with it, or hours, if this were tried.
    fn refusal(kdf: Kdf) -> String {
        let encryption = Cipher::Aes256Cbc { iv: [0; 16] };
        let key = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: EncryptionScheme::Pbes2(Parameters { kdf, encryption }),
            encrypted_data: OctetStringRef::new(&[0; 48]).expect("short"),
        };
        let der = key.to_der().expect("an encodable key");
        let password = Secret(b"password".to_vec());
        pem::private_key(&der, Some(&password), "key")
            .expect_err("refused")
            .to_string()
    }

    fn scrypt(cost_parameter: u64, parallelization: u16) -> Kdf {
        Kdf::Scrypt(ScryptParams {
            salt: Salt::new([7; 8]).expect("short"),
            cost_parameter,
            block_size: 8,
            parallelization,
            key_length: None,
        })
    }

    #[test]
    fn a_terabyte_is_refused() {
        assert!(refusal(scrypt(1 << 30, 1)).contains("too much memory"));
        assert!(refusal(scrypt(1 << 63, u16::MAX)).contains("too much memory"));
        assert!(refusal(scrypt(1 << 14, u16::MAX)).contains("too much memory"));
    }

    #[test]
    fn a_cost_that_cannot_be_is_refused() {
        for cost in [0, 1, 3, u64::MAX] {
            assert!(refusal(scrypt(cost, 1)).contains("power of two"), "{cost}");
        }
    }

    #[test]
    fn hours_are_refused() {
        let pbkdf2 = Pbkdf2Params {
            salt: Salt::new([7; 8]).expect("short"),
            iteration_count: MAX_ROUNDS + 1,
            key_length: None,
            prf: Pbkdf2Prf::HmacWithSha256,
        };
        assert!(refusal(Kdf::Pbkdf2(pbkdf2)).contains("too many rounds"));
    }
}
