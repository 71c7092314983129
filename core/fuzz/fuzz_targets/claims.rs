//! Claims are validated or refused, whatever the JSON and the clock say.
#![no_main]

use domicile_core::{claims::Claims, ids::ClusterId, limits::TOKEN_LEEWAY_S};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &[u8])| {
    let (now_unix_s, json) = input;
    let issuer = ClusterId::parse("demo").expect("a cluster name");
    if let Ok(claims) = serde_json::from_slice::<Claims>(json) {
        if let Ok(validated) = claims.validate(now_unix_s, &issuer, TOKEN_LEEWAY_S) {
            assert!(validated.check_time(now_unix_s, TOKEN_LEEWAY_S).is_ok());
        }
    }
});
