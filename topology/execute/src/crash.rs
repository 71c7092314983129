//! Deliberate deaths, so that a test on real processes can show that a plan converges from everywhere.

/// Names the step and the side of it at which the process aborts: `<n>:before` or `<n>:after`.
pub const CRASH_POINT_VARIABLE: &str = "DOMICILE_CRASH_POINT";

/// Before or after a step's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The journal says begun, nothing is done.
    Before,
    /// All is done, the journal does not say so.
    After,
}

/// Where this process is to die, if anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrashPoint(Option<(usize, Side)>);

impl CrashPoint {
    pub(crate) fn from_environment() -> Self {
        Self(std::env::var(CRASH_POINT_VARIABLE).ok().as_deref().and_then(parse))
    }

    /// Dies here, if this is the place.
    pub(crate) fn pass(self, step: usize, side: Side) {
        if self.0 == Some((step, side)) {
            tracing::error!(step, ?side, "aborted on purpose: {CRASH_POINT_VARIABLE}");
            std::process::abort();
        }
    }
}

fn parse(text: &str) -> Option<(usize, Side)> {
    let (step, side) = text.split_once(':')?;
    let side = match side {
        "before" => Side::Before,
        "after" => Side::After,
        _ => return None,
    };
    Some((step.parse().ok()?, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_point_names_a_step_and_a_side() {
        assert_eq!(parse("3:before"), Some((3, Side::Before)));
        assert_eq!(parse("12:after"), Some((12, Side::After)));
        for wrong in ["", "3", "x:after", "3:during"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
