//! The public log: checkpoint, tiles, inclusion and consistency proofs, in the published C2SP forms.

use crate::auditor::Audit;
use crate::problem;
use crate::proofs::Prover;
use crate::routes::{Parameters, stated};
use crate::state::{Log, Reader};
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use domicile_core::base64;
use domicile_core::error::Code;
use domicile_core::ids::Jurisdiction;
use domicile_core::log::Subtree;
use domicile_core::log::tile::{self, TileKind, TilePath};
use domicile_service::peer::{Peer, Role};
use domicile_service::problem::Problem;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Deserialize;
use std::fmt::Write as _;
use std::sync::Arc;

const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// A stored row spans 256 = 2^8 rows of the level below.
const LEVELS_PER_ROW: u32 = 8;
const TEXT: &str = "text/plain; charset=utf-8";

/// A log that policy does not publish does not exist for the outside, that is, for routers. The cluster's own
/// parts see it: a writer's log gate has to ask.
fn visible<'a>(reader: &'a Reader, peer: &Peer, jurisdiction: &str) -> Result<&'a Log, Problem> {
    let jurisdiction = Jurisdiction::parse(jurisdiction).map_err(|_cause| Code::NotFound)?;
    let outside = peer.0.role == Role::Router;
    let log = reader.logs.get(&jurisdiction).filter(|log| log.published || !outside);
    log.ok_or_else(|| Code::NotFound.into())
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Code::MalformedRequest).detail(detail.into())
}

/// Which checkpoint is wanted; the newest verified one without a size.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointQuery {
    size: Option<u64>,
}

/// `GET /log/{jurisdiction}/checkpoint`
pub(crate) async fn checkpoint(
    State(reader): State<Arc<Reader>>,
    peer: Peer,
    Path(jurisdiction): Path<String>,
    Parameters(query): Parameters<CheckpointQuery>,
) -> Result<Response, Problem> {
    let log = visible(&reader, &peer, &jurisdiction)?;
    // An empty log is 404 rather than 503: a holder that holds nothing is an answer, too.
    if matches!(*log.audit.borrow(), Audit::Empty) {
        return Err(Problem::new(Code::NotFound).detail("the log has no checkpoint yet"));
    }
    let head = log.head()?;
    let Some(size) = query.size.filter(|size| *size != head.size) else {
        let fields = [(CACHE_CONTROL, "no-cache"), (CONTENT_TYPE, TEXT)];
        return Ok(stated(
            &reader,
            log.freshness.lag(),
            head.size,
            (fields, head.note.to_string()),
        ));
    };
    let below = size.checked_sub(1).ok_or(Code::NotFound)?;
    let prover = Prover::new(&log.evidence, &head);
    let opened = prover.covering(below).await.map_err(problem::proof)?;
    if opened.checkpoint.size != size {
        return Err(Problem::new(Code::NotFound).detail("no checkpoint of that size was published"));
    }
    let fields = [(CACHE_CONTROL, IMMUTABLE), (CONTENT_TYPE, TEXT)];
    Ok(stated(&reader, log.freshness.lag(), head.size, (fields, opened.note.clone())))
}

/// The two sizes of a consistency proof; `to` is the newest verified size when it is missing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsistencyQuery {
    from: u64,
    to: Option<u64>,
}

/// `GET /log/{jurisdiction}/consistency`: `old <from>`, hashes, a blank line, the checkpoint at `to`.
pub(crate) async fn consistency(
    State(reader): State<Arc<Reader>>,
    peer: Peer,
    Path(jurisdiction): Path<String>,
    Parameters(query): Parameters<ConsistencyQuery>,
) -> Result<Response, Problem> {
    let log = visible(&reader, &peer, &jurisdiction)?;
    let head = log.head()?;
    let to = query.to.unwrap_or(head.size);
    if query.from > to || to > head.size {
        return Err(malformed(format!("from <= to <= {} must hold", head.size)));
    }
    let prover = Prover::new(&log.evidence, &head);
    let note = if to == head.size {
        head.note.to_string()
    } else {
        let below = to.checked_sub(1).ok_or_else(|| malformed("to must be above 0"))?;
        let opened = prover.covering(below).await.map_err(problem::proof)?;
        if opened.checkpoint.size != to {
            return Err(malformed("no checkpoint of the size `to` was published"));
        }
        opened.note.clone()
    };
    let path = prover.consistency(query.from, to).await.map_err(problem::proof)?;
    let mut text = format!("old {}\n", query.from);
    for hash in path {
        // Writing into a String cannot fail.
        let _written = writeln!(text, "{}", base64::encode(&hash));
    }
    text.push('\n');
    text.push_str(&note);
    let fields = [(CACHE_CONTROL, "no-cache"), (CONTENT_TYPE, TEXT)];
    Ok(stated(&reader, log.freshness.lag(), head.size, (fields, text)))
}

