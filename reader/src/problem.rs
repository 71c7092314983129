//! From the reader's failures to problem documents: one place, nothing internal in the answer.

use crate::proofs::ProofFailure;
use domicile_core::error::Code;
use domicile_service::problem::Problem;

/// Seconds after which a caller should ask again.
const RETRY_AFTER_S: u64 = 1;

/// The replica's database failed.
#[expect(clippy::needless_pass_by_value, reason = "taken as `map_err` gives it")]
pub(crate) fn database(error: domicile_postgres::Error) -> Problem {
    unread(&error)
}

/// The replica could not be asked, or did not answer.
pub(crate) fn unread(error: &(dyn std::error::Error + 'static)) -> Problem {
    let cause = error.source().map(ToString::to_string);
    tracing::warn!(error, cause, "the replica cannot be read");
    Problem::new(Code::Database).retry_after_s(RETRY_AFTER_S)
}

/// A proof failed; a contradiction is logged as an error, since a person has to look.
pub(crate) fn proof(failure: ProofFailure) -> Problem {
    match failure {
        ProofFailure::Absent => Code::RoundNotFound.into(),
        ProofFailure::NotEnded | ProofFailure::NotCovered(_) => {
            Problem::new(Code::ProofNotReady).retry_after_s(RETRY_AFTER_S)
        }
        ProofFailure::Database(error) => database(error),
        ProofFailure::Unread(cause) => unread(&cause),
        ProofFailure::Contradiction(reason) => {
            tracing::error!(reason, "a proof made from the replica does not hold");
            Code::ReplicaUnverified.into()
        }
    }
}
