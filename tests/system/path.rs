//! The main job: rounds written in one region, proven in another, checked by verifiers of our own and of others.

use domicile_core::base64;
use domicile_tests::cluster::Cluster;
use domicile_tests::database;
use domicile_tests::operator::Operator;
use domicile_tests::player::Player;
use domicile_tests::topology::THREE_REGIONS;
use http::StatusCode;
use serde_json::{Value, json};
use signed_note::{Note, StandardVerifier, VerifierList};
use std::collections::BTreeSet;
use std::path::PathBuf;

#[tokio::test(flavor = "multi_thread")]
async fn a_round_written_in_one_region_is_proven_in_another() {
    let cluster = Cluster::start("path", THREE_REGIONS);
    let operator = cluster.operator("acme", &["MT", "DE", "GB"], "MT").await;
    for code in ["MT", "DE", "GB"] {
        plays_are_proven(&cluster, &operator, code).await;
    }
    shared_round_is_proven_in_each_jurisdiction(&cluster, &operator).await;
    foreign_tokens_see_nothing(&cluster, &operator).await;
    replicas_hold_their_own_jurisdiction_only(&cluster).await;
    others_accept_what_the_readers_serve(&cluster).await;
    a_tampered_replica_proves_nothing(&cluster, &operator).await;
}

