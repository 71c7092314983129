//! An operator's wallet as a program of its own, for the demo and the chaos suite.
//!
//! It writes its address into a file once it serves, and serves until it is ended; its journal is on disk before each answer.

#![expect(clippy::expect_used, reason = "a simulator that cannot serve ends, and says why")]

use clap::Parser;
use domicile_service::clock::SystemClock;
use domicile_service::config::TlsFiles;
use domicile_tests::wallet::{Trust, Wallet};
use std::path::PathBuf;
use std::sync::Arc;

/// An operator's wallet that can be told to misbehave.
#[derive(Parser)]
#[command(name = "domicile-wallet-simulator")]
struct Args {
    /// The folder with cert.pem, key.pem and ca.pem
    #[arg(long, value_name = "DIR")]
    tls: PathBuf,
    /// What it remembers
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// The secret it shares with the ledger
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// Where it writes its address
    #[arg(long, value_name = "FILE")]
    address: PathBuf,
    /// What a player who is new to it has
    #[arg(long, value_name = "MICRO", default_value_t = 1_000_000_000_000)]
    grant_micro: u64,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let file = |name: &str| args.tls.join(name);
    let files = TlsFiles { cert: file("cert.pem"), key: file("key.pem"), ca: file("ca.pem") };
    let secret = std::fs::read(&args.secret).expect("the secret");
    let wallet =
        Wallet::trusting(&files, &args.journal, Trust::Hmac(secret), Arc::new(SystemClock)).await;
    wallet.store().grant(args.grant_micro);
    let staged = args.address.with_added_extension("new");
    std::fs::write(&staged, &wallet.url).expect("write the address");
    std::fs::rename(&staged, &args.address).expect("write the address");
    std::future::pending::<()>().await;
}
