//! Noticing that Postgres' certificates were renewed: the server reads them only when it is told to.
//!
//! Invariant: whatever was replaced since the last look is noticed, so that a key renewed just before its certificate
//! makes two reloads and not a lasting mismatch. Deliberately absent: judging the files, which Postgres does itself –
//! it keeps the old ones when the new do not fit.

use std::path::Path;
use std::time::SystemTime;

use domicile_service::config::TlsFiles;

/// The files as they were at the last look.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: Option<TlsFiles>,
    replaced_at: Vec<Option<SystemTime>>,
}

impl Certificates {
    /// Remembers the files as they are now; there are none when Postgres speaks no TLS.
    pub(crate) fn new(files: Option<TlsFiles>) -> Self {
        let replaced_at = look(files.as_ref());
        Self { files, replaced_at }
    }

    /// Whether any was replaced since the last look.
    pub(crate) fn renewed(&mut self) -> bool {
        let now = look(self.files.as_ref());
        let renewed = now != self.replaced_at;
        self.replaced_at = now;
        renewed
    }
}

fn look(files: Option<&TlsFiles>) -> Vec<Option<SystemTime>> {
    let replaced_at = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    files
        .map(|files| [&files.cert, &files.key, &files.ca].map(|path| replaced_at(path)).to_vec())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles { cert: path("cert"), key: path("key"), ca: path("ca") };
        for file in [&files.cert, &files.key, &files.ca] {
            std::fs::write(file, "old").unwrap();
        }
        let mut certificates = Certificates::new(Some(files.clone()));
        assert!(!certificates.renewed());
        let later = files.cert.metadata().unwrap().modified().unwrap();
        let later = later + std::time::Duration::from_secs(1);
        std::fs::File::open(&files.cert).unwrap().set_modified(later).unwrap();
        assert!(certificates.renewed());
        assert!(!certificates.renewed());
        assert!(!Certificates::new(None).renewed());
    }
}
