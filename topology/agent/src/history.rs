//! A timeline's history: where each earlier timeline was left. Pure.
//!
//! Postgres writes one line per ancestor: its number, the position at which it was left, and a reason.

use domicile_core::epoch::Lsn;

/// The ancestors of a timeline, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    ancestors: Vec<(u32, Lsn)>,
}

impl History {
    /// Reads the text of a history file; an empty one is the first timeline's.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let ancestor = |line: &str| {
            let mut columns = line.split_whitespace();
            let timeline = columns.next()?.parse().ok()?;
            Some((timeline, Lsn::parse(columns.next()?).ok()?))
        };
        Some(Self { ancestors: lines.map(ancestor).collect::<Option<_>>()? })
    }

    /// Where this timeline was left; `None` when it is no ancestor.
    pub(crate) fn fork_of(&self, timeline: u32) -> Option<Lsn> {
        self.ancestors.iter().find(|(ancestor, _)| *ancestor == timeline).map(|(_, fork)| *fork)
    }

    /// Where the timeline itself begins; `None` for the first one.
    pub(crate) fn last_fork(&self) -> Option<Lsn> {
        self.ancestors.last().map(|(_, fork)| *fork)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_tells_where_timelines_were_left() {
        let text = "1\t0/3000158\tno recovery target specified\n\n2\t0/5000060\tbefore x\n";
        let history = History::parse(text).unwrap();
        assert_eq!(history.fork_of(1), Some(Lsn(0x0300_0158)));
        assert_eq!(history.fork_of(2), Some(Lsn(0x0500_0060)));
        assert_eq!(history.fork_of(3), None);
        assert_eq!(history.last_fork(), Some(Lsn(0x0500_0060)));
        assert_eq!(History::parse("").unwrap().last_fork(), None);
        assert_eq!(History::parse("one 0/1"), None);
    }
}