pub(crate) async fn session(
    cluster: &Cluster,
    operator: &Operator,
    code: &str,
    player: &str,
) -> (Player, Value) {
    let opened = operator.session(player, code, "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router(code), &opened);
    let session = player.session().await;
    (player, session)
}

async fn plays_are_proven(cluster: &Cluster, operator: &Operator, code: &str) {
    let (player, session) = session(cluster, operator, code, &format!("player-{code}")).await;
    for number in 1..=3u64 {
        let answer = player.play(&session, &format!("{code}-{number}"), number).await;
        let round = answer["round"].as_str().expect("a round");
        let proof = player.proof(round).await;
        assert_eq!(proof.status, StatusCode::OK, "{code}: {}", proof.json());
        let bet = answer["bet"].as_str().expect("a bet");
        let opening = player.get(&format!("/v1/bets/{bet}/opening")).await.expect("an answer");
        assert_eq!(opening.status, StatusCode::OK, "{code}: {}", opening.json());
        verified_offline(cluster, &proof.body, Some(&opening.body));
        tampered_bundle_is_refused(cluster, &proof.body);
        let again = player.proof(round).await;
        assert_eq!(again.body, proof.body, "a settled bundle never changes");
    }
    let own = player.get("/v1/bets").await.expect("an answer").json();
    assert_eq!(own["bets"].as_array().map(Vec::len), Some(3), "{own}");
}

fn file(cluster: &Cluster, name: &str, bytes: &[u8]) -> PathBuf {
    let path = cluster.state().join(name);
    std::fs::write(&path, bytes).expect("write a file for the CLI");
    path
}

fn verify(cluster: &Cluster, bundle: &[u8], opening: Option<&[u8]>) -> std::process::Output {
    let bundle = file(cluster, "bundle.json", bundle);
    let topology = cluster.topology_file();
    let mut arguments = vec!["verify", bundle.to_str().expect("text"), "--topology"];
    arguments.push(topology.to_str().expect("text"));
    let opening = opening.map(|bytes| file(cluster, "opening.json", bytes));
    if let Some(path) = &opening {
        arguments.extend(["--opening", path.to_str().expect("text")]);
    }
    cluster.try_cli(&arguments)
}

pub(crate) fn verified_offline(cluster: &Cluster, bundle: &[u8], opening: Option<&[u8]>) {
    let output = verify(cluster, bundle, opening);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Another outcome in the last leaf: the leaf is then no longer the one in the log.
fn tampered_bundle_is_refused(cluster: &Cluster, bundle: &[u8]) {
    let mut bundle: Value = serde_json::from_slice(bundle).expect("JSON");
    let last = bundle["entries"].as_array_mut().and_then(|entries| entries.last_mut());
    let leaf = &mut last.expect("a last leaf")["leaf"];
    let text = leaf.as_str().expect("text");
    let other = if text.contains("outcome high") { ("high", "low") } else { ("low", "high") };
    *leaf =
        json!(text.replacen(&format!("outcome {}", other.0), &format!("outcome {}", other.1), 1));
    let output = verify(cluster, bundle.to_string().as_bytes(), None);
    assert_eq!(output.status.code(), Some(1), "a tampered bundle must fail");
}

/// The round's facts once its commitment is covered by a checkpoint that this player can name.
pub(crate) async fn covered_facts(player: &Player, round: &str) -> Value {
    let within = std::time::Duration::from_secs(20);
    domicile_tests::eventually::eventually("a covered commitment", within, || async {
        let facts = player.get(&format!("/v1/rounds/{round}")).await.expect("an answer").json();
        let covered = facts["commit_index"].as_u64() < facts["checkpoint_size"].as_u64();
        if covered && facts["commit_index"].is_u64() { Ok(facts) } else { Err(facts.to_string()) }
    })
    .await
}

async fn shared_round_is_proven_in_each_jurisdiction(cluster: &Cluster, operator: &Operator) {
    let opened = operator.open_round("hilo-dice", &["MT", "DE"]).await;
    let round = opened["round"].as_str().expect("a round").to_owned();
    let mut players = Vec::new();
    for code in ["MT", "DE"] {
        let (player, session) = session(cluster, operator, code, &format!("shared-{code}")).await;
        let facts = covered_facts(&player, &round).await;
        let mut body = Player::play_body(&session, "low", 2_000_000, 9);
        body["commitment"] = opened["commitment"].clone();
        body["checkpoint_size"] = facts["checkpoint_size"].clone();
        let path = format!("/v1/rounds/{round}/bets");
        let bet = player.post(&path, &format!("shared-{code}"), &body).await.expect("an answer");
        assert_eq!(bet.status, StatusCode::CREATED, "{code}: {}", bet.json());
        players.push((player, bet.json()));
    }
    let early = players.first().expect("a player").0.proof(&round).await;
    if early.status == StatusCode::OK {
        let output = verify(cluster, &early.body, None);
        assert_eq!(output.status.code(), Some(2), "an open round is not revealed yet");
    }
    operator.end_round(&round, "close").await;
    let settled = operator.end_round(&round, "settle").await;
    assert_eq!(settled["state"], "settled", "{settled}");
    for (player, bet) in &players {
        let proof = player.proof(&round).await;
        assert_eq!(proof.status, StatusCode::OK, "{}", proof.json());
        let bet = bet["bet"].as_str().expect("a bet");
        let opening = player.get(&format!("/v1/bets/{bet}/opening")).await.expect("an answer");
        assert_eq!(opening.status, StatusCode::OK, "{}", opening.json());
        verified_offline(cluster, &proof.body, Some(&opening.body));
    }
    let (one, other) = (players.first().expect("one"), players.last().expect("another"));
    let foreign_bet = other.1["bet"].as_str().expect("a bet");
    let refused = one.0.get(&format!("/v1/bets/{foreign_bet}/opening")).await.expect("an answer");
    assert_eq!(refused.status, StatusCode::NOT_FOUND, "another player's bet stays closed");
}

async fn foreign_tokens_see_nothing(cluster: &Cluster, operator: &Operator) {
    let (malta, malta_session) = session(cluster, operator, "MT", "only-mt").await;
    let answer = malta.play(&malta_session, "mt-only", 5).await;
    let round = answer["round"].as_str().expect("a round");
    assert_eq!(malta.proof(round).await.status, StatusCode::OK);
    let (german, _) = session(cluster, operator, "DE", "only-de").await;
    let through_router = german.proof(round).await;
    assert_eq!(through_router.status, StatusCode::NOT_FOUND, "{}", through_router.json());
    let at_the_reader = Player {
        client: cluster.inside(),
        base: cluster.reader("MT"),
        token: german.token.clone(),
    };
    let refused = at_the_reader.get(&format!("/v1/rounds/{round}/proof")).await.expect("an answer");
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.json());
    assert_eq!(refused.code(), "jurisdiction-forbidden");
    let elsewhere = Player { base: cluster.router("DE"), ..malta.clone() };
    let misdirected = elsewhere.get("/v1/bets").await.expect("an answer");
    assert_eq!(misdirected.status, StatusCode::MISDIRECTED_REQUEST, "{}", misdirected.json());
    let permitted = misdirected.json()["permitted"].to_string();
    assert!(permitted.contains(cluster.router("MT").trim_end_matches('/')), "{permitted}");
}

async fn replicas_hold_their_own_jurisdiction_only(cluster: &Cluster) {
    for code in ["MT", "DE", "GB"] {
        let node = format!("reader-{}", code.to_lowercase());
        let client = database::connect(cluster, &node).await;
        let present = database::jurisdictions_present(&client).await;
        assert_eq!(present, BTreeSet::from([code.to_owned()]), "{node}");
    }
    foreign_rows_are_not_even_sent(cluster).await;
}

/// The stream itself: a second slot on MT's publications carries no byte of another jurisdiction's rows.
async fn foreign_rows_are_not_even_sent(cluster: &Cluster) {
    let ledger = database::connect(cluster, "ledger-mt").await;
    let make = "SELECT pg_create_logical_replication_slot('peek_mt', 'pgoutput')";
    ledger.query(make, &[]).await.expect("a slot to look at the stream");
    let operator = cluster.operator("peek", &["MT", "DE"], "MT").await;
    for code in ["MT", "DE"] {
        let (player, open) = session(cluster, &operator, code, &format!("peek-{code}")).await;
        player.play(&open, &format!("peek-{code}"), 1).await;
    }
    let changes = ledger
        .query(
            "SELECT data FROM pg_logical_slot_peek_binary_changes('peek_mt', NULL, NULL, \
             'proto_version', '4', 'publication_names', 'pub_mt_log,pub_mt_ledger')",
            &[],
        )
        .await
        .expect("the stream");
    let stream: Vec<u8> = changes.iter().flat_map(|row| row.get::<_, Vec<u8>>(0)).collect();
    ledger.query("SELECT pg_drop_replication_slot('peek_mt')", &[]).await.expect("drop the slot");
    let holds = |text: &str| {
        // Text columns travel as they are, bytea in hexadecimal.
        let hexadecimal = domicile_core::hex::encode(text.as_bytes());
        [text.as_bytes(), hexadecimal.as_bytes()]
            .iter()
            .any(|wanted| stream.windows(wanted.len()).any(|window| window == *wanted))
    };
    assert!(holds("peek-MT"), "the stream carries MT's own rows, so the look is not in vain");
    assert!(!holds("peek-DE"), "a DE player is in MT's stream");
    assert!(!holds("jurisdiction DE"), "a DE leaf is in MT's stream");
}

/// Checkpoint, inclusion and consistency as judged by the Cloudflare crates, which we did not write.
async fn others_accept_what_the_readers_serve(cluster: &Cluster) {
    let client = cluster.outside();
    let base = format!("{}/log/MT", cluster.router("MT").trim_end_matches('/'));
    let fetch = |path: String| {
        let (client, base) = (client.clone(), base.clone());
        async move {
            let request = http::Request::get(format!("{base}{path}")).body(bytes::Bytes::new());
            let response = client.send(request.expect("a request")).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            response.into_body()
        }
    };
    let note = fetch("/checkpoint".to_owned()).await;
    let key = cluster.topology().log_keys.iter().find(|key| key.jurisdiction.as_str() == "MT");
    let verifier = StandardVerifier::new(&key.expect("MT's log key").vkey).expect("a verifier key");
    let opened = Note::from_bytes(&note).expect("a note");
    opened
        .verify(&VerifierList::new(vec![Box::new(verifier)]))
        .expect("their signature check passes");
    let text = String::from_utf8(opened.text().to_vec()).expect("text");
    let mut lines = text.lines();
    assert!(lines.next().is_some_and(|origin| origin.ends_with("/MT/1")), "{text}");
    let size: u64 = lines.next().expect("a size").parse().expect("a number");
    let root = hash(lines.next().expect("a root"));
    let tile = fetch(format!("/tile/0/000.p/{size}")).await;
    assert_eq!(tile.len() as u64, size * 32);
    let entries = fetch(format!("/tile/entries/000.p/{size}")).await;
    let leaves = entry_bundle(&entries);
    assert_eq!(leaves.len() as u64, size);
    for (leaf, hashed) in leaves.iter().zip(tile.chunks(32)) {
        assert_eq!(tlog_tiles::record_hash(leaf).0.as_slice(), hashed);
    }
    for index in [0, size / 2, size - 1] {
        let proof =
            String::from_utf8(fetch(format!("/proof?index={index}")).await.to_vec()).expect("text");
        inclusion_holds(&proof, index, &leaves);
    }
    let consistency = fetch(format!("/consistency?from=1&to={size}")).await;
    let consistency = String::from_utf8(consistency.to_vec()).expect("text");
    let path: Vec<_> =
        consistency.lines().skip(1).take_while(|line| !line.is_empty()).map(hash).collect();
    let first = tlog_tiles::record_hash(leaves.first().expect("a leaf"));
    tlog_tiles::check_tree(&path, size, root, 1, first).expect("their consistency check passes");
}

fn hash(line: &str) -> tlog_tiles::Hash {
    let bytes = base64::decode_32(line).expect("a base64 hash");
    tlog_tiles::Hash(bytes)
}

fn entry_bundle(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        entries.push(entry.to_vec());
        bytes = rest;
    }
    entries
}

