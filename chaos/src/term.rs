//! What a person sees.

use std::fmt;
use std::io::{self, Write as _};

/// Writes a line; a reader that has gone away is not an experiment's concern.
pub fn say(text: impl fmt::Display) {
    writeln!(io::stdout(), "{text}").ok();
}
