//! Who acts: the name and grade in the certificate at hand.
//!
//! The writer and the agents check it themselves. Here it is looked at first for what no server is asked about before the
//! control record changes: a move of the writer.

use crate::layout::Layout;
use crate::pki::Subject;
use crate::term;
use anyhow::{Context, Result, bail};
use domicile_core::operation::Grade;
use domicile_service::peer::PeerIdentity;

/// The person that `up` issues a certificate for.
pub(crate) fn first() -> Subject {
    let role = Grade::DrLead.as_str().to_owned();
    Subject { role, node: "admin".to_owned(), hosts: Vec::new() }
}

/// Who acts.
pub(crate) fn of(layout: &Layout) -> Result<PeerIdentity> {
    let path = layout.operator_tls().join("cert.pem");
    PeerIdentity::from_own_file(&path).with_context(|| {
        format!("{} names nobody; `domicile pki person` issues one", path.display())
    })
}

/// Who acts, for journals and reports: role and name as certified, and beside it the user and host that say so.
pub(crate) fn named(layout: &Layout) -> String {
    let here = term::user_and_host();
    match of(layout) {
        Ok(person) => format!("{}/{} ({here})", person.role.as_str(), person.node),
        Err(_) => format!("nobody certified ({here})"),
    }
}

/// Refuses a person whose grade does not suffice.
pub(crate) fn require(layout: &Layout, needed: Grade) -> Result<PeerIdentity> {
    let person = of(layout)?;
    let grade = person.role.grade();
    if let Some(Err(code)) = grade.map(|grade| grade.allows(needed)) {
        bail!("{code}: this needs the role {}; {} does not have it", needed.as_str(), person.uri());
    }
    grade.with_context(|| format!("{} is not a person", person.uri()))?;
    Ok(person)
}
