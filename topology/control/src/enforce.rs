//! Sees to it that etcd enforces the roles in certificates.
//!
//! Invariant: while etcd does not ask who somebody is, anybody may have made users, with passwords even; so what stands
//! there then is removed first. Once it asks, only what differs is changed: each change makes requests under way be
//! asked again. Interrupted anywhere, it is simply done again.

use crate::client::ControlClient;
use crate::error::Error;
use crate::roles::{self, ROOT};

/// What enforcing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforced {
    /// Everything was as it should be.
    Already,
    /// Something differed, and does no longer.
    Corrected,
    /// etcd did not ask who somebody is, and does now.
    FromNow,
}

impl ControlClient {
    /// Whether etcd enforces roles; every certificate of the cluster may ask.
    pub async fn enforces_roles(&self) -> Result<bool, Error> {
        self.etcd().auth_enabled().await
    }

    /// Makes etcd enforce the roles; only with root's certificate.
    pub async fn enforce_roles(&self) -> Result<Enforced, Error> {
        let etcd = self.etcd();
        let was_enforced = etcd.auth_enabled().await?;
        if !was_enforced {
            for user in etcd.users().await? {
                etcd.delete_user(&user).await?;
            }
            for role in etcd.roles().await? {
                etcd.delete_role(&role).await?;
            }
        }
        let changed = self.correct_users().await?;
        if !was_enforced {
            etcd.auth_enable().await?;
            return Ok(Enforced::FromNow);
        }
        Ok(if changed { Enforced::Corrected } else { Enforced::Already })
    }

    /// The version of etcd, if it is one that does not look into nested transactions: who sends one there changes what
    /// they like (CVE-2026-33343). Only with root's certificate.
    pub async fn passes_nested_changes(&self) -> Result<Option<String>, Error> {
        let version = self.etcd().member_version().await?;
        Ok(Some(version).filter(|version| !checks_nested(version)))
    }

    /// Makes users, roles and permissions what the table says; whether anything was not.
    async fn correct_users(&self) -> Result<bool, Error> {
        let etcd = self.etcd();
        let wanted = roles::users(self.cluster());
        let is_known = |name: &String| name == ROOT || wanted.iter().any(|(role, _)| role == name);
        let (users, roles) = (etcd.users().await?, etcd.roles().await?);
        let mut changed = false;
        for user in users.iter().filter(|user| !is_known(user)) {
            etcd.delete_user(user).await?;
            changed = true;
        }
        let names = wanted.iter().map(|(name, _)| *name).chain([ROOT]);
        for name in names {
            if !roles.iter().any(|role| role == name) {
                etcd.add_role(name).await?;
                changed = true;
            }
            if !users.iter().any(|user| user == name) {
                etcd.add_user(name).await?;
                changed = true;
            }
            if !etcd.roles_of(name).await?.iter().any(|role| role == name) {
                etcd.grant_role(name, name).await?;
                changed = true;
            }
        }
        for (role, permissions) in &wanted {
            let present = etcd.permissions(role).await?;
            for excess in present.iter().filter(|present| !permissions.contains(present)) {
                etcd.forbid(role, excess.clone()).await?;
                changed = true;
            }
            for missing in permissions.iter().filter(|wanted| !present.contains(wanted)) {
                etcd.permit(role, missing.clone()).await?;
                changed = true;
            }
        }
        Ok(changed)
    }
}

/// Whether this version of etcd applies permissions inside nested transactions. One that cannot be read does not.
fn checks_nested(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) =
        (numbers.next(), numbers.next(), numbers.next())
    else {
        return false;
    };
    match (major, minor) {
        (3, 4) => patch >= 42,
        (3, 5) => patch >= 28,
        (3, 6) => patch >= 9,
        newer => newer > (3, 6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_versions_look_into_nested_transactions() {
        for version in ["3.4.42", "3.5.28", "3.6.9", "3.6.10-rc.1", "3.7.0", "4.0.0"] {
            assert!(checks_nested(version), "{version}");
        }
        for version in ["3.3.99", "3.4.23", "3.5.27", "3.6.8", "3.6", "", "new"] {
            assert!(!checks_nested(version), "{version}");
        }
    }
}
