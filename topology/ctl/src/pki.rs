//! The cluster's certificate authority: makes it, issues each part's certificate, renews in time.
//!
//! A part is known by its URI name `spiffe://<cluster>/<role>/<node>`; its certificate also carries the host names and
//! addresses that clients connect to, and role and node in the name that Postgres shows of its clients. The role is the
//! common name, which etcd takes for its user: what a part may change there depends on what it is.
//! Every part is both client and server, so both uses are allowed.
//! Invariants: private keys have mode 0600; the authority's key never leaves its folder; a certificate is renewed when
//! less than a third of its life is left, when its names change or when the authority does – and otherwise left alone.

use crate::files::{self, MODE_FOLDER_SECRET, MODE_PUBLIC, MODE_SECRET};
use anyhow::{Context, Result};
use domicile_core::hex;
use domicile_core::ids::ClusterId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Life of the authority's own certificate.
const AUTHORITY_DAYS: u64 = 3650;
/// Life of a part's certificate unless asked otherwise.
pub(crate) const CERTIFICATE_DAYS: u64 = 90;
/// A certificate is valid from this long before its issue, so that a clock somewhat behind accepts it.
const BACKDATE_S: u64 = 300;
const DAY_S: u64 = 86_400;

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// `agent`, `writer`, `reader`, `router`, `etcd`, `ctl`, `test`, a person's grade, or etcd's `root`.
    pub(crate) role: String,
    /// The node's name.
    pub(crate) node: String,
    /// Host names and addresses that clients connect to.
    pub(crate) hosts: Vec<String>,
}

/// What is remembered of an issued certificate, beside it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issued {
    names: Vec<String>,
    authority_sha256: String,
    not_before_unix_s: u64,
    not_after_unix_s: u64,
}

/// What `ensure` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Issue {
    /// The certificate there is still good.
    Kept,
    /// A new key and certificate were written.
    Written,
}

/// The certificate authority of one cluster.
pub(crate) struct Authority {
    cluster: ClusterId,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    now_unix_s: u64,
}

impl Authority {
    /// Opens the authority in the folder, or makes it there.
    pub(crate) fn open_or_create(
        folder: &Path,
        cluster: &ClusterId,
        now_unix_s: u64,
    ) -> Result<Self> {
        files::folder(folder, MODE_FOLDER_SECRET)?;
        let key_pem = files::write_once(&folder.join("ca.key"), MODE_SECRET, || {
            Ok(KeyPair::generate().context("cannot make the authority's key")?.serialize_pem())
        })?;
        let key = KeyPair::from_pem(&key_pem)
            .with_context(|| format!("{} holds no private key", folder.join("ca.key").display()))?;
        let params = authority_params(cluster, now_unix_s);
        let certificate_pem = files::write_once(&folder.join("ca.pem"), MODE_PUBLIC, || {
            Ok(params.self_signed(&key).context("cannot sign the authority's certificate")?.pem())
        })?;
        Ok(Self {
            cluster: cluster.clone(),
            certificate_pem,
            issuer: Issuer::new(params, key),
            now_unix_s,
        })
    }

    /// Sees to it that the folder holds `cert.pem`, `key.pem` and `ca.pem` for the subject.
    pub(crate) fn ensure(&self, folder: &Path, subject: &Subject, days: u64) -> Result<Issue> {
        files::folder(folder, MODE_FOLDER_SECRET)?;
        files::write(&folder.join("ca.pem"), self.certificate_pem.as_bytes(), MODE_PUBLIC)?;
        let wanted = self.wanted(subject, days);
        let note = folder.join("issued.json");
        if self.still_good(&note, &wanted)
            && folder.join("cert.pem").exists()
            && folder.join("key.pem").exists()
        {
            return Ok(Issue::Kept);
        }
        let key = KeyPair::generate().context("cannot make a private key")?;
        let certificate = leaf_params(&self.cluster, subject, &wanted)?
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("cannot sign the certificate of {}", subject.node))?;
        files::write(&folder.join("key.pem"), key.serialize_pem().as_bytes(), MODE_SECRET)?;
        files::write(&folder.join("cert.pem"), certificate.pem().as_bytes(), MODE_PUBLIC)?;
        files::write(&note, &serde_json::to_vec_pretty(&wanted)?, MODE_PUBLIC)?;
        Ok(Issue::Written)
    }

    /// Whether another authority has issued the certificate in this folder.
    pub(crate) fn is_foreign(&self, folder: &Path) -> bool {
        let note = files::read(&folder.join("issued.json")).ok();
        let note = note.and_then(|note| serde_json::from_str::<Issued>(&note).ok());
        note.is_some_and(|issued| issued.authority_sha256 != self.sha256())
    }

    fn sha256(&self) -> String {
        hex::encode(&Sha256::digest(self.certificate_pem.as_bytes()))
    }

    fn wanted(&self, subject: &Subject, days: u64) -> Issued {
        let mut names = vec![spiffe(&self.cluster, subject)];
        names.extend(subject.hosts.iter().cloned());
        names.push(subject.node.clone());
        names.push(format!("CN={}", subject.role));
        Issued {
            names,
            authority_sha256: self.sha256(),
            not_before_unix_s: self.now_unix_s.saturating_sub(BACKDATE_S),
            not_after_unix_s: self.now_unix_s.saturating_add(days.saturating_mul(DAY_S)),
        }
    }

    fn still_good(&self, note: &Path, wanted: &Issued) -> bool {
        let Ok(present) = files::read(note) else { return false };
        let Ok(present) = serde_json::from_str::<Issued>(&present) else { return false };
        let life_s = present.not_after_unix_s.saturating_sub(present.not_before_unix_s);
        let left_s = present.not_after_unix_s.saturating_sub(self.now_unix_s);
        present.names == wanted.names
            && present.authority_sha256 == wanted.authority_sha256
            && left_s > life_s / 3
    }
}

