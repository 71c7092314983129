//! Players' sessions: opened and revoked by the operator, seen by the player; protected by a captcha and limits of play.

mod captcha;
mod limits;
mod open;
mod revoke;
mod view;

pub use captcha::{
    Checker as CaptchaChecker, check as check_captcha, seal_context as captcha_seal_context,
};
pub use limits::LimitsBody;
pub use open::{OpenSession, OpenSessionBody};
pub use revoke::{RevokeSession, is_revoked};
pub use view::{Viewer, view};
