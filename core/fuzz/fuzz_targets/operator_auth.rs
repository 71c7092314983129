//! The operator's headers are read or refused; no guessed signature verifies.
#![no_main]

use domicile_core::operator_auth::Credentials;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, u64)| {
    let (key_id, timestamp, signature, now_unix_s) = input;
    if let Ok(credentials) = Credentials::parse(Some(key_id), Some(timestamp), Some(signature)) {
        let verified = credentials.verify(b"secret", "POST", "/", b"", now_unix_s);
        assert!(verified.is_err());
    }
});
