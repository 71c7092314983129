//! Players' sessions: opened and revoked by the operator, seen by the player.

mod open;
mod revoke;
mod view;

pub use open::{OpenSession, OpenSessionBody};
pub use revoke::RevokeSession;
pub use view::{Viewer, view};
