//! The writer's region dies and comes back where every link to Postgres is mutual TLS: the former primary compares itself with
//! the new one, is rewound and streams, all without hands, and takes the writer back.

use crate::path::session;
use domicile_tests::cluster::Cluster;
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::topology::{THREE_REGIONS, document};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// How long the region may take to return, be rewound, and be the promotable second copy again.
const BACK_WITHIN: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_former_primary_is_rewound_and_streams_under_tls() {
    let bin = std::env::var_os("DOMICILE_PG_TLS_BIN");
    let bin = PathBuf::from(bin.expect("DOMICILE_PG_TLS_BIN names a Postgres with TLS"));
    let places = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start_on(&bin, "tls-return", &document("tls-return", places).text);
    let operator = cluster.operator("acme", &["MT", "DE"], "MT").await;
    let (player, open) = session(&cluster, &operator, "DE", "lasting").await;
    player.play(&open, "before", 1).await;
    let data = cluster.state().join("nodes/ledger-mt/agent/data");
    let before = std::fs::metadata(&data).expect("the data folder").ino();

    for unit in ["ledger-mt/agent", "ledger-mt/postgres", "writer-mt/writer"] {
        cluster.kill(unit);
    }
    cluster.cli(&["failover", "--to", "de-1", "--yes"]);
    player.play(&open, "meanwhile", 2).await;
    for unit in ["ledger-mt/agent", "writer-mt/writer"] {
        cluster.start_unit(unit);
    }
    is_promotable(&cluster, "ledger-mt").await;
    assert_eq!(
        std::fs::metadata(&data).expect("the data folder").ino(),
        before,
        "copied, not rewound"
    );
    streams_under_tls(&cluster).await;

    cluster.cli(&["failback", "--yes"]);
    player.play(&open, "after", 3).await;
    is_promotable(&cluster, "ledger-de").await;
}

async fn is_promotable(cluster: &Cluster, node: &str) {
    eventually("the second copy is back", BACK_WITHIN, || async {
        let record = cluster.status()["record"].clone();
        let is_its = record["sync_member"]["node"] == node && record["promotable"] == true;
        if is_its { Ok(()) } else { Err(record.to_string()) }
    })
    .await;
}

/// The returned node's stream, as its new primary sees it.
async fn streams_under_tls(cluster: &Cluster) {
    let primary = database::connect(cluster, "ledger-de").await;
    let sql = "SELECT coalesce(s.version, 'no TLS'), coalesce(s.client_dn, 'no certificate') FROM pg_stat_ssl s \
         JOIN pg_stat_replication r USING (pid) WHERE r.sync_state = 'sync'";
    let row = primary.query_one(sql, &[]).await.expect("the standby's stream");
    let link: (String, String) = (row.get(0), row.get(1));
    assert_eq!(link, ("TLSv1.3".to_owned(), "/CN=agent/OU=ledger-mt".to_owned()));
}
