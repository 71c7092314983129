//! The signature over a report: a signed note that names both files by their SHA-256.
//!
//! The note's text is four lines: its origin `<cluster>/drills`, the drill's name, and one line per file. Whoever has the
//! cluster's drill key in its public form can check the files without asking anybody.

use super::report::{FORMAT, Report};
use crate::files::{self, MODE_PUBLIC};
use anyhow::{Context, Result, bail};
use domicile_core::hex;
use domicile_core::ids::ClusterId;
use domicile_core::note::{self, SigningKey, VerifierKey};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// The report for programs.
pub(crate) const JSON: &str = "report.json";
/// The report for people.
pub(crate) const HTML: &str = "report.html";
/// The signature.
pub(crate) const NOTE: &str = "report.note";
/// Largest file of a report that is read, bytes.
const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The origin of a cluster's drill reports, also the name of their key.
pub(crate) fn origin(cluster: &ClusterId) -> String {
    format!("{cluster}/drills")
}

/// Writes the three files.
pub(crate) fn write(folder: &Path, report: &Report, html: &str, key: &SigningKey) -> Result<()> {
    files::folder(folder, files::MODE_FOLDER_PUBLIC)?;
    let json = serde_json::to_vec_pretty(report)?;
    let text = format!(
        "{}\n{}\n{} {JSON}\n{} {HTML}\n",
        origin(&report.cluster),
        report.id,
        digest(&json),
        digest(html.as_bytes())
    );
    let signed = note::sign(&text, key).context("the report cannot be signed")?;
    files::write(&folder.join(JSON), &json, MODE_PUBLIC)?;
    files::write(&folder.join(HTML), html.as_bytes(), MODE_PUBLIC)?;
    files::write(&folder.join(NOTE), signed.as_bytes(), MODE_PUBLIC)?;
    Ok(())
}

/// Checks the signature, that both files are the ones signed, and that the document is about what the note says.
pub(crate) fn verify(folder: &Path, keys: &[VerifierKey]) -> Result<Report> {
    let signed = String::from_utf8(read(&folder.join(NOTE))?).context("the note is not text")?;
    let opened = note::open(&signed, keys).context("the signature does not hold")?;
    let mut lines = opened.text.lines();
    let mut line = || lines.next().unwrap_or_default().to_owned();
    let (origin_line, id) = (line(), line());
    if !opened.signers.contains(&origin_line) {
        bail!("the note's origin `{origin_line}` is not the name of the key that signed it");
    }
    let mut json = Vec::new();
    for name in [JSON, HTML] {
        let bytes = read(&folder.join(name))?;
        if line() != format!("{} {name}", digest(&bytes)) {
            bail!("{name} is not the file that was signed");
        }
        if name == JSON {
            json = bytes;
        }
    }
    let report: Report = serde_json::from_slice(&json).context("the report cannot be read")?;
    if (report.format.as_str(), &report.id, origin(&report.cluster)) != (FORMAT, &id, origin_line) {
        bail!("the report is about another drill, or another cluster, than the note says");
    }
    Ok(report)
}

/// A file's SHA-256, as the note names it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let place = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(place)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).with_context(place)?;
    if u64::try_from(bytes.len())? > FILE_MAX_BYTES {
        bail!("{} exceeds {FILE_MAX_BYTES} bytes", path.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::example;

    #[test]
    fn a_signed_report_verifies_and_no_changed_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed("demo/drills", &[7; 32]).unwrap();
        let pinned = [key.verifier().clone()];
        write(folder.path(), &example(), "<p>ok</p>\n", &key).unwrap();
        assert_eq!(verify(folder.path(), &pinned).unwrap().id, example().id);

        let stranger = SigningKey::from_seed("demo/drills", &[8; 32]).unwrap();
        assert!(verify(folder.path(), &[stranger.verifier().clone()]).is_err());
        for name in [JSON, HTML] {
            let kept = std::fs::read(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name), [&kept[..], b" "].concat()).unwrap();
            let error = verify(folder.path(), &pinned).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            std::fs::write(folder.path().join(name), kept).unwrap();
        }
        verify(folder.path(), &pinned).unwrap();
    }

    #[test]
    fn a_key_of_another_name_signs_no_report() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed("demo/receipt", &[7; 32]).unwrap();
        write(folder.path(), &example(), "", &key).unwrap();
        assert!(verify(folder.path(), &[key.verifier().clone()]).is_err());
    }
}
