//! One leaf of each form, for tests.

use super::{
    ChainClose, ChainCommit, CloseReason, JurisdictionBets, Leaf, Play, RoundBets, RoundCommit,
    RoundSettle, RoundVoid, VoidReason, bets_root,
};
use crate::{
    ids::{ChainId, GameCode, Jurisdiction, RoundId},
    lines::Text,
};

const ID: &str = "0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";

fn jurisdiction(code: &str) -> Jurisdiction {
    Jurisdiction::parse(code).unwrap()
}

fn bets() -> RoundBets {
    let of = |code, commitments: &[[u8; 32]]| JurisdictionBets {
        jurisdiction: jurisdiction(code),
        count: commitments.len() as u64,
        root: bets_root(commitments),
    };
    RoundBets::new(vec![of("MT", &[[1; 32], [2; 32]]), of("DE", &[])]).unwrap()
}

pub(super) fn settle() -> Leaf {
    Leaf::RoundSettle(RoundSettle {
        jurisdiction: jurisdiction("MT"),
        round: RoundId::parse(ID).unwrap(),
        commit_index: 0,
        seed: [0xab; 32],
        outcome: Text::parse("high 15").unwrap(),
        bets: bets(),
    })
}

pub(super) fn play() -> Leaf {
    Leaf::Play(Play {
        jurisdiction: jurisdiction("MT"),
        commit_index: 12,
        position: 3,
        round: RoundId::parse(ID).unwrap(),
        seed: [0xab; 32],
        client_seed: [0xcd; 32],
        outcome: Text::parse("low 3").unwrap(),
        record: [0xef; 32],
    })
}

pub(super) fn all() -> Vec<Leaf> {
    vec![
        Leaf::RoundCommit(RoundCommit {
            jurisdiction: jurisdiction("MT"),
            round: RoundId::parse(ID).unwrap(),
            game: GameCode::parse("hilo-dice").unwrap(),
            params: Text::parse("low_weight=1,high_weight=1").unwrap(),
            commitment: [0xab; 32],
        }),
        settle(),
        Leaf::RoundVoid(RoundVoid {
            jurisdiction: jurisdiction("MT"),
            round: RoundId::parse(ID).unwrap(),
            commit_index: 7,
            seed: [0xab; 32],
            reason: VoidReason::Expired,
            bets: bets(),
        }),
        Leaf::ChainCommit(ChainCommit {
            jurisdiction: jurisdiction("MT"),
            chain: ChainId::parse(ID).unwrap(),
            game: GameCode::parse("wheel").unwrap(),
            params: Text::parse("segments=1").unwrap(),
            length: 512,
            commitment: [0xab; 32],
        }),
        play(),
        Leaf::ChainClose(ChainClose {
            jurisdiction: jurisdiction("MT"),
            commit_index: 12,
            plays: 17,
            seed: [0xab; 32],
            reason: CloseReason::Epoch,
        }),
    ]
}
