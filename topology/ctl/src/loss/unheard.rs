//! Ledger nodes that cannot be heard, told apart from those that refuse.
//!
//! Invariant: only a node that cannot be reached counts as silent. One that answers, whatever it answers, may yet be asked
//! by somebody else or in another way: giving up on what it has kept would forfeit it.

use anyhow::{Result, bail};
use domicile_core::ids::NodeId;
use domicile_execute::chain;
use domicile_service::client::{ClientError, Failure};

/// Why a node is silent; an error when it is not.
pub(super) fn unheard(node: &NodeId, error: &ClientError) -> Result<String> {
    match error.failure {
        Failure::Connect(_) | Failure::Broken(_) | Failure::Timeout { .. } => {
            Ok(format!("{node} cannot be reached: {}", chain(error)))
        }
        _ => bail!(
            "{node} answers, but does not tell what it has kept; nothing was decided: {}",
            chain(error)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_service::problem::RemoteProblem;
    use http::{Method, StatusCode};

    fn heard(failure: Failure) -> Result<String> {
        let url = "https://127.0.0.1:1/v1/orphans/bet".to_owned();
        let node: NodeId = "ledger-mt".parse().unwrap();
        unheard(&node, &ClientError { method: Method::POST, url, failure })
    }

    #[test]
    fn a_node_that_refuses_is_not_silent_and_the_role_is_named() {
        let problem: RemoteProblem = serde_json::from_value(serde_json::json!({
            "code": "role-insufficient", "detail": "this needs the role dr-lead",
        }))
        .unwrap();
        let (status, problem) = (StatusCode::FORBIDDEN, Some(Box::new(problem)));
        let refused = heard(Failure::Status { status, problem }).unwrap_err().to_string();
        assert!(refused.contains("ledger-mt") && refused.contains("dr-lead"), "{refused}");
        let (status, problem) = (StatusCode::INTERNAL_SERVER_ERROR, None);
        assert!(heard(Failure::Status { status, problem }).is_err(), "it has answered");
        let silent = heard(Failure::Timeout { timeout_ms: 1 }).unwrap();
        assert!(silent.contains("cannot be reached"), "{silent}");
    }
}
