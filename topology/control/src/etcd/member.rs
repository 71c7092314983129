//! One member by itself: who leads as it knows, and handing the lead over. Asked through a client of that member alone.

use super::Etcd;
use super::endpoints::{Attempts, Method, method};
use super::messages::{MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse};
use crate::error::Error;

const STATUS: Method = method("status", "/etcdserverpb.Maintenance/Status");
const MOVE_LEADER: Method = Method {
    attempt_timeout_ms: MOVE_LEADER_TIMEOUT_MS,
    ..method("move-leader", "/etcdserverpb.Maintenance/MoveLeader")
};
/// The longest wait for the other member to lead, milliseconds: it catches up first.
const MOVE_LEADER_TIMEOUT_MS: u64 = 10_000;

/// The number of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u64);

/// What a member says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its own number.
    pub member: MemberId,
    /// Who leads as it knows; `None` while there is an election.
    pub leader: Option<MemberId>,
}

impl Etcd {
    /// What the member says of itself; the client must know this one only.
    pub async fn member_status(&self) -> Result<MemberStatus, Error> {
        let answer: StatusResponse =
            self.0.call(STATUS, StatusRequest {}, Attempts::Repeatable).await?;
        let member = answer.header.map_or(0, |header| header.member_id);
        let leader = (answer.leader != 0).then_some(MemberId(answer.leader));
        Ok(MemberStatus { member: MemberId(member), leader })
    }

    /// The version of a member.
    pub(crate) async fn member_version(&self) -> Result<String, Error> {
        let answer: StatusResponse =
            self.0.call(STATUS, StatusRequest {}, Attempts::Repeatable).await?;
        Ok(answer.version)
    }

    /// Hands the lead over; the client must know the leader only, which refuses when it leads no more.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), Error> {
        let request = MoveLeaderRequest { target: to.0 };
        self.0.call(MOVE_LEADER, request, Attempts::Once).await.map(|_: MoveLeaderResponse| ())
    }
}
