//! A wallet's answer is one of the listed ones or none; a server's error is never an answer.
#![no_main]

use domicile_core::wallet::answer::{Answer, Status};
use domicile_core::wallet::exchange::{read, read_balance};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (http_status, body) = input;
    if let Answer::Listed(_) = read(http_status, body) {
        assert!(http_status < 500 && std::str::from_utf8(body).is_ok());
    }
    let (answer, balance) = read_balance(http_status, body);
    assert_eq!(balance.is_some(), answer == Answer::Listed(Status::Ok));
});
