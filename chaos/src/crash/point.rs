//! Where a command is killed: which verb, at which step of its plan, on which side of the step's effect.

use crate::system::{System, said};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// A command that runs a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// From the preferred region to the other.
    Switchover,
    /// Back.
    Failback,
    /// Away from the preferred region, which was killed.
    Failover,
    /// One copy is enough from now on.
    Degrade,
    /// Two again.
    RestoreDurability,
}

impl Verb {
    /// The CLI's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Failback => "failback",
            Self::Failover => "failover",
            Self::Degrade => "degrade",
            Self::RestoreDurability => "restore-durability",
        }
    }

    /// The verb and what it needs, on a system as it is now.
    pub fn arguments(self, system: &System) -> Result<Vec<String>> {
        let mut arguments = vec![self.name().to_owned()];
        match self {
            Self::Switchover | Self::Failover => {
                arguments.extend(["--to".to_owned(), system.region("standby")?.to_string()]);
            }
            Self::Degrade => {
                arguments.extend(["--reason".to_owned(), "crash points".to_owned()]);
            }
            Self::Failback | Self::RestoreDurability => {}
        }
        Ok(arguments)
    }

    /// What each step of its plan does, as the CLI plans it now.
    pub async fn steps(self, system: &System) -> Result<Vec<String>> {
        let arguments = self.arguments(system)?;
        let mut command = vec!["plan"];
        command.extend(arguments.iter().map(String::as_str));
        command.push("--json");
        let output = system.cli(&command).await?;
        if !output.status.success() {
            bail!("`domicile {}`: {}", command.join(" "), said(&output));
        }
        let plan: Value = serde_json::from_slice(&output.stdout).context("a plan is no JSON")?;
        let steps = plan.get("steps").and_then(Value::as_array).context("a plan without steps")?;
        Ok(steps.iter().map(action).collect())
    }
}

/// `promote ledger-de`, `record close-writes`.
fn action(step: &Value) -> String {
    let at = |pointer: &str| step.pointer(pointer).and_then(Value::as_str);
    let object = at("/action/change/set").or_else(|| at("/action/node"));
    [at("/action/do"), object].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Before or after a step's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Nothing of the step is done.
    Before,
    /// All of it is done, and the journal does not say so.
    After,
}

impl Side {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// One place to die.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Running this.
    pub verb: Verb,
    /// At this step, counted from 1.
    pub step: usize,
    /// On this side.
    pub side: Side,
}

impl Point {
    /// As the CLI is told it.
    pub fn place(&self) -> String {
        format!("{}:{}", self.step, self.side.name())
    }

    /// The name of its folder.
    pub fn slug(&self) -> String {
        format!("{}-{:02}-{}", self.verb.name(), self.step, self.side.name())
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} killed {} step {}", self.verb.name(), self.side.name(), self.step)
    }
}

/// Every point of every plan that can be made on this system, which is whole and whose writer is at home.
///
/// Away and back alternate, so that most points begin where the one before has ended. A failback from a whole system is
/// planned as a switchover is.
pub(super) async fn enumerate(system: &System) -> Result<Vec<Point>> {
    let switchover = Verb::Switchover.steps(system).await?.len();
    let failover = Verb::Failover.steps(system).await?.len();
    let degrade = Verb::Degrade.steps(system).await?.len();
    let mut given = Verb::Degrade.arguments(system)?;
    given.push("--yes".to_owned());
    system.must(&given.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let restore = Verb::RestoreDurability.steps(system).await?.len();
    system.must(&[Verb::RestoreDurability.name(), "--yes"]).await?;
    let turns: [(&[Verb], usize); 4] = [
        (&[Verb::Switchover, Verb::Failback], switchover),
        (&[Verb::Failover], failover),
        (&[Verb::Degrade], degrade),
        (&[Verb::RestoreDurability], restore),
    ];
    Ok(turns.into_iter().flat_map(|(verbs, steps)| turn(verbs, steps)).collect())
}

fn turn(verbs: &[Verb], steps: usize) -> Vec<Point> {
    let mut points = Vec::new();
    for step in 1..=steps {
        for side in [Side::Before, Side::After] {
            points.extend(verbs.iter().map(|verb| Point { verb: *verb, step, side }));
        }
    }
    points
}

/// Every so many-th point, beginning at one that a number chooses: other numbers choose other points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    chosen: u64,
    of: u64,
}

impl Share {
    /// Everything.
    pub const ALL: Self = Self { chosen: 0, of: 1 };

    /// The share that any number chooses among `of`, at least one.
    pub fn new(number: u64, of: u64) -> Self {
        Self { chosen: number.checked_rem(of).unwrap_or_default(), of: of.max(1) }
    }

    /// Whether the point at this place belongs to it.
    pub fn holds(self, place: usize) -> bool {
        let place = u64::try_from(place).unwrap_or(u64::MAX);
        place.checked_rem(self.of) == Some(self.chosen)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, of) = text.split_once('/').ok_or("a share is K/N, such as 3/20")?;
        let parse = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
        match parse(of)? {
            0 => Err("there are no 0 shares".to_owned()),
            of => Ok(Self::new(parse(number)?, of)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn the_shares_together_are_every_point_once() {
        let points = turn(&[Verb::Switchover, Verb::Failback], 5);
        assert_eq!(points.iter().collect::<BTreeSet<_>>().len(), 20);
        let shares = (7..10).flat_map(|number| {
            let share = Share::new(number, 3);
            (0..points.len()).filter(move |place| share.holds(*place))
        });
        let mut places: Vec<usize> = shares.collect();
        places.sort_unstable();
        assert_eq!(places, (0..20).collect::<Vec<_>>());
        assert!((0..20).all(|place| Share::ALL.holds(place)));
    }

    #[test]
    fn a_share_is_two_numbers() {
        assert_eq!("23/20".parse(), Ok(Share::new(3, 20)));
        for wrong in ["", "3", "3/0", "a/2", "1/b"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_step_is_named_by_what_it_does_and_where() {
        let promote = json!({"action": {"do": "promote", "node": "ledger-de", "epoch": 2}});
        let close = json!({"action": {"do": "record", "change": {"set": "close-writes"}}});
        assert_eq!(
            (action(&promote).as_str(), action(&close).as_str()),
            ("promote ledger-de", "record close-writes")
        );
    }
}