/// Which leaf is to be proven.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InclusionQuery {
    index: u64,
}

/// `GET /log/{jurisdiction}/proof`: the `.tlog-proof` of a leaf under the smallest checkpoint that covers it.
pub(crate) async fn proof(
    State(reader): State<Arc<Reader>>,
    peer: Peer,
    Path(jurisdiction): Path<String>,
    Parameters(query): Parameters<InclusionQuery>,
) -> Result<Response, Problem> {
    let log = visible(&reader, &peer, &jurisdiction)?;
    let head = log.head()?;
    let prover = Prover::new(&log.evidence, &head);
    let opened = prover.covering(query.index).await.map_err(problem::proof)?;
    let leaf = log.evidence.leaf(query.index).await.map_err(problem::proof)?;
    let text = prover.inclusion(query.index, &leaf, &opened).await.map_err(problem::proof)?;
    let fields = [(CACHE_CONTROL, IMMUTABLE), (CONTENT_TYPE, TEXT)];
    Ok(stated(&reader, log.freshness.lag(), head.size, (fields, text)))
}

/// `GET /log/{jurisdiction}/tile/…`
pub(crate) async fn tile(
    State(reader): State<Arc<Reader>>,
    peer: Peer,
    Path((jurisdiction, path)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let log = visible(&reader, &peer, &jurisdiction)?;
    let head = log.head()?;
    let tile = TilePath::parse(&format!("tile/{path}"))
        .ok()
        .filter(|tile| tile.is_covered_by(head.size))
        .ok_or(Code::NotFound)?;
    let body = match tile.kind() {
        TileKind::Entries => entries(&reader, log, &tile).await?,
        TileKind::Hashes(level) => hashes(&reader, log, &tile, level).await?,
    };
    let fields = [(CACHE_CONTROL, IMMUTABLE), (CONTENT_TYPE, "application/octet-stream")];
    Ok(stated(&reader, log.freshness.lag(), head.size, (fields, body)))
}

async fn entries(reader: &Reader, log: &Log, tile: &TilePath) -> Result<Bytes, Problem> {
    let to = tile.first().saturating_add(tile.width());
    let leaves = reader
        .store
        .leaves(&log.evidence.log, tile.first(), to)
        .await
        .map_err(problem::database)?;
    let entries: Vec<Vec<u8>> = leaves.into_iter().map(|leaf| leaf.entry).collect();
    complete(entries.len(), tile)?;
    let body = tile::encode_entries(&entries).map_err(|_too_long| Code::Internal)?;
    Ok(body.into())
}

async fn hashes(reader: &Reader, log: &Log, tile: &TilePath, level: u32) -> Result<Bytes, Problem> {
    let wanted: Vec<Subtree> = (tile.first()..tile.first().saturating_add(tile.width()))
        .map(|index| Subtree { level: level.saturating_mul(LEVELS_PER_ROW), index })
        .collect();
    let found =
        reader.store.subtrees(&log.evidence.log, &wanted).await.map_err(problem::database)?;
    let hashes: Vec<_> = wanted.iter().filter_map(|subtree| found.get(subtree).copied()).collect();
    complete(hashes.len(), tile)?;
    Ok(tile::encode_hashes(&hashes).into())
}

fn complete(items: usize, tile: &TilePath) -> Result<(), Problem> {
    if u64::try_from(items) == Ok(tile.width()) {
        Ok(())
    } else {
        Err(Code::ReplicaUnverified.into())
    }
}