fn inclusion_holds(proof: &str, index: u64, leaves: &[Vec<u8>]) {
    let (head, note) = proof.split_once("\n\n").expect("a blank line before the checkpoint");
    let path: Vec<_> = head
        .lines()
        .filter(|line| !line.starts_with("c2sp.org/") && !line.starts_with("index "))
        .map(hash)
        .collect();
    let mut lines = note.lines().skip(1);
    let size: u64 = lines.next().expect("a size").parse().expect("a number");
    let root = hash(lines.next().expect("a root"));
    let leaf = leaves.get(usize::try_from(index).expect("small")).expect("the leaf");
    tlog_tiles::check_record(&path, size, root, index, tlog_tiles::record_hash(leaf))
        .expect("their inclusion check passes");
}

/// Somebody with access to the replica changes an outcome: the reader notices before it serves it.
async fn a_tampered_replica_proves_nothing(cluster: &Cluster, operator: &Operator) {
    let (player, open) = session(cluster, operator, "GB", "tampered").await;
    let answer = player.play(&open, "tampered", 1).await;
    let round = answer["round"].as_str().expect("a round");
    let replica = database::connect(cluster, "reader-gb").await;
    let change = "UPDATE log.leaf l SET entry = convert_to(replace(convert_from(entry, 'UTF8'), \
         'position 0', 'position 1'), 'UTF8') FROM log.subject s WHERE s.subject::text = $1 \
         AND s.kind = 'play' AND l.jurisdiction = s.jurisdiction AND l.idx = s.idx";
    let within = std::time::Duration::from_secs(10);
    domicile_tests::eventually::eventually("the leaf arrives at the replica", within, || async {
        match replica.execute(change, &[&round]).await {
            Ok(1) => Ok(()),
            Ok(rows) => Err(format!("{rows} rows")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    // The request may find it, or the auditor before it: then the router knows that the reader is not ready.
    let refused = player.proof(round).await;
    let code = refused.code();
    assert!(["replica-unverified", "no-permitted-reader"].contains(&&*code), "{}", refused.json());
}
