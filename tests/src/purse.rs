//! An operator's wallet beside a cluster: with a certificate of the cluster's authority, and made known to its writer.

use crate::cluster::{self, Cluster};
use crate::wallet::{KEY_ID, Trust, Wallet};
use domicile_core::wallet::answer::Duplicate;
use domicile_service::clock::SystemClock;
use std::sync::Arc;

/// Starts a wallet that believes requests signed so.
pub async fn start(cluster: &Cluster, name: &str, trust: Trust) -> Wallet {
    let folder = cluster.state().join("purses").join(name);
    let (authority, out) =
        (cluster.state().join("operator/authority"), folder.display().to_string());
    let (named, authority) =
        (cluster.topology().cluster.to_string(), authority.display().to_string());
    cluster.cli(&[
        "pki",
        "issue",
        "--cluster",
        &named,
        "--authority",
        &authority,
        "--role",
        "test",
        "--node",
        name,
        "--host",
        "127.0.0.1",
        "--out",
        &out,
    ]);
    let files = cluster::certificate(&folder);
    Wallet::trusting(&files, &folder.join("journal"), trust, Arc::new(SystemClock)).await
}

/// Makes it the wallet of an operator, to which a duplicate is a conflict; `key` is the secret, or the private key in PEM.
pub fn set(cluster: &Cluster, operator: &str, wallet: &Wallet, key: &[u8], options: &[&str]) {
    set_meaning(cluster, operator, (wallet, Duplicate::Conflict), key, options);
}

/// As [`set`], of a wallet that means this by a duplicate.
pub fn set_meaning(
    cluster: &Cluster,
    operator: &str,
    (wallet, duplicate): (&Wallet, Duplicate),
    key: &[u8],
    options: &[&str],
) {
    let file = cluster.state().join("purses").join(format!("{operator}.key"));
    std::fs::write(&file, key).expect("write the wallet's key");
    let file = file.display().to_string();
    let set = ["wallet", "set", operator, "--url", &wallet.url, "--key-id", KEY_ID];
    let rest = ["--key-file", &file, "--duplicate", duplicate.as_str(), "--reason", "a test"];
    cluster.cli(&[&set[..], &rest, options].concat());
}
