//! What a wallet may do wrong.

use std::time::Duration;

/// How one call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Waits before it is processed.
    pub before: Duration,
    /// How often it is booked: once, or never, or twice.
    pub times: Option<u32>,
    /// Whether the network brings it twice.
    pub again: bool,
    /// Waits before it is answered.
    pub after: Duration,
    /// What is answered.
    pub reply: Reply,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// What the store says.
    Own,
    /// The connection breaks.
    Broken,
    /// A server's error.
    Http500,
    /// This code, whatever the store says.
    Code(&'static str),
    /// A document that says nothing of it.
    NoStatus,
}

impl Fault {
    /// A call that goes well.
    pub const NONE: Self = Self {
        before: Duration::ZERO,
        times: Some(1),
        again: false,
        after: Duration::ZERO,
        reply: Reply::Own,
    };

    /// Takes its time, then works.
    pub const fn slow(by: Duration) -> Self {
        Self { before: by, ..Self::NONE }
    }

    /// Is processed at once and answered late.
    pub const fn late(by: Duration) -> Self {
        Self { after: by, ..Self::NONE }
    }

    /// Is lost on the way there.
    pub const fn dropped() -> Self {
        Self { times: None, reply: Reply::Broken, ..Self::NONE }
    }

    /// Is processed, and its answer lost on the way back.
    pub const fn answer_lost() -> Self {
        Self { reply: Reply::Broken, ..Self::NONE }
    }

    /// Fails without effect.
    pub const fn failing() -> Self {
        Self { times: None, reply: Reply::Http500, ..Self::NONE }
    }

    /// Fails after its effect.
    pub const fn failing_after() -> Self {
        Self { reply: Reply::Http500, ..Self::NONE }
    }

    /// Says yes and remembers nothing.
    pub const fn forgotten() -> Self {
        Self { times: Some(0), ..Self::NONE }
    }

    /// Is booked twice.
    pub const fn doubled() -> Self {
        Self { times: Some(2), ..Self::NONE }
    }

    /// Comes twice, and is booked once all the same.
    pub const fn repeated() -> Self {
        Self { again: true, ..Self::NONE }
    }

    /// Says this without doing anything.
    pub const fn says(code: &'static str) -> Self {
        Self { times: None, reply: Reply::Code(code), ..Self::NONE }
    }

    /// Does it and says this: a wallet that changes its mind.
    pub const fn does_and_says(code: &'static str) -> Self {
        Self { reply: Reply::Code(code), ..Self::NONE }
    }
}

/// Faults that a sound ledger survives without drift, drawn by a fixed generator.
#[derive(Debug)]
pub struct Storm {
    state: u64,
    /// How many calls of a hundred go wrong.
    percent: u64,
    /// Longer than the ledger waits.
    too_long: Duration,
}

impl Storm {
    /// A storm.
    pub const fn new(seed: u64, percent: u64, too_long: Duration) -> Self {
        Self { state: seed | 1, percent, too_long }
    }

    /// How the next call goes.
    pub fn strike(&mut self) -> Fault {
        if self.draw() % 100 >= self.percent {
            return Fault::NONE;
        }
        match self.draw() % 9 {
            0 => Fault::slow(self.too_long),
            1 => Fault::late(self.too_long),
            2 => Fault::dropped(),
            3 => Fault::answer_lost(),
            4 => Fault::failing(),
            5 => Fault::failing_after(),
            6 => Fault::does_and_says("RS_ERROR_UNKNOWN"),
            7 => Fault::repeated(),
            _ => Fault::says("RS_ERROR_TIMEOUT"),
        }
    }

    /// xorshift64*.
    const fn draw(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}