/// The URI name of a part.
pub(crate) fn spiffe(cluster: &ClusterId, subject: &Subject) -> String {
    format!("spiffe://{cluster}/{}/{}", subject.role, subject.node)
}

fn authority_params(cluster: &ClusterId, now_unix_s: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("{cluster} authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(
        &mut params,
        now_unix_s.saturating_sub(BACKDATE_S),
        now_unix_s.saturating_add(AUTHORITY_DAYS * DAY_S),
    );
    params
}

fn leaf_params(
    cluster: &ClusterId,
    subject: &Subject,
    wanted: &Issued,
) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&subject.role);
    params.distinguished_name.push(DnType::OrganizationalUnitName, subject.node.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names.push(SanType::URI(spiffe(cluster, subject).try_into()?));
    for host in subject.hosts.iter().chain([&subject.node]) {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.clone().try_into()?),
        });
    }
    valid(&mut params, wanted.not_before_unix_s, wanted.not_after_unix_s);
    Ok(params)
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn valid(params: &mut CertificateParams, from_unix_s: u64, until_unix_s: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from_unix_s);
    params.not_after = epoch + Duration::from_secs(until_unix_s);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NOW_UNIX_S: u64 = 1_790_000_000;

    fn subject(hosts: &[&str]) -> Subject {
        Subject {
            role: "agent".into(),
            node: "ledger-mt".into(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn certificates_are_kept_until_they_age_or_their_names_change() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterId::parse("demo").unwrap();
        let at = |now| Authority::open_or_create(&dir.path().join("pki"), &cluster, now).unwrap();
        let tls = dir.path().join("tls");
        let ensure =
            |now, hosts: &[&str]| at(now).ensure(&tls, &subject(hosts), CERTIFICATE_DAYS).unwrap();
        assert_eq!(ensure(NOW_UNIX_S, &["127.0.0.1"]), Issue::Written);
        assert_eq!(ensure(NOW_UNIX_S + 30 * DAY_S, &["127.0.0.1"]), Issue::Kept);
        assert_eq!(ensure(NOW_UNIX_S + 61 * DAY_S, &["127.0.0.1"]), Issue::Written);
        assert_eq!(ensure(NOW_UNIX_S + 61 * DAY_S, &["10.0.0.1"]), Issue::Written);
        let mode = std::fs::metadata(tls.join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE_SECRET);
    }

    #[test]
    fn the_common_name_is_the_role_and_older_certificates_are_issued_anew() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterId::parse("demo").unwrap();
        let authority = Authority::open_or_create(dir.path(), &cluster, NOW_UNIX_S).unwrap();
        let wanted = authority.wanted(&subject(&[]), CERTIFICATE_DAYS);
        let params = leaf_params(&cluster, &subject(&[]), &wanted).unwrap();
        let common_name = params.distinguished_name.get(&DnType::CommonName);
        assert_eq!(common_name, Some(&rcgen::DnValue::Utf8String("agent".to_owned())));

        let (tls, note) = (dir.path().join("tls"), dir.path().join("tls/issued.json"));
        let ensure = || authority.ensure(&tls, &subject(&[]), CERTIFICATE_DAYS).unwrap();
        assert_eq!(ensure(), Issue::Written);
        let mut older = wanted;
        older.names.retain(|name| !name.starts_with("CN="));
        std::fs::write(note, serde_json::to_vec(&older).unwrap()).unwrap();
        assert_eq!((ensure(), ensure()), (Issue::Written, Issue::Kept));
    }

    #[test]
    fn a_part_is_named_by_its_uri() {
        let cluster = ClusterId::parse("demo").unwrap();
        assert_eq!(spiffe(&cluster, &subject(&[])), "spiffe://demo/agent/ledger-mt");
    }
}
